"""The command-line options that describe an experiment."""

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

from acoustic_kd.experiment.experiment import Experiment, Stage
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.settings import SETTINGS, Config, load_config, settings_file
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.paths import path_argument, place_argument


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The options that `experiment_of` reads."""
    parser.add_argument(
        "--config", type=path_argument, metavar="NAME_OR_FILE",
        help="settings: a YAML file, or settings of the package by name, such as an4",
    )  # fmt: skip
    parser.add_argument(
        "--exp-dir", type=path_argument, metavar="DIR",
        help="directory of all output (default: exp/NAME in the working directory)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", type=place_argument, metavar="DIR",
        help="folder of the corpus, or its manifest (default: $ACOUSTIC_KD_DATA); LibriSpeech is "
        "downloaded to it; a remote folder, such as s3://bucket/folder, is copied first",
    )  # fmt: skip
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY.SUBKEY=VALUE",
        help="settings (see acoustic-kd settings); the last value of a setting counts",
    )  # fmt: skip


def add_stage_options(parser: argparse.ArgumentParser, stage: Stage, description: str) -> None:
    """The options of the verb of a stage."""
    parser.description = description
    parser.epilog = (
        f"Example: acoustic-kd {stage.name} --config an4 --data-dir DIR model.width=1024"
    )
    add_experiment(parser)
    parser.add_argument(
        "--num-processes", type=int, metavar="N",
        help="refuse to run on another number of processes",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="print whether the stage would run, and why; run nothing",
    )  # fmt: skip
    if stage.parts:
        parser.add_argument(
            "--shard",
            metavar="I/N",
            help=f"make every Nth of the {stage.parts} from number I on (0 <= I < N), in a job "
            "array; a later run without --shard completes the stage",
        )


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment that the command line describes."""
    path = None if options.config is None else settings_file(options.config)
    config = load_config(path, options.overrides)
    if options.data_dir is not None:
        corpus = dataclasses.replace(config.corpus, data_dir=options.data_dir)
        config = dataclasses.replace(config, corpus=corpus)
    name = config.corpus.name if options.config is None else options.config.stem
    directory = options.exp_dir or Path("exp") / name
    for key in ("data_dir", "untranscribed"):
        speech = getattr(config.corpus, key)
        if speech is not None and Path(speech).absolute() == directory.absolute():
            raise UserError(
                f"{directory}: both the folder of the experiment and corpus.{key}; give another "
                "--exp-dir"
            )
    return Experiment(
        config,
        directory,
        STAGES,
        getattr(options, "num_processes", None),
        _recipe(options, config),
        _share(getattr(options, "shard", None)),
    )


def _share(text: str | None) -> tuple[int, int] | None:
    """Parse `--shard i/n`."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise UserError(f"--shard is '{text}'; it must be I/N with 0 <= I < N")
    return int(match[1]), int(match[2])


def _recipe(options: argparse.Namespace, config: Config) -> str:
    """The command that makes the experiment, for its report."""
    words = ["recipes/run.sh"]
    if options.config is not None:
        words += ["--config", displayed_path(options.config)]
    words += [] if config.corpus.name == "demo" else ["--data-dir", "DIR"]
    return shlex.join([*words, *map(without_folder, options.overrides)])


def without_folder(override: str) -> str:
    """A setting without the folders of a path, which belong to this machine."""
    key, _, value = override.partition("=")
    return f"{key}={Path(value).name}" if key in SETTINGS and SETTINGS[key].path else override


def displayed_path(given: Path) -> str:
    """A path as a printed command has it: below the working directory, relative to it."""
    absolute = given.absolute()
    below = absolute.is_relative_to(Path.cwd())
    return str(absolute.relative_to(Path.cwd()) if below else given)


def add_finished_experiment(parser: argparse.ArgumentParser) -> None:
    """Add EXP and --model, for verbs that use a finished experiment."""
    parser.add_argument(
        "experiment", type=path_argument, metavar="EXP", help="directory of the experiment"
    )
    parser.add_argument(
        "--model", default="distilled/01", metavar="MODEL",
        help="distilled/NN, distilled/SHAPE/NN, members/NN, ensemble, … (default: %(default)s)",
    )  # fmt: skip
