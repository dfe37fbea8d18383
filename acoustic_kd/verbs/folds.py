"""`acoustic-kd folds`: one result of several folds, for cross-validation over speakers."""

import argparse

from acoustic_kd.reports.folds import pool_folds
from acoustic_kd.reports.pages import report_page
from acoustic_kd.reports.tables import markdown, terminal_table
from acoustic_kd.system.files import write_json, write_text
from acoustic_kd.system.paths import path_argument


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Pool the results of experiments that differ in corpus.fold alone: errors and words are "
        "summed over the folds; intervals are over the test speakers or utterances of all folds."
    )
    parser.epilog = "Example: acoustic-kd folds exp/fold0 exp/fold1 exp/fold2 --out exp/folds"
    parser.add_argument(
        "experiments", type=path_argument, metavar="EXP", nargs="+",
        help="their directories, two or more",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=path_argument, metavar="DIR", required=True,
        help="the directory for results.json, results.md and report.html",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    results = pool_folds(options.experiments)
    page = report_page(options.experiments, results)
    write_json(options.out / "results.json", results)
    write_text(options.out / "results.md", markdown(results))
    write_text(options.out / "report.html", page)
    print(terminal_table(results))
