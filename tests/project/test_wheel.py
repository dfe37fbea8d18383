"""An installed wheel is whole: it has all files of the package, and runs outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from scripts import REPOSITORY

from acoustic_kd.version import __version__

NEEDED = ("pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("setuptools", "77", reason="pyproject.toml needs setuptools 77 to build")
    folder = tmp_path_factory.mktemp("wheel")
    unbuilt = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "acoustic_kd", folder / "source/acoustic_kd", ignore=unbuilt)
    for name in NEEDED:
        shutil.copy(REPOSITORY / name, folder / "source")
    run(folder / "source", sys.executable, "-c", BUILD, folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheel) -> Path:
    """acoustic-kd in an environment that has the wheel, and what it needs from this one."""
    environment = wheel.parent / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(wheel.parent, *pip, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    (installed,) = environment.glob("lib/python*/site-packages")
    others = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (installed / "others.pth").write_text("".join(f"{path}\n" for path in others))
    found = run(wheel.parent, python, "-c", "import acoustic_kd; print(acoustic_kd.__file__)")
    assert Path(found.stdout.strip()).is_relative_to(installed)
    return environment / "bin" / "acoustic-kd"


def run(cwd: Path, *command: str | Path, status: int = 0):
    unset = ("PYTHONPATH", "ACOUSTIC_KD_DATA")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_it_has_every_file_of_the_package(wheel):
    here = REPOSITORY / "acoustic_kd"
    expected = {str(path.relative_to(REPOSITORY)) for path in here.rglob("*") if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    assert {"acoustic_kd/py.typed", "acoustic_kd/conf/an4.yaml"} < expected
    found = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("acoustic_kd/")}
    assert found == expected


@pytest.mark.slow
def test_it_runs_outside_the_checkout(program, tmp_path):
    assert run(tmp_path, program, "--version").stdout == f"acoustic-kd {__version__}\n"
    done = run(tmp_path, program, "corpus", "--config", "an4", status=2)
    assert done.stderr.startswith("acoustic-kd corpus: error: corpus 'an4' is read from a folder")
    done = run(tmp_path, program, "corpus", "--config", "an5", status=2)
    assert "an5: there is no such file; the package has settings for an4, " in done.stderr
    mnist = ("mnist", "--data-dir", tmp_path, "--config", "mnist")  # is read before the data
    done = run(tmp_path, program, *mnist, status=2)
    assert f"{tmp_path}: train-images-idx3-ubyte.gz is missing" in done.stderr
    assert list(tmp_path.iterdir()) == []
