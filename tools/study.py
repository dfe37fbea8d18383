#!/usr/bin/env python3
"""Train members, a control and a distilled model for each row of a study, with several seeds.

A study is a YAML file: settings that all rows share, and for each row the settings that it changes.
EXP receives the models, the table study.md and the chart study.svg. What rows have in common, such
as members, is made once. A study that chooses settings measures dev alone; `columns` may also have
frame accuracies of train and test, and word error rates of test, which choose nothing. Run the same
command again to resume an interrupted study.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.options import without_folder
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import exclusive_lock, write_json, write_text
from study_experiments import experiment_of, make_all
from study_file import Study, read_comparison
from study_measures import figures, measure_all
from study_table import around_section, chart, table, write_section

PROGRAM = "tools/study.py"


def main(arguments: list[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    options = study_parser(PROGRAM, __doc__).parse_intermixed_args(arguments)
    return exit_status(PROGRAM, lambda: run_study(options))


def study_parser(program: str, description: str | None) -> Parser:
    """The command line of a tool that runs studies."""
    parser = Parser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="settings of all rows, such as lm.text=FILE",
    )
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="default: exp/study-NAME")
    parser.add_argument("--data-dir", metavar="DIR", help="directory of the corpus")
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="processes (default: one per core)"
    )
    parser.add_argument(
        "--docs",
        type=Path,
        metavar="FILE",
        help="also write the table between FILE's markers (and the chart, if the study "
        "has one, into pictures/ beside it)",
    )
    return parser


def check_options(options: argparse.Namespace) -> tuple[str, Path]:
    """Check the options before hours of training; returns the study's name and EXP."""
    name = options.study.stem
    if options.jobs < 0:
        raise UserError(f"--jobs is {options.jobs}; it must be 0 (one per core) or more")
    if options.docs:
        around_section(options.docs, name)
    return name, options.exp_dir or Path("exp") / f"study-{name}"


def command_of(program: str, options: argparse.Namespace) -> str:
    """The command that makes the table, without the folders of this machine."""
    words = [program, str(options.study)] + (["--data-dir", "DIR"] if options.data_dir else [])
    return shlex.join([*words, *map(without_folder, options.overrides)])


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the command line, which all rows have."""
    given = {} if options.data_dir is None else {"corpus.data_dir": options.data_dir}
    for override in options.overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"'{override}' is no setting; write KEY=VALUE")
        given[key] = value
    return given


def run_study(options: argparse.Namespace) -> None:
    """Make all rows; write and print the table."""
    study = read_comparison(options.study)
    study = replace(study, settings=study.settings | given_settings(options))
    name, out = check_options(options)
    with exclusive_lock(out):
        experiments = {
            (factor, row): [
                make_experiment(study, settings or {}, seed, out) for seed in range(study.seeds)
            ]
            for factor, rows in study.rows.items()
            for row, settings in rows.items()
        }
        everything = [experiment for row in experiments.values() for experiment in row]
        make_all(everything, options.jobs)
        measure_all(everything, study.columns, options.jobs)
        rows = [
            {"factor": factor, "name": row} | figures(of_row, study.columns)
            for (factor, row), of_row in experiments.items()
        ]
        results = {"title": study.title, "seeds": study.seeds, "columns": study.columns}
        results |= {"rows": rows}
        text, picture = table(results, command_of(PROGRAM, options)), chart(results)
        write_json(out / "study.json", results)
        write_text(out / "study.md", text)
        write_text(out / "study.svg", picture)
    print(text)
    if options.docs:
        write_section(options.docs, name, text)
        write_text(options.docs.parent / "pictures" / f"study-{name}.svg", picture)


def make_experiment(study: Study, row: dict[str, Any], seed: int, out: Path) -> Experiment:
    """The experiment of a row with one seed."""
    seeds = {"train.seed": 10_000 * seed, "train.share_seed": seed}
    experiment = experiment_of(study, row | seeds, out)
    if not experiment.config.distill.hard_baseline:
        raise UserError(
            "setting 'distill.hard_baseline' is False; each row of a study has a control"
        )
    return experiment


if __name__ == "__main__":
    sys.exit(main())
