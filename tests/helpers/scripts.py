"""The recipes' shell scripts in a checkout of their own: they install nothing there."""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# The program itself; the checkout may be in a folder with spaces.
HERE = f'PYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m acoustic_kd "$@"'
SAYS = 'printf "<%s>" "$@"'  # in its place, what says how it was called


def checkout(folder: Path, program: str, setup: str = "") -> Path:
    """A checkout with the recipes alone, as `folder`; `program` and `setup` are shell commands."""
    shutil.copytree(REPOSITORY / "recipes", folder / "recipes")
    for name, command in (("tools/setup.sh", setup), (".venv/bin/acoustic-kd", program)):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
    return folder


def run_script(name: str, *arguments: str, checkout: Path = REPOSITORY, cwd: Path):
    """Run a script of `recipes` where `cwd` is the working directory."""
    command = ["bash", checkout / "recipes" / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
