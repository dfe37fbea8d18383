"""`acoustic-kd VERB`: one verb a stage of the recipe."""

import argparse
import dataclasses
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
from acoustic_kd.errors import UserError
from acoustic_kd.settings import load_config
from acoustic_kd.stages import STAGES, is_main_process, run_stage
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stopping import Stopped, heeded

USAGE_ERROR = 2
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
    try:
        with heeded():
            return action() or 0
    except UserError as error:
        if not is_main_process():
            # Mostly all processes find the same and the first says so: the launcher ends the others
            # meanwhile. What only one of them found is said by that one.
            time.sleep(3)
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
            epilog=f"Example: acoustic-kd {stage.name} --config recipes/conf/an4.yaml "
            "--exp-dir exp/an4 model.width=1024",
        )
        add_experiment(verb)
        verb.add_argument(
            "--num-processes",
            type=int,
            metavar="N",
            help="refuse to run on another number of processes than this",
        )
        if stage.name == "soft-targets":
            verb.add_argument(
                "--shard",
                metavar="I/N",
                help="make every Nth shard from number I on (0 <= I < N), beside other runs: for "
                "the jobs of an array; a run without it then ends the stage",
            )
        verb.set_defaults(handler=_run_stage)
    _add_mnist(verbs)
    _add_inspect(verbs)
    _add_transcribe(verbs)
    _add_export(verbs)
    _add_posteriors(verbs)
    return parser


def _add_mnist(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "mnist",
        help="the paper's experiment on MNIST (recipes/mnist.sh)",
        description="The paper's section 3: what soft targets teach nets that read digits.",
        epilog="Example: acoustic-kd mnist --data-dir path/to/mnist --full",
    )
    verb.add_argument(
        "--config", type=Path, metavar="FILE", default=Path("recipes/conf/mnist.yaml"),
        help="the rows of the experiment (default: %(default)s)",
    )  # fmt: skip
    verb.add_argument("--full", action="store_true", help="all rows, at full length")
    verb.add_argument(
        "--exp-dir", type=Path, metavar="DIR", help="where everything goes (default: exp/mnist…)"
    )
    verb.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where MNIST's four files lie (else download)"
    )
    verb.add_argument(
        "--dev", action="store_true",
        help="hold out 10,000 train images and measure on them: to choose settings",
    )  # fmt: skip
    verb.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="nets trained at once (default: one a core)",
    )
    verb.set_defaults(handler=_run_mnist)


def _run_mnist(options: argparse.Namespace) -> None:
    from acoustic_kd.mnist.experiment import run_experiment
    from acoustic_kd.mnist.report import terminal_summary, write_report
    from acoustic_kd.mnist.rows import read_rows

    if options.jobs < 0:
        raise UserError(f"--jobs is {options.jobs}; it must be 0 (one a core) or more")
    rows = read_rows(options.config, options.full)
    name = "mnist" + ("-full" if options.full else "") + ("-dev" if options.dev else "")
    directory = options.exp_dir or Path("exp") / name
    words = ["recipes/mnist.sh", "--data-dir", "DIR"] if options.data_dir else ["recipes/mnist.sh"]
    words += [f"--{flag}" for flag in ("full", "dev") if getattr(options, flag)]
    command = shlex.join(words)
    results = run_experiment(rows, directory, options.data_dir, options.dev, options.jobs, command)
    write_report(results, directory)
    print(terminal_summary(results))
    print(f"  in {directory / 'results.md'} and results.json beside it")


def _add_inspect(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "inspect",
        help="what a store of soft targets or frames holds, and whether it is whole",
        description="What a store of soft targets or frames holds; ends with status 2 if anything "
        "is wrong with it.",
        epilog="Example: acoustic-kd inspect exp/an4/soft_targets --verify",
    )
    verb.add_argument("directory", type=Path, metavar="DIR", help="where the shards lie")
    verb.add_argument("--verify", action="store_true", help="read all of it, compare check sums")
    verb.set_defaults(handler=_run_inspect)


def _run_inspect(options: argparse.Namespace) -> int:
    from acoustic_kd.inspection import inspect

    title, rows, problems = inspect(options.directory, options.verify)
    print(title)
    for name, value in rows:
        print(f"  {name:<14} {value}")
    for problem in problems:
        print(f"acoustic-kd inspect: error: {problem}", file=sys.stderr)
    return USAGE_ERROR if problems else 0


def _add_transcribe(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "transcribe",
        help="the words of any recordings, by the models of a finished experiment",
        description="The words of recordings of any format and length, FILE and words a line; "
        "ends with status 2 if one of them cannot be transcribed.",
        epilog="Example: acoustic-kd transcribe exp/an4 talk.flac --json",
    )
    verb.add_argument("experiment", type=Path, metavar="EXP", help="its directory")
    verb.add_argument("files", type=Path, metavar="FILE", nargs="+", help="recordings")
    _add_model(verb)
    verb.add_argument(
        "--json", action="store_true", help="an object a line, with word times and confidences"
    )
    verb.set_defaults(handler=_run_transcribe)


def _add_export(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "export",
        help="the acoustic model of a finished experiment as an ONNX file",
        description="The acoustic model as ONNX: normalised frames in, log posteriors out. Needs "
        "pip install 'acoustic-kd[onnx]'.",
        epilog="Example: acoustic-kd export exp/an4 --out an4.onnx",
    )
    verb.add_argument("experiment", type=Path, metavar="EXP", help="its directory")
    verb.add_argument("--out", type=Path, metavar="FILE.onnx", required=True, help="where it goes")
    _add_model(verb)
    verb.set_defaults(handler=_run_export)


def _run_export(options: argparse.Namespace) -> None:
    from acoustic_kd.onnx_export import export

    difference = export(options.experiment, options.out, options.model)
    print(f"{options.out}: differs from PyTorch by {difference:.1g} at most on dev")


def _add_posteriors(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "posteriors",
        help="what a model says of a split's frames, as an archive for Kaldi's tools",
        description="Log posteriors of every frame of a split as a Kaldi archive, with the "
        "senones' frame counts beside it.",
        epilog="Example: acoustic-kd posteriors exp/an4 test --out test.ark --log-likelihoods",
    )
    verb.add_argument("experiment", type=Path, metavar="EXP", help="its directory")
    verb.add_argument("split", metavar="SPLIT", help="train, dev, test or untranscribed")
    verb.add_argument("--out", type=Path, metavar="ARK", required=True, help="where it goes")
    verb.add_argument(
        "--log-likelihoods", action="store_true", help="subtract the log priors of the senones"
    )
    _add_model(verb)
    verb.set_defaults(handler=_run_posteriors)


def _run_posteriors(options: argparse.Namespace) -> None:
    from acoustic_kd.kaldi_archive import write_posteriors

    number = write_posteriors(
        options.experiment, options.split, options.out, options.model, options.log_likelihoods
    )
    print(f"{options.out}: {number} utterances")


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--model", default="distilled/01", metavar="MODEL",
        help="distilled/NN, members/NN or ensemble (default: %(default)s)",
    )  # fmt: skip


def _run_transcribe(options: argparse.Namespace) -> int:
    from acoustic_kd.transcribe import transcribe

    failed = transcribe(options.experiment, options.files, options.model, options.json)
    return USAGE_ERROR if failed else 0


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """The options that `experiment_of` reads."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML")
    parser.add_argument(
        "--exp-dir", type=Path, metavar="DIR", help="where everything goes (default: exp/CORPUS)"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where the corpus lies, or LibriSpeech is downloaded to"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY.SUBKEY=VALUE", help="settings")


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment that the command line describes."""
    config = load_config(options.config, options.overrides)
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
        here = options.config.absolute()
        inside = here.is_relative_to(Path.cwd())
        words += ["--config", str(here.relative_to(Path.cwd()) if inside else options.config)]
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
    run_stage(experiment_of(options), options.verb)
