"""The error that a user sees as one line.

Whatever reads a file or a setting of the user may raise `UserError`; docstrings name only the
errors that callers handle.
"""

USAGE_ERROR = 2  # exit status of an error that the user can fix


def installation(extra: str) -> str:
    """The command that installs an extra of the package, for messages."""
    return f"in a checkout run tools/setup.sh, elsewhere pip install '/path/to/checkout[{extra}]'"


class UserError(Exception):
    """An error that the user can fix: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
