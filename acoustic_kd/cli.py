"""`acoustic-kd VERB`: one verb a stage of the recipe; the others are in `verbs.py`."""

import argparse
import dataclasses
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from acoustic_kd import __version__
from acoustic_kd.config import PATHS, Config
from acoustic_kd.errors import USAGE_ERROR, UserError
from acoustic_kd.settings import load_config, settings_file, shown
from acoustic_kd.stages import STAGES, is_main_process, run_stage, say_stage
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stopping import Stopped, heeded
from acoustic_kd.verbs import add_verbs

INTERRUPTED = 130  # as shells report a program ended by Ctrl-C
STOPPED = 143  # likewise, by SIGTERM

DESCRIPTION = "Distil an ensemble of deep acoustic models into one model as good as the ensemble."


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 2 for what the user can mend, 130 for Ctrl-C, 143
    for SIGTERM.
    """
    options = _parser().parse_args(arguments)
    return exit_status(f"acoustic-kd {options.verb}", lambda: options.handler(options))


def exit_status(program: str, action: Callable[[], int | None]) -> int:
    """The exit status of an action, in which what goes wrong is said in one line.

    Args:
        program: what the line begins with.
        action: gives its own exit status, None for 0.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error: the name of a file may have bytes that stand for no character.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with heeded():
            return action() or 0
    except UserError as error:
        if not is_main_process():
            # Mostly all processes find the same and the first says so: the launcher ends the others
            # meanwhile, on a busy machine after seconds. What only one found is said by that one.
            time.sleep(10)
        print(f"{program}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{program}: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except Stopped:
        if is_main_process():
            print(f"{program}: stopped; the same command goes on", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or " ".join(str(error).split())
        print(f"{program}: error: {where}{reason}", file=sys.stderr)
        return USAGE_ERROR


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="acoustic-kd",
        description=DESCRIPTION,
        epilog="The verbs are the stages of the recipe, in order; `recipes/run.sh` runs them all.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for number, stage in enumerate(STAGES.values()):
        verb = verbs.add_parser(
            stage.name,
            help=f"stage {number}: {stage.title}",
            description=f"Stage {number} of the recipe: {stage.title}.",
            epilog=f"Example: acoustic-kd {stage.name} --config an4 --data-dir DIR "
            "model.width=1024",
        )
        add_experiment(verb)
        verb.add_argument(
            "--num-processes",
            type=int,
            metavar="N",
            help="refuse to run on another number of processes than this",
        )
        verb.add_argument(
            "--dry-run", action="store_true", help="say whether it would run, and why; run nothing"
        )
        if stage.parts:
            verb.add_argument(
                "--shard",
                metavar="I/N",
                help=f"make every Nth of the {stage.parts} from number I on (0 <= I < N), beside "
                "other runs: for the jobs of an array; a run without it then ends the stage",
            )
        verb.set_defaults(handler=_run_stage)
    add_verbs(verbs)
    return parser


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The options that `experiment_of` reads."""
    parser.add_argument(
        "--config", type=Path, metavar="NAME_OR_FILE",
        help="settings in YAML: a file, or settings of the package by name, such as an4",
    )  # fmt: skip
    parser.add_argument(
        "--exp-dir", type=Path, metavar="DIR",
        help="where everything goes (default: exp/NAME of the settings)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where the corpus lies, or LibriSpeech is downloaded to"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY.SUBKEY=VALUE", help="settings")


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment that the command line describes."""
    path = None if options.config is None else settings_file(options.config)
    config = load_config(path, options.overrides)
    if options.data_dir is not None:
        corpus = dataclasses.replace(config.corpus, data_dir=options.data_dir)
        config = dataclasses.replace(config, corpus=corpus)
    directory = options.exp_dir or Path("exp") / default_name(options.config, config)
    return Experiment(
        config,
        directory,
        STAGES,
        getattr(options, "num_processes", None),
        _recipe(options, config),
        _share(getattr(options, "shard", None)),
    )


def _share(text: str | None) -> tuple[int, int] | None:
    """(i, n) of `--shard i/n`."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise UserError(f"--shard is '{text}'; it must be I/N with 0 <= I < N")
    return int(found[1]), int(found[2])


def _recipe(options: argparse.Namespace, config: Config) -> str:
    """The command that makes the experiment, to stand beside its results."""
    words = ["recipes/run.sh"]
    if options.config is not None:
        words += ["--config", shown(options.config)]
    words += [] if config.corpus.name == "demo" else ["--data-dir", "DIR"]
    return shlex.join([*words, *map(_without_folder, options.overrides)])


def _without_folder(override: str) -> str:
    """A setting without the folders of a path, which are this machine's own."""
    key, _, value = override.partition("=")
    return f"{key}={Path(value).name}" if key in PATHS else override


def default_name(path: Path | None, config: Config) -> str:
    """The experiment's name where none is given: that of its settings file, else its corpus."""
    return path.stem if path is not None else config.corpus.name


def _run_stage(options: argparse.Namespace) -> None:
    do = say_stage if options.dry_run else run_stage
    do(experiment_of(options), options.verb)
