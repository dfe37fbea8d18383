"""`acoustic-kd compare`: finished experiments side by side."""

import argparse

from acoustic_kd.system.paths import path_argument


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Finished experiments side by side: results, paired differences of the "
        "distilled models from the first one's, the settings that differ, training, soft targets, "
        "calibration."
    )
    parser.epilog = "Example: acoustic-kd compare exp/t2 exp/t5 exp/hard --out compare.html"
    parser.add_argument(
        "experiments", type=path_argument, metavar="EXP", nargs="+",
        help="their directories, two or more",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=path_argument, metavar="FILE.html", required=True, help="the page"
    )


def run(options: argparse.Namespace) -> None:
    from acoustic_kd.reports.pages import compare

    compare(options.experiments, options.out)
    print(f"{options.out}: {len(options.experiments)} experiments")
