"""torchaudio's functions work where its compiled library does not load."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torchaudio

INSTALLED = Path(torchaudio.__file__).parent
USE_ALL = """
import numpy as np, torch
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.features.fbank import log_mel
from acoustic_kd.system.torchaudio_functions import resample
from acoustic_kd.alignment.tree import cepstra
noise = np.random.default_rng(0).normal(size=(16000, 1)).astype(np.float32)
wave = torch.from_numpy(noise[:, 0])
print(cepstra(log_mel(noise[:, 0], FeatureConfig())).sum())
print(resample(wave, 16000, 8000).sum().item())
"""


@pytest.fixture
def torchaudio_copy(tmp_path) -> Path:
    """A copy of torchaudio, which Python finds first."""
    copied = tmp_path / "packages" / "torchaudio"
    shutil.copytree(INSTALLED, copied, ignore=shutil.ignore_patterns("__pycache__"))
    return copied


def use_all(packages: Path) -> subprocess.CompletedProcess:
    paths = [str(packages), str(Path(__file__).parents[2])]
    return subprocess.run(
        [sys.executable, "-c", USE_ALL],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def undamaged() -> str:
    """What the functions print where the library loads."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(USE_ALL, {})  # noqa: S102
    return output.getvalue()


@pytest.mark.parametrize("library", ["_torchaudio.so", "libtorchaudio.so"])
def test_a_damaged_library_is_one_warning(torchaudio_copy, undamaged, library):
    if not (torchaudio_copy / "lib" / library).exists():
        pytest.skip(f"this torchaudio has no {library}")
    (torchaudio_copy / "lib" / library).write_bytes(b"damaged")
    done = use_all(torchaudio_copy.parent)
    assert (done.returncode, done.stdout) == (0, undamaged), done.stderr
    assert done.stderr.startswith("acoustic-kd: warning: torchaudio's compiled library ")
    assert library in done.stderr and done.stderr.count("\n") == 1


def test_another_cuda_version_is_one_warning(torchaudio_copy, undamaged):
    (torchaudio_copy / "_extension" / "__init__.py").write_text(
        'raise RuntimeError("compiled with different\\nCUDA major versions")\n'
    )
    done = use_all(torchaudio_copy.parent)
    assert (done.returncode, done.stdout) == (0, undamaged), done.stderr
    assert "different CUDA major versions" in done.stderr and done.stderr.count("\n") == 1


def test_a_missing_torchaudio_is_an_error(torchaudio_copy):
    shutil.rmtree(torchaudio_copy)
    (torchaudio_copy.parent / "torchaudio.py").write_text('raise ModuleNotFoundError("torchaudio")')
    done = use_all(torchaudio_copy.parent)
    assert done.returncode == 1 and "ModuleNotFoundError: torchaudio" in done.stderr
