"""Files appear whole or not at all; digests say what made them."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acoustic_kd.system import files as files
from acoustic_kd.system.errors import UserError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)

KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from acoustic_kd.system.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half a fi")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_atomic_path_replaces_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename works inside one file system only
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    root = str(Path(files.__file__).parents[2])
    command = [sys.executable, "-c", KILLED_HALF_WAY, str(path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_several_that_came_in_together_keep_out_those_that_want_to_be_alone(tmp_path):
    directory, gate, alone = tmp_path / "exp", tmp_path / "exp" / "stage", []

    def coming_in():
        return files.shared_lock(directory, gate, alone.append)

    with coming_in():
        with coming_in(), coming_in():
            assert alone == [True, False, False]
        occupied = pytest.raises(UserError, match="another run works here")
        with occupied, files.exclusive_lock(directory):
            pass
        with coming_in():
            pass
    occupied = pytest.raises(UserError, match="another run works here")
    with files.exclusive_lock(directory), occupied, coming_in():
        pass
    assert alone == [True, False, False, False]
    with coming_in():
        assert alone[-1] is True


def test_nobody_comes_in_while_one_prepares_alone(tmp_path):
    """Nor gets a refusal: who comes meanwhile waits at the gate."""
    order = []

    def prepare(alone):
        order.append(f"first, {alone}")
        second.start()
        second.join(0.2)
        assert second.is_alive()

    gate = tmp_path / "gate"

    def come_second():
        with files.shared_lock(tmp_path, gate, lambda alone: order.append(f"then, {alone}")):
            pass

    second = threading.Thread(target=come_second)
    with files.shared_lock(tmp_path, gate, prepare):
        second.join(10)
    assert order == ["first, True", "then, False"]


def test_sha256_of_a_file(tmp_path):
    content = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@given(JSON)
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


@given(st.lists(JSON, max_size=4))
@example(["\x85\u2028"])
def test_jsonl_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    files.write_jsonl(path, rows)
    assert files.read_jsonl(path) == rows


@pytest.mark.parametrize("read", [files.read_json, files.read_jsonl])
def test_missing_file_is_named(tmp_path, read):
    with pytest.raises(UserError, match=r"a\.json: cannot be read"):
        read(tmp_path / "a.json")


def test_malformed_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n{"b": ')
    with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
        files.read_json(path)
    with pytest.raises(UserError, match=r"a\.json:2: not valid JSON"):
        files.read_jsonl(path)


@pytest.mark.parametrize(
    "read",
    [
        files.read_json,
        files.read_jsonl,
    ],
)
def test_binary_instead_of_json_is_named(tmp_path, read):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a\.json"):
        read(path)


def test_digest_depends_on_content_alone():
    assert files.json_sha256({"a": 1, "b": [1, 2]}) == files.json_sha256({"b": [1, 2], "a": 1})
    assert files.json_sha256({"a": 1}) != files.json_sha256({"a": 1.5})
    assert files.json_sha256([1, 2]) != files.json_sha256([2, 1])
    assert len(files.json_sha256(None)) == 64


def test_one_run_at_a_time_works_in_a_folder(tmp_path):
    folder = tmp_path / "exp"
    with files.exclusive_lock(folder):
        with (
            pytest.raises(UserError, match="another run works here"),
            files.exclusive_lock(folder),
        ):
            pass
        with files.exclusive_lock(tmp_path / "other"):
            pass
    with files.exclusive_lock(folder):
        pass


def test_in_turn_waits_for_the_one_before(tmp_path, capsys):
    folder, order = tmp_path / "new", []

    def second():
        with files.wait_for_lock(folder):
            order.append("second")

    with files.wait_for_lock(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert capsys.readouterr().out == f"  waiting for another run to finish with {folder}\n"
