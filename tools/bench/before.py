#!/usr/bin/env python3
"""A benchmark of an earlier commit, run with that commit's code: what a figure was before.

The commit's own script and package, taken from the repository's history, run with the packages that
are installed now; the table that it prints is passed on. Other options are the script's. A clone
without history (`git clone --depth`) has no earlier commits.

usage: tools/bench/before.py COMMIT SCRIPT.py [--code COMMIT] [--json FILE] […]
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tables import Table

ROOT = Path(__file__).parents[2]


def unpack(commit: str, name: str, folder: Path) -> Path:
    """A part of the tree of a commit, under `folder`."""
    packed = subprocess.run(  # noqa: S603
        ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "--", name],  # noqa: S607
        check=False,
        stdout=subprocess.PIPE,
    )
    if packed.returncode:
        sys.exit(2)  # git has said why
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def tables_in(text: str) -> list[str]:
    """The rows of the Markdown tables in a text."""
    return [line for line in text.splitlines() if line.startswith("|")]


def main() -> int:
    """Run it, and show its table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("commit")
    parser.add_argument("script")
    parser.add_argument("--code", help="the commit whose package is measured (default: COMMIT)")
    parser.add_argument("--json", type=Path)
    options, own = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scripts = unpack(options.commit, "tools/bench", folder)
        unpack(options.code or options.commit, "acoustic_kd", folder)
        found = subprocess.run(  # noqa: S603
            [sys.executable, str(scripts / options.script), *own],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(folder)},
        )
    sys.stdout.write(found.stdout)
    if found.returncode == 0:
        with Table({}, options.json) as table:
            table.lines = tables_in(found.stdout)
    return found.returncode


if __name__ == "__main__":
    sys.exit(main())
