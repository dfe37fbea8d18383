"""`acoustic-kd posteriors`: a model's posteriors for the frames of a split, as a Kaldi archive.

docs/kaldi.md
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.senones import Occupancies
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.experiment.models import AcousticScorer, find_system
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.options import add_finished_experiment
from acoustic_kd.experiment.outputs import STATISTICS, frame_targets
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.experiment.transfer_set import all_splits
from acoustic_kd.kaldi.objects import write_archive
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, write_text
from acoustic_kd.system.parallel import progress
from acoustic_kd.system.paths import path_argument


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Log posteriors of every frame of a split as a Kaldi archive, with the "
        "senones' frame counts beside it."
    )
    parser.epilog = "Example: acoustic-kd posteriors exp/an4 test --out test.ark --log-likelihoods"
    add_finished_experiment(parser)
    parser.add_argument("split", metavar="SPLIT", help="train, dev, test or untranscribed")
    parser.add_argument(
        "--out", type=path_argument, metavar="ARK", required=True, help="output archive"
    )
    parser.add_argument(
        "--log-likelihoods", action="store_true", help="subtract the log priors of the senones"
    )


def run(options: argparse.Namespace) -> None:
    """Write log posteriors [T, K] of every utterance of a split, or log-likelihoods.

    Beside the archive, `OUT.counts` has the senones' frames in train as a Kaldi vector, as
    `--class-frame-counts` takes it.
    """
    split, out = options.split, options.out
    trained = "distill" if options.model.startswith("distilled") else "train"
    experiment = open_experiment(options.experiment, trained)
    if split not in all_splits(experiment):
        raise UserError(
            f"split is '{split}'; {experiment.directory} has {', '.join(all_splits(experiment))}"
        )
    scorer = AcousticScorer.of(experiment, find_system(experiment, options.model))
    counts = read_json(experiment.path("frames") / STATISTICS, Occupancies)["frames"]
    targets = frame_targets(experiment, split)
    prior = scorer.log_prior if options.log_likelihoods else np.zeros(1)
    frames = right = 0

    def matrices() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal frames, right
        for utterance in progress(normalised(experiment, split), split, unit="utt"):
            probabilities = scorer.posteriors(utterance.features)
            labels = targets.get(utterance.id)
            if labels is not None:
                frames += len(labels)
                right += int((probabilities.argmax(-1) == labels).sum())
            yield utterance.id, log_likelihoods(probabilities, prior)

    utterances = write_archive(out, matrices())
    write_text(Path(f"{out}.counts"), f" [ {' '.join(map(str, counts))} ]\n")
    known = f", frame accuracy {100 * right / frames:.2f} % of {frames} frames" if frames else ""
    print(f"{out}: {utterances} utterances{known}")
