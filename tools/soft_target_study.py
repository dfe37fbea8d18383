#!/usr/bin/env python3
"""How soft targets are best stored: encoding × temperature → bytes a frame, what is lost, and what
distilled models learn from them, over several seeds.

The experiment's members must be trained (recipes/run.sh … --stop-stage train). Their mean
predictions, the stores and the models go to EXP/study, the results to EXP/study.json and study.md.
What was interrupted goes on: the same command, run again.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from acoustic_kd.cli import Parser, add_experiment, default_name, exit_status, experiment_of
from acoustic_kd.files import write_text
from study.experiment import run_study
from study.tables import around_section, report, write_section

PROGRAM = "tools/soft_target_study.py"
CELLS = Path(__file__).with_suffix(".yaml")


def main(arguments: list[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cells", type=Path, metavar="FILE", default=CELLS,
        help="what is stored and trained, in YAML (default: the tool's own .yaml)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="models a cell (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="processes (default: one a core)"
    )
    parser.add_argument(
        "--only-store", action="store_true", help="measure the stores, train no models"
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FILE",
        help="also write the tables into FILE, between the markers of the experiment's name",
    )  # fmt: skip
    add_experiment(parser)
    options = parser.parse_args(arguments)
    return exit_status(PROGRAM, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    experiment = experiment_of(options)
    if options.docs is not None:  # rather now than after an hour
        around_section(options.docs, experiment.directory.name)
    words = shlex.split(experiment.command)
    if experiment.directory != Path("exp") / default_name(options.config, experiment.config):
        words[1:1] = ["--exp-dir", f"exp/{experiment.directory.name}"]
    making = shlex.join([*words, "--stop-stage", "train"])
    words[0] = PROGRAM
    words += ["--cells", os.path.relpath(options.cells)] if options.cells != CELLS else []
    words += ["--seeds", str(options.seeds)] if not options.only_store else ["--only-store"]
    commands = [making, shlex.join(words)]
    results = run_study(
        experiment, options.cells, options.seeds, options.jobs, options.only_store, commands
    )
    text = report(results)
    write_text(experiment.directory / "study.md", f"# {results['name']}\n\n{text}")
    print(f"  in {experiment.directory / 'study.md'} and study.json beside it")
    if options.docs is not None:
        write_section(options.docs, results["name"], text)
        print(f"  in {options.docs}")


if __name__ == "__main__":
    sys.exit(main())
