"""The one error a user is meant to see."""

USAGE_ERROR = 2  # the exit status of what the user can mend


def installation(extra: str) -> str:
    """How an extra of the package is installed, for messages; no package index has the package."""
    return f"in a checkout run tools/setup.sh, elsewhere pip install '/path/to/checkout[{extra}]'"


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
