"""`python -m acoustic_kd.launch N COMMAND …`: one command on N processes of this machine.

This is `torchrun --standalone`, which starts N processes on CPUs, too, unlike `accelerate launch`.
A process that fails prints its own one line, without the launcher's traceback.
"""

import logging
import os
import sys
from typing import Any

from acoustic_kd.system.environment import MAX_PROCESSES, is_process_count, prepare_for_torchrun
from acoustic_kd.system.errors import USAGE_ERROR
from acoustic_kd.system.launched import child_environment, end_with_launcher
from acoustic_kd.system.parallel import cores

SIGNALLED = 128  # a program that signal n ended has status 128 + n in shells


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status of the first process that failed, or 0; 128 + n at signal n."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) < 2 or not is_process_count(arguments[0]):
        print(
            f"usage: python -m acoustic_kd.launch N COMMAND … (N from 1 to {MAX_PROCESSES})",
            file=sys.stderr,
        )
        return USAGE_ERROR
    count, *verb = arguments
    end_with_launcher()  # `acoustic-kd run`
    os.environ |= child_environment()
    prepare_for_torchrun(threads=max(1, cores() // int(count)))
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    options = ["--standalone", "--nproc-per-node", count, "-m", "acoustic_kd"]
    try:
        run.main([*options, *verb, "--num-processes", count])
    except ChildFailedError as error:
        return _status(error.get_first_failure()[1], int(count))
    except SignalException as error:  # the processes got it, too, and have ended
        return SIGNALLED + error.sigval
    return 0


def _status(failure: Any, count: int) -> int:
    """The exit status of the first process that failed; print a line if a signal killed it."""
    if failure.exitcode >= 0:
        return failure.exitcode
    print(
        f"acoustic-kd: error: process {failure.local_rank + 1} of {count} was killed by signal "
        f"{-failure.exitcode}, and the others were ended; run the same command again to resume",
        file=sys.stderr,
    )
    return SIGNALLED - failure.exitcode


if __name__ == "__main__":
    sys.exit(main())
