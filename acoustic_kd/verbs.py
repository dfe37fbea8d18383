"""The verbs of `acoustic-kd` beside the recipe's stages, and what runs them."""

import argparse
import shlex
import sys
from pathlib import Path

from acoustic_kd.errors import USAGE_ERROR, UserError, installation
from acoustic_kd.settings import settings_file, shown

MNIST = Path("mnist")  # the name of its rows in the package


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """Each with its options; `handler` runs it, and gives the exit status, None for 0."""
    _add_mnist(verbs)
    _add_compare(verbs)
    _add_inspect(verbs)
    _add_transcribe(verbs)
    _add_export(verbs)
    _add_posteriors(verbs)


def _add_mnist(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "mnist",
        help="the paper's experiment on MNIST (recipes/mnist.sh)",
        description="The paper's section 3: what soft targets teach nets that read digits.",
        epilog="Example: acoustic-kd mnist --data-dir path/to/mnist --full",
    )
    verb.add_argument(
        "--config", type=Path, metavar="NAME_OR_FILE", default=MNIST,
        help="the rows of the experiment (default: %(default)s, in the package)",
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
    rows = read_rows(settings_file(options.config), options.full)
    name = "mnist" + ("-full" if options.full else "") + ("-dev" if options.dev else "")
    directory = options.exp_dir or Path("exp") / name
    words = ["recipes/mnist.sh", "--data-dir", "DIR"] if options.data_dir else ["recipes/mnist.sh"]
    words += [] if options.config == MNIST else ["--config", shown(options.config)]
    words += [f"--{flag}" for flag in ("full", "dev") if getattr(options, flag)]
    command = shlex.join(words)
    results = run_experiment(rows, directory, options.data_dir, options.dev, options.jobs, command)
    write_report(results, directory)
    print(terminal_summary(results))
    print(f"  in {directory / 'results.md'} and results.json beside it")


def _add_compare(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "compare",
        help="finished experiments side by side, as one HTML page",
        description="Finished experiments side by side: results, paired differences of the "
        "distilled models from the first one's, the settings that differ, training, soft targets, "
        "calibration.",
        epilog="Example: acoustic-kd compare exp/t2 exp/t5 exp/hard --out compare.html",
    )
    verb.add_argument(
        "experiments", type=Path, metavar="EXP", nargs="+", help="their directories, two or more"
    )
    verb.add_argument("--out", type=Path, metavar="FILE.html", required=True, help="where it goes")
    verb.set_defaults(handler=_run_compare)


def _run_compare(options: argparse.Namespace) -> None:
    from acoustic_kd.pages.compare import compare

    compare(options.experiments, options.out)
    print(f"{options.out}: {len(options.experiments)} experiments")


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
    _add_experiment(verb)
    verb.add_argument("files", type=Path, metavar="FILE", nargs="+", help="recordings")
    verb.add_argument(
        "--json", action="store_true", help="an object a line, with word times and confidences"
    )
    verb.set_defaults(handler=_run_transcribe)


def _run_transcribe(options: argparse.Namespace) -> int:
    from acoustic_kd.transcribe import transcribe

    failed = transcribe(options.experiment, options.files, options.model, options.json)
    return USAGE_ERROR if failed else 0


def _add_export(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "export",
        help="the acoustic model of a finished experiment as an ONNX file",
        description="The acoustic model as ONNX: normalised frames in, log posteriors out. Needs "
        f"the extra onnx: {installation('onnx')}.",
        epilog="Example: acoustic-kd export exp/an4 --out an4.onnx",
    )
    _add_experiment(verb)
    verb.add_argument("--out", type=Path, metavar="FILE.onnx", required=True, help="where it goes")
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
    _add_experiment(verb)
    verb.add_argument("split", metavar="SPLIT", help="train, dev, test or untranscribed")
    verb.add_argument("--out", type=Path, metavar="ARK", required=True, help="where it goes")
    verb.add_argument(
        "--log-likelihoods", action="store_true", help="subtract the log priors of the senones"
    )
    verb.set_defaults(handler=_run_posteriors)


def _run_posteriors(options: argparse.Namespace) -> None:
    from acoustic_kd.kaldi_archive import write_posteriors

    written = write_posteriors(
        options.experiment, options.split, options.out, options.model, options.log_likelihoods
    )
    known = ""
    if written.frames:
        accuracy = 100 * written.right / written.frames
        known = f", frame accuracy {accuracy:.2f} % of {written.frames} frames"
    print(f"{options.out}: {written.utterances} utterances{known}")


def _add_experiment(verb: argparse.ArgumentParser) -> None:
    """EXP, and which of its models."""
    verb.add_argument("experiment", type=Path, metavar="EXP", help="its directory")
    verb.add_argument(
        "--model", default="distilled/01", metavar="MODEL",
        help="distilled/NN, distilled/control, members/NN or ensemble (default: %(default)s)",
    )  # fmt: skip
