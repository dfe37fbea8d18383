"""The error that a user sees as one line, and how lines are printed.

Whatever reads a file or a setting of the user may raise `UserError`; docstrings name only the
errors that callers handle.
"""

import sys
import unicodedata

from acoustic_kd.system.characters import JOINERS

USAGE_ERROR = 2  # exit status of an error that the user can fix
MAX_LINE = 500  # characters of an error
LINE_END = 200  # of these, kept from the end: what to do stands there


def installation(extra: str) -> str:
    """The command that installs an extra of the package, for messages."""
    return f"in a checkout run tools/setup.sh, elsewhere pip install '/path/to/checkout[{extra}]'"


class UserError(Exception):
    """An error that the user can fix: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, or its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Text as one line of a terminal: characters that are not printable become escapes."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


def warn(text: str) -> None:
    """Print a warning as one line on standard error."""
    print(printable(f"acoustic-kd: warning: {text}"), file=sys.stderr, flush=True)


def print_error(program: str, text: object) -> None:
    """Print an error as one line of at most `MAX_LINE` characters on standard error."""
    line = printable(f"{program}: error: {text}")
    if len(line) > MAX_LINE:
        line = f"{line[: MAX_LINE - LINE_END - 1]}…{line[-LINE_END:]}"
    print(line, file=sys.stderr)
