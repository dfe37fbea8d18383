"""`acoustic-kd VERB`: one verb a stage of the recipe."""

import argparse
import dataclasses
import os
import shlex
import sys
import time
from pathlib import Path
from typing import NoReturn

from acoustic_kd import __version__
from acoustic_kd.config import Config, load_config
from acoustic_kd.errors import UserError
from acoustic_kd.stages import STAGES, is_main_process, run_stage
from acoustic_kd.stages.experiment import Experiment

USAGE_ERROR = 2
INTERRUPTED = 130  # as shells report a program ended by Ctrl-C

DESCRIPTION = "Distil an ensemble of deep acoustic models into one model as good as the ensemble."


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.handler(options)
    except UserError as error:
        if not is_main_process():
            # Mostly all processes find the same and the first says so: the launcher ends the others
            # meanwhile. What only one of them found is said by that one.
            time.sleep(3)
        print(f"acoustic-kd {options.verb}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"acoustic-kd {options.verb}: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or " ".join(str(error).split())
        print(f"acoustic-kd {options.verb}: error: {where}{reason}", file=sys.stderr)
        return USAGE_ERROR
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
            epilog=f"Example: acoustic-kd {stage.name} --config recipes/conf/an4.yaml "
            "--exp-dir exp/an4 model.width=1024",
        )
        _add_experiment(verb)
        verb.set_defaults(handler=_run_stage)
    return parser


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML")
    parser.add_argument(
        "--exp-dir", type=Path, metavar="DIR", help="where everything goes (default: exp/CORPUS)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where the corpus lies")
    parser.add_argument(
        "--num-processes",
        type=int,
        metavar="N",
        help="refuse to run on another number of processes than this",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY.SUBKEY=VALUE", help="settings")


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment that the command line describes."""
    config = load_config(options.config, options.overrides)
    if options.data_dir is not None:
        corpus = dataclasses.replace(config.corpus, data_dir=options.data_dir)
        config = dataclasses.replace(config, corpus=corpus)
    directory = options.exp_dir or Path("exp") / default_name(options.config, config)
    return Experiment(config, directory, STAGES, options.num_processes, _recipe(options, config))


def _recipe(options: argparse.Namespace, config: Config) -> str:
    """The command that makes the experiment, to stand beside its results."""
    words = ["recipes/run.sh"]
    if options.config is not None:
        here = options.config.absolute()
        inside = here.is_relative_to(Path.cwd())
        words += ["--config", str(here.relative_to(Path.cwd()) if inside else options.config)]
    words += [] if config.corpus.name == "demo" else ["--data-dir", "DIR"]
    return shlex.join([*words, *options.overrides])


def default_name(path: Path | None, config: Config) -> str:
    """The experiment's name where none is given: that of its settings file, else its corpus."""
    return path.stem if path is not None else config.corpus.name


def _run_stage(options: argparse.Namespace) -> None:
    run_stage(experiment_of(options), options.verb)
