"""`acoustic-kd mnist`: the paper's experiment on MNIST."""

import argparse
import shlex
from pathlib import Path

from acoustic_kd.experiment.options import displayed_path
from acoustic_kd.settings import settings_file
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.paths import path_argument

MNIST = Path("mnist")  # settings in the package


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "The paper's section 3: what soft targets teach nets that read digits."
    parser.epilog = "Example: acoustic-kd mnist --data-dir path/to/mnist --full"
    parser.add_argument(
        "--config", type=path_argument, metavar="NAME_OR_FILE", default=MNIST,
        help="the variants of the experiment (default: %(default)s, in the package)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="all variants, at full length")
    parser.add_argument(
        "--exp-dir", type=path_argument, metavar="DIR",
        help="output directory (default: exp/mnist…)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", type=path_argument, metavar="DIR",
        help="folder of MNIST's four files (default: download)",
    )  # fmt: skip
    parser.add_argument(
        "--dev", action="store_true",
        help="hold out 10,000 train images and measure on them: to choose settings",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N",
        help="nets trained at once (default: one per core)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    from acoustic_kd.mnist.experiment import run_experiment
    from acoustic_kd.mnist.report import terminal_summary, write_report
    from acoustic_kd.mnist.variants import read_variants

    if options.jobs < 0:
        raise UserError(f"--jobs is {options.jobs}; it must be 0 (one per core) or more")
    variants = read_variants(settings_file(options.config), options.full)
    name = "mnist" + ("-full" if options.full else "") + ("-dev" if options.dev else "")
    directory = options.exp_dir or Path("exp") / name
    words = ["recipes/mnist.sh", "--data-dir", "DIR"] if options.data_dir else ["recipes/mnist.sh"]
    words += [] if options.config == MNIST else ["--config", displayed_path(options.config)]
    words += [f"--{flag}" for flag in ("full", "dev") if getattr(options, flag)]
    command = shlex.join(words)
    results = run_experiment(
        variants, directory, options.data_dir, options.dev, options.jobs, command
    )
    write_report(results, directory)
    print(terminal_summary(results))
    print(f"  in {directory / 'results.md'} and results.json beside it")
