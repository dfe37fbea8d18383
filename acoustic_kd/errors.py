"""The one error a user is meant to see."""

USAGE_ERROR = 2  # the exit status of what the user can mend


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
