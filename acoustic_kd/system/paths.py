"""Paths that users give, in settings and on the command line."""

import argparse
from pathlib import Path

from acoustic_kd.system.errors import printable


def problem_of(path: str) -> str | None:
    """Why a path is not taken, completing "it …"; None if it is."""
    if not path:
        return "is empty; give a path"
    if path == "~" or path.startswith("~/"):
        return "begins with ~, which the shell did not replace; write the whole path"
    if not path.isprintable() and printable(path) != path:
        return "has bytes that are no UTF-8 or characters that cannot be printed; rename it"
    return None


def path_argument(text: str) -> Path:
    """The type of a path on the command line, for `argparse`."""
    return Path(place_argument(text))


def place_argument(text: str) -> str:
    """The type of a path or of the address of a remote folder, for `argparse`."""
    if problem := problem_of(text):
        raise argparse.ArgumentTypeError(f"'{printable(text)}' {problem}")
    return text
