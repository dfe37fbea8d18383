"""The align stage from a flat start, that is, without a trained model: `align.method=flat`.

docs/alignment.md
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.flat_start import equal_segments, initial_model, train_iterations
from acoustic_kd.alignment.gmm_aligner import FlatAligner, Iteration, lowest_score, read_iteration
from acoustic_kd.alignment.segmentation import (
    AlignmentFailure,
    AlignUtterance,
    Segmentation,
    align_all,
)
from acoustic_kd.alignment.senones import SenoneInventory, monophones
from acoustic_kd.alignment.tree import cepstra
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.normalised import normalised, with_frames
from acoustic_kd.experiment.outputs import read_split
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import write_store
from acoustic_kd.language.lexicon import SILENCE, Lexicon
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256, write_jsonl
from acoustic_kd.system.parallel import progress

SHARD_FRAMES = 12_000  # two minutes: an hour has enough shards for every core
HOUR_FRAMES = 360_000

Result = tuple[str, Segmentation | str]  # the id of an utterance; its segmentation, or why none


def align_from_flat_start(
    experiment: Experiment, lexicon: Lexicon
) -> Callable[[str, list[Utterance]], Iterator[Result]]:
    """Train a Gaussian-mixture model on the train split; returns a function that aligns a split."""
    config, out = experiment.config.align, experiment.path("align") / "flat"
    inventory = monophones((SILENCE, *lexicon.phones()))
    train = read_split(experiment, "train")
    texts = {u.id: u.text.split() for u in train if u.text is not None}
    model, store = out / "model.safetensors", out / "cepstra"
    if not model.is_file():
        _write_cepstra(experiment, Transcripts(lexicon, inventory), texts, store)
        initial_model(shard_paths(store), inventory).write(model)
    if not (trained := read_iteration(model)).finished:
        settings = config.iterations, config.gaussians, config.outlier_threshold
        shards = shard_paths(store)
        for trained in train_iterations(shards, model, lexicon, inventory, texts, *settings):
            row = trained.history[-1]
            print(
                f"  iteration {row['round']}: {row['gaussians']} Gaussians a state, log-likelihood "
                f"{row['log_likelihood']:.3f} a frame, {row['left_out']} utterances left out",
                flush=True,
            )
    scores: list[dict] = []
    state = partial(_flat, trained, lexicon, inventory)

    def align(split: str, utterances: list[Utterance]) -> Iterator[Result]:
        items = with_frames(experiment, split, utterances)
        results = list(align_all(state, split, items, len(utterances)))
        for name, result in results:
            if isinstance(result, ScoredSegmentation):
                scores.append({"id": name, "split": split, "score": round(result.score, 3)})
        write_jsonl(out / "scores.jsonl", sorted(scores, key=lambda row: row["score"]))
        yield from without_outliers(split, results, config.outlier_threshold)
        shutil.rmtree(store, ignore_errors=True)

    return align


def _write_cepstra(
    experiment: Experiment, transcripts: Transcripts, texts: dict[str, list[str]], store: Path
) -> None:
    """Write cepstra and equal segments of the utterances to train on.

    At most `align.flat_start_hours` of them, in the order of the digests of their ids: a random
    choice that does not depend on the rest of the corpus.
    """
    shutil.rmtree(store, ignore_errors=True)  # of an interrupted run
    usable: dict[str, int] = {}
    for utterance in normalised(experiment, "train"):
        if utterance.id not in texts:  # a copy at another vocal tract length
            continue
        try:
            transcripts.check(texts[utterance.id], len(utterance.features))
        except AlignmentFailure:  # the alignment of all utterances reports it
            continue
        usable[utterance.id] = len(utterance.features)
    if not usable:
        raise UserError(
            "train: no utterance can be aligned: no transcript has only words of the lexicon and "
            "fits its utterance; fix the transcripts or the lexicon (align.lexicon)"
        )
    order = sorted(usable, key=json_sha256)
    hours = np.cumsum([usable[name] for name in order]) / HOUR_FRAMES
    enough = int(np.searchsorted(hours, experiment.config.align.flat_start_hours))
    chosen = set(order[: max(1, enough)])
    inventory = transcripts.inventory

    def utterances() -> Iterator[Frames]:
        for utterance in progress(normalised(experiment, "train"), "cepstra", unit="utt"):
            if utterance.id in chosen:
                words = texts[utterance.id]
                spoken = [inventory.index[p] for w in words for p in _first(transcripts, w)]
                states = equal_segments(utterance.features, np.array(spoken))
                frames = cepstra(utterance.features).astype(np.float32)
                yield Frames(utterance.id, frames, states)

    total = write_store(store, utterances(), inventory.classes, SHARD_FRAMES, "float32")
    print(f"  training on {len(chosen)} utterances, {total / HOUR_FRAMES:.2f} h")


def _first(transcripts: Transcripts, word: str) -> tuple[str, ...]:
    """The first of the shortest pronunciations, for which `check` has found enough frames."""
    return min(transcripts.lexicon[word], key=len)


# --- alignment of all splits with the trained model -----------------------------------------------


@dataclass(frozen=True)
class ScoredSegmentation:
    """A segmentation and how well the utterance fits it, as `score_path`."""

    segmentation: Segmentation
    score: float


def _flat(
    trained: Iteration, lexicon: Lexicon, inventory: SenoneInventory
) -> AlignUtterance[ScoredSegmentation]:
    aligner = FlatAligner(trained.mixtures, Transcripts(lexicon, inventory, trained.durations))

    def align(utterance: Utterance, words: list[str], frames: np.ndarray) -> ScoredSegmentation:
        path, _, loglikes = aligner.align(words, cepstra(frames))
        segmentation = inventory.segmentation(utterance.id, path)
        return ScoredSegmentation(segmentation, aligner.score(path, loglikes))

    return align


def without_outliers(
    split: str, results: list[tuple[str, ScoredSegmentation | str]], threshold: float | None
) -> Iterator[Result]:
    """The segmentations; of train, a reason instead of those that fit far worse than the others.

    Nothing is left out of dev and test for being hard, because systems are measured on them.
    """
    aligned = [result for _, result in results if isinstance(result, ScoredSegmentation)]
    scores = np.array([result.score for result in aligned])
    lowest = -np.inf
    if split == "train" and threshold is not None:
        lowest = lowest_score(scores, threshold)
    for name, result in results:
        if isinstance(result, str):
            yield name, result
        elif result.score < lowest:
            reason = (
                f"it does not sound like its transcript: its alignment scores {result.score:.2f} a "
                f"frame, half of {split} {np.median(scores):.2f} or better (setting "
                "'align.outlier_threshold')"
            )
            yield name, reason
        else:
            yield name, result.segmentation
