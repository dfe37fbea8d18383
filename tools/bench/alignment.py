#!/usr/bin/env python3
"""Cost of forced alignment with trained models, or the difference of two experiments' alignments.

Cost: the first test utterances are aligned with the experiment's ensemble, or with the model given;
processor seconds per second of speech of the transcripts' graphs, the predictions and the search.

Difference (--against): distances of the boundaries of words and phones, and the share of frames of
the same phone and state. Both experiments must have aligned the same speech with the same lexicon.
An utterance counts where both alignments have as many frames; the boundaries of phones count where
both alignments choose the same pronunciation of a word.
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

import bench
from acoustic_kd.alignment.segmentation import STATES, Segmentation, read_segmentations
from acoustic_kd.alignment.senones import read_inventory
from acoustic_kd.alignment.spoken_words import word_phones
from acoustic_kd.alignment.viterbi import alignment_graph, force_align
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.experiment.aligning_models import find_models
from acoustic_kd.experiment.models import AcousticScorer
from acoustic_kd.experiment.outputs import stored_frames
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.language.lexicon import Lexicon, read_lexicon
from acoustic_kd.system.errors import UserError

FRAME_MS = 1000 * SHIFT_SECONDS
NEAR_MS = (20, 50)  # the shares of boundaries that are as near as this are shown
COLUMNS = {"what": "figure", "value": "value"}


def measure(
    experiment: Path,
    model: str | None = None,
    *,
    utterances: int = 100,
    against: Path | None = None,
    split: str = "train",
) -> Iterator[bench.Row]:
    """Yield a row for each figure."""
    if against:
        figures, digits = difference(experiment, against, split), 1
    else:
        figures, digits = cost(experiment, model, utterances), 4
    for what, value in figures.items():
        yield {
            "what": what,
            "value": str(value) if isinstance(value, int) else f"{value:.{digits}f}",
        }


def cost(experiment: Path, model: str | None, count: int) -> dict[str, float]:
    """Processor seconds per second of speech, by part of the work."""
    models = find_models(model or str(experiment))
    scorer = AcousticScorer.read(models.models, models.frames)
    inventory = read_inventory(models.inventory)
    lexicon = read_lexicon(experiment / "corpus" / "lexicon.txt")
    manifest = read_manifest(experiment / "corpus" / "test.jsonl")
    texts = {utterance.id: utterance.text.split() for utterance in manifest}
    seconds, speech = {"graph": 0.0, "predictions": 0.0, "search": 0.0}, 0.0
    for utterance in islice(stored_frames(experiment / "frames" / "test"), count):
        times = [time.process_time()]
        graph = alignment_graph(lexicon, texts[utterance.id], inventory, scorer.durations)
        times.append(time.process_time())
        posteriors = scorer.posteriors(utterance.features)
        loglikes = log_likelihoods(posteriors, scorer.log_prior)
        times.append(time.process_time())
        force_align(graph, loglikes)
        times.append(time.process_time())
        for part, elapsed in zip(seconds, np.diff(times), strict=True):
            seconds[part] += elapsed
        speech += SHIFT_SECONDS * len(utterance.features)
    print(f"{models.name}: {speech:.0f} s of speech, {inventory.num_senones} senones\n")
    seconds["together"] = sum(seconds.values())
    return {part: value / speech for part, value in seconds.items()}


def difference(first_exp: Path, second_exp: Path, split: str) -> dict[str, float]:
    """Distances of boundaries in milliseconds, and shares in percent."""
    texts = {
        u.id: (u.text or "").split() for u in read_manifest(first_exp / f"corpus/{split}.jsonl")
    }
    lexicon = read_lexicon(first_exp / "corpus" / "lexicon.txt")
    first, second = (
        {s.id: s for s in read_segmentations(exp / f"align/{split}.jsonl")}
        for exp in (first_exp, second_exp)
    )
    word_distances, phone_distances, same_phone, same_state = [], [], [], []
    for name in first.keys() & second.keys():
        pair = first[name], second[name]
        words, other_words = (words_of(s, texts[name], lexicon) for s in pair)
        if len(pair[0]) != len(pair[1]) or words is None or other_words is None:
            continue
        (phones, states), (other_phones, other_states) = map(frame_labels, pair)
        same_phone.append(phones == other_phones)
        same_state.append(same_phone[-1] & (states == other_states))
        for (phones, bounds), (other_phones, other_bounds) in zip(words, other_words, strict=True):
            word_distances.append(abs(bounds[0, 0] - other_bounds[0, 0]))
            word_distances.append(abs(bounds[-1, 1] - other_bounds[-1, 1]))
            if phones == other_phones:
                phone_distances += np.abs(bounds - other_bounds).ravel().tolist()
    if not same_phone:
        raise UserError(
            f"{first_exp} and {second_exp}: no utterance of {split} has as many frames in both "
            "alignments; give two experiments on the same speech"
        )
    figures = {
        "utterances": len(same_phone),
        "in one experiment only": len(first.keys() ^ second.keys()),
    }
    for kind, frames in (("word", word_distances), ("phone", phone_distances)):
        distances = FRAME_MS * np.array(frames)
        figures[f"{kind} boundaries, median ms"] = float(np.median(distances))
        figures[f"{kind} boundaries, mean ms"] = float(np.mean(distances))
        for near in NEAR_MS:
            share = float(np.mean(distances <= near))
            figures[f"{kind} boundaries within {near} ms, %"] = 100 * share
    for what, same in (("phone", same_phone), ("state", same_state)):
        figures[f"frames of the same {what}, %"] = 100 * float(np.mean(np.concatenate(same)))
    return figures


def frame_labels(segmentation: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """The phone and the state of each frame."""
    phones, durations = np.array(segmentation.phones), segmentation.durations
    states = np.tile(np.arange(STATES), len(phones))
    return np.repeat(phones, durations.sum(1)), np.repeat(states, durations.ravel())


def words_of(
    segmentation: Segmentation, text: list[str], lexicon: Lexicon
) -> list[tuple[tuple[str, ...], np.ndarray]] | None:
    """The phones of each word with their bounds in frames [N, 2]; None if the phones do not fit."""
    parts = word_phones(segmentation, text, lexicon)
    if parts is None:
        return None
    ends = np.cumsum(segmentation.durations.sum(1))
    bounds = np.stack([np.append(0, ends[:-1]), ends], 1)
    return [(segmentation.phones[part], bounds[part]) for part in parts]


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
