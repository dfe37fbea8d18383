#!/usr/bin/env python3
"""What the specialists of an experiment add to its ensemble, in frame accuracy (paper section 5).

Prints two tables for a split: accuracy over all frames, and conditional accuracy, which compares
only the classes of a specialist, on the frames of these classes (the paper's table 3); and the gain
by the number of specialists that cover a frame's class (table 4).
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.corpora.utterances import EVALUATION_SPLITS
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import ensemble_system, read_ensemble, read_specialists
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.features.frames import read_frames
from acoustic_kd.reports.tables import as_markdown
from acoustic_kd.soft_targets.write import blocks_of
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.paths import path_argument

PROGRAM = "tools/specialists.py"
CPU = torch.device("cpu")
SYSTEMS = ("ensemble", "with specialists")


@dataclass
class Counts:
    """Frames classified right by the ensemble, and by the ensemble with specialists.

    Attributes:
        covered: number of specialists of the frame's class → [frames, right, right].
        conditional: the same for the classes of a specialist alone, summed over specialists.
    """

    covered: Tensor
    conditional: Tensor


def count(experiment: Experiment, split: str) -> Counts:
    """Classify the frames of a split with and without specialists."""
    system = ensemble_system(experiment)
    specialists = read_specialists(experiment, system, CPU)
    if specialists is None:
        raise UserError(f"{experiment.directory}: has no specialists; give specialists.count=10")
    frames = read_frames(experiment.path("frames") / split)
    both = [
        read_ensemble(experiment, each).predictions(frames, blocks_of(len(frames)))
        for each in (replace(system, specialists=()), system)
    ]
    is_own = torch.zeros(len(specialists.subsets), frames.classes.count, dtype=torch.bool)
    for number, classes in enumerate(specialists.subsets):
        is_own[number, classes] = True
    whole = {"dtype": torch.int64}
    found = Counts(torch.zeros(len(is_own) + 1, 3, **whole), torch.zeros(3, **whole))
    for numbers, *predicted in zip(blocks_of(len(frames)), *both, strict=True):
        labels = frames.labels[numbers]
        right = torch.stack([labels >= 0, *(p.argmax(-1) == labels for p in predicted)], 1).long()
        found.covered.index_add_(0, is_own[:, labels].sum(0), right)
        for own in is_own:
            rows = own[labels]
            among = [p[rows].masked_fill(~own, -1).argmax(-1).eq(labels[rows]) for p in predicted]
            found.conditional += torch.stack([rows[rows], *among], 1).sum(0)
    return found


def tables(found: Counts) -> str:
    """The two tables."""
    overall, lines = found.covered.sum(0), []
    for number, name in enumerate(SYSTEMS, start=1):
        shares = (100 * counts[number] / counts[0] for counts in (found.conditional, overall))
        lines.append([name, *(f"{share:.2f}" for share in shares)])
    first = as_markdown([["", "conditional accuracy", "accuracy"], *lines])
    lines = []
    for number, (frames, before, after) in enumerate(found.covered.tolist()):
        if frames:
            gain = f"{100 * (after / before - 1):+.1f} %" if before else ""
            row = [str(number), f"{frames:,.0f}", f"{after - before:+,.0f}", gain]
            lines.append([cell.replace("-", "−") for cell in row])
    heading = ["specialists of the class", "frames", "change in frames right", "relative"]
    return "\n".join([*first, "", *as_markdown([heading, *lines])])


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; returns the exit status."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=path_argument, metavar="EXP")
    parser.add_argument("--split", choices=EVALUATION_SPLITS, default="test")
    options = parser.parse_args(arguments)

    def run() -> None:
        experiment = open_experiment(Path(options.experiment), "train")
        print(tables(count(experiment, options.split)))

    return exit_status(PROGRAM, run)


if __name__ == "__main__":
    sys.exit(main())
