"""What the environment tells a process: its place among the processes of a run."""

import os


def is_main_process() -> bool:
    """Whether this is the first process of a run; torchrun and accelerate number them alike."""
    return int(os.environ.get("RANK", "0")) == 0
