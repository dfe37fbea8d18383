"""The command line: parses it, runs a command, turns errors into one line and an exit status."""

import argparse
import importlib
import io
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from acoustic_kd.system.environment import is_main_process
from acoustic_kd.system.errors import USAGE_ERROR, UserError, installation, print_error
from acoustic_kd.system.launched import end_with_launcher
from acoustic_kd.system.signals import Stopped, raise_on_first_ctrl_c, raise_on_sigterm
from acoustic_kd.version import __version__

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended, in shells
STOPPED = 143  # the exit status after SIGTERM

# Every verb with one line of help: the stages of the recipe in order, then the others. Each is a
# module of `verbs/`; only the module of the given verb is imported.
STAGE_VERBS = {
    "corpus": "read audio and transcripts",
    "features": "compute log-mel filterbanks",
    "align": "align frames to HMM states",
    "senones": "grow the phonetic decision tree",
    "frames": "store frames with their senones",
    "copies": "make copies at other warps and tempos",
    "train": "train the members of the ensemble",
    "soft-targets": "store the tempered predictions of the ensemble",
    "distill": "train the distilled models and their control",
    "graph": "build language model and decoding graph",
    "decode": "measure frame accuracy and WER",
    "report": "write the tables and report.html",
}
VERBS = {name: f"stage {n}: {text}" for n, (name, text) in enumerate(STAGE_VERBS.items())} | {
    "run": "run all stages of the recipe, or some of them (recipes/run.sh)",
    "settings": "list every setting with its default, range and meaning",
    "mnist": "run the paper's experiment on MNIST (recipes/mnist.sh)",
    "compare": "compare finished experiments on one HTML page",
    "folds": "pool the results of several folds, for cross-validation over speakers",
    "inspect": "show what an experiment or a store contains, and whether it is damaged",
    "transcribe": "transcribe recordings with a finished experiment or a bundle",
    "bundle": "pack the recogniser of a finished experiment into one directory",
    "serve": "serve a page to try bundles in a browser",
    "posteriors": "write the posteriors of a split as an archive for Kaldi",
}

DESCRIPTION = (
    "Distil an ensemble of deep acoustic models into one model that keeps most of its accuracy."
)


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return the exit status.

    It is 0, 2 for an error that the user can fix, 130 for Ctrl-C, or 143 for SIGTERM.
    """
    end_with_launcher()
    arguments = sys.argv[1:] if arguments is None else arguments

    def run() -> int | None:
        options = parse(arguments)
        return options.run(options)

    return exit_status(" ".join(["acoustic-kd", *_verb(arguments)]), run)


def exit_status(program: str, action: Callable[[], int | None]) -> int:
    """Run an action and return its exit status; print an error as one line.

    Args:
        program: the beginning of the line.
        action: returns its own exit status, None for 0.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on standard error: the name of a file may have bytes that are no characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    main_process = True
    try:
        with raise_on_first_ctrl_c(), raise_on_sigterm():
            main_process = is_main_process()
            return action() or 0
    except UserError as error:
        if not main_process:
            # Usually all processes have the same error and the first one prints it; meanwhile the
            # launcher ends the others. An error of one process alone is printed after the wait.
            time.sleep(10)
        print_error(program, error)
        return USAGE_ERROR
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) in ("", "acoustic_kd"):
            raise
        print_error(program, f"package '{package}' is missing: {installation('train')}")
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except Stopped:
        if main_process:
            print(f"{program}: stopped; run the same command again to resume", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader of the output has ended, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        print_error(program, f"{where}{error.strerror or ' '.join(str(error).split())}")
        return USAGE_ERROR
    except (MemoryError, RuntimeError) as error:
        reason = _memory_reason(error)
        if reason is None:
            raise
        print_error(program, f"{reason}; give smaller settings, or end other programs")
        return USAGE_ERROR


def _memory_reason(error: Exception) -> str | None:
    """What an error says if memory is the reason; None for any other error."""
    reason, *_ = str(error).splitlines() or [""]
    if isinstance(error, MemoryError):  # NumPy says of what size
        return f"not enough memory ({reason})" if reason else "not enough memory"
    # PyTorch's allocators: on the CPU RuntimeError, on a GPU a class of its own that derives of it.
    found = re.search("(can't allocate memory|CUDA out of memory).*", reason)
    return None if found is None else f"not enough memory ({found[0]})"


class Parser(argparse.ArgumentParser):
    """Prints an error in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        print_error(self.prog, f"{message} (see {self.prog} --help)")
        self.exit(USAGE_ERROR)


def _verb(arguments: Sequence[str]) -> list[str]:
    """The verb of a command line, if one is given."""
    return [word for word in arguments if not word.startswith("-")][:1]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; `run` is the function of its verb."""
    parser = _make_parser(arguments)
    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "overrides"):  # argparse accepts settings on one side of an option only
        options.overrides += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line; of the verbs, the one that is given has its options."""
    parser = Parser(
        prog="acoustic-kd",
        description=DESCRIPTION,
        epilog="`acoustic-kd COMMAND --help` explains the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text)
        if [name] != _verb(arguments):
            continue
        if name in STAGE_VERBS:
            _add_stage(verb, name)
        else:
            module = importlib.import_module(f"acoustic_kd.verbs.{name.replace('-', '_')}")
            module.add_options(verb)
            verb.set_defaults(run=module.run)
    return parser


def _add_stage(verb: argparse.ArgumentParser, name: str) -> None:
    """The options of a stage; its module is imported once the stage is known to be out of date."""
    from acoustic_kd.experiment import options as of_experiment
    from acoustic_kd.experiment.stages import STAGES, explain_stage, run_stage

    number = list(STAGE_VERBS).index(name)
    description = f"Stage {number} of the recipe: {STAGE_VERBS[name]}."
    of_experiment.add_stage_options(verb, STAGES[name], description)

    def run(options: argparse.Namespace) -> None:
        do = explain_stage if options.dry_run else run_stage
        do(of_experiment.experiment_of(options), options.verb)

    verb.set_defaults(run=run)
