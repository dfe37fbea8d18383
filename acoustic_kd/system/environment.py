"""Environment variables that launchers set."""

import os


def is_main_process() -> bool:
    """Whether this is the first process of a run of torchrun or accelerate, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
