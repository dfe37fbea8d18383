"""Several processes: the launcher's exit status and what it prints."""

import subprocess
import sys

import pytest
from waiting import PATIENCE

from acoustic_kd import launch as launch


def test_wrong_usage(capsys):
    assert launch.main(["0", "train"]) == launch.main(["x", "train"]) == launch.main(["2"]) == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.slow
def test_a_failing_verb_says_so_once_without_a_traceback(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "acoustic_kd.launch", "2", "train", "--exp-dir", str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert found.returncode == 2
    errors = [line for line in found.stderr.splitlines() if line.strip()]
    assert len(errors) == 1 and "'frames' is not done yet; run stage 4" in errors[0]
    assert list(tmp_path.iterdir()) == []
