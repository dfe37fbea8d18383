#!/usr/bin/env python3
"""Pool the results of several folds into one results.json, results.md and report.html.

For cross-validation over speakers: experiments that differ in corpus.fold alone (docs/corpora.md).
Errors and words are summed over the folds; intervals are over the test speakers or utterances of
all of them.

usage: tools/fold_results.py EXP_DIR EXP_DIR … --out DIR
"""

import argparse
import sys
from pathlib import Path

from acoustic_kd.reports.folds import folds_page, pool_folds
from acoustic_kd.reports.tables import markdown, terminal_table
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_json, write_text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXP_DIR")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    options = parser.parse_args()
    try:
        results = pool_folds(options.experiments)
        page = folds_page(options.experiments, results)
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    write_json(options.out / "results.json", results)
    write_text(options.out / "results.md", markdown(results))
    write_text(options.out / "report.html", page)
    print(terminal_table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
