"""recipes/*.sh: they set up the checkout, then run a verb with the same arguments."""

import shutil
import subprocess
from pathlib import Path

import pytest
from scripts import REPOSITORY

SCRIPTS = ["run", "mnist"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose set-up and program print their arguments."""
    folder = tmp_path / "the repository"
    shutil.copytree(REPOSITORY / "recipes", folder / "recipes", symlinks=True)
    make_program(folder / "tools/setup.sh", 'printf "set up%s\\n" "$*"')
    make_program(folder / ".venv/bin/acoustic-kd", 'printf "<%s>" "$@"')
    return folder


def make_program(path: Path, command: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def run(checkout, script, *arguments):
    command = ["bash", checkout / "recipes" / f"{script}.sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout.parent, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_arguments_are_passed_on_unchanged(checkout, script):
    arguments = ["--exp-dir", "a b", "--config", "../c.yaml", "lm.text=x y"]
    expected = "".join(f"<{word}>" for word in [script, *arguments])
    assert run(checkout, script, *arguments) == f"set up\n{expected}"


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("option", ["--help", "-h", "--dry-run"])
def test_help_and_dry_run_install_nothing(checkout, script, option):
    make_program(checkout / "tools/setup.sh", '[ "$1" = --dry-run ] && exit 1; echo installed')
    printed = run(checkout, script, option)
    assert f"recipes/{script}.sh" in printed and "installed" not in printed
    assert "set -euo" not in printed and "#" not in printed


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_that_of_the_verb_once_it_is_installed(checkout, script):
    assert run(checkout, script, "--help").endswith(f"<{script}><--help>")
