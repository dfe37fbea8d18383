#!/usr/bin/env python3
"""How far the alignments of two experiments lie apart: boundaries of words and phones, frames.

usage: tools/alignment_difference.py EXP OTHER_EXP [--split train]

Both must have aligned the same speech with the same lexicon. An utterance counts where both have
aligned it over as many frames; a phone's boundaries count where both say its word alike.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.segmentation import Segmentation, read_segmentations
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.language.lexicon import SILENCE, Lexicon, read_lexicon
from acoustic_kd.system.errors import UserError

FRAME = 10  # milliseconds
NEAR = (20, 50)  # milliseconds: shares of boundaries nearer than these are told


def words_of(phones: list[str], words: list[str], lexicon: Lexicon) -> list[int] | None:
    """How many of the phones (without silence) each word takes; None if they do not spell them."""
    ends: list[dict[int, int]] = [{0: 0}]  # after each word: phones so far → phones before it
    for word in words:
        after: dict[int, int] = {}
        for end in ends[-1]:
            for pronunciation in lexicon[word]:
                if tuple(phones[end : end + len(pronunciation)]) == pronunciation:
                    after.setdefault(end + len(pronunciation), end)
        ends.append(after)
    if len(phones) not in ends[-1]:
        return None
    end, sizes = len(phones), []
    for back in reversed(ends[1:]):
        sizes.append(end - back[end])
        end = back[end]
    return sizes[::-1]


class Spoken:
    """Where an utterance's words and phones begin and end, in frames, pauses left out."""

    def __init__(self, found: Segmentation, words: list[str], lexicon: Lexicon) -> None:
        lengths = found.durations.sum(1)
        ends = np.cumsum(lengths)
        spoken = np.array([phone != SILENCE for phone in found.phones])
        self.phones = [phone for phone in found.phones if phone != SILENCE]
        self.bounds = np.stack([(ends - lengths)[spoken], ends[spoken]], axis=1)  # [N, 2]
        self.sizes = words_of(self.phones, words, lexicon)
        self.phone_of_frame = np.repeat(found.phones, lengths)
        states = np.tile(np.arange(3), len(found.phones))
        self.state_of_frame = np.repeat(states, found.durations.ravel())

    def words(self) -> list[tuple[tuple[str, ...], np.ndarray]]:
        """Of each word its phones and their bounds."""
        cuts = np.cumsum(self.sizes)[:-1]
        parts = np.split(self.bounds, cuts)
        phones = np.split(np.array(self.phones, object), cuts)
        return [(tuple(p), b) for p, b in zip(phones, parts, strict=True)]


def compare(one: Path, other: Path, split: str) -> dict[str, float]:
    """The measures of two experiments, by name."""
    texts = {u.id: (u.text or "").split() for u in read_manifest(one / f"corpus/{split}.jsonl")}
    lexicon = read_lexicon(one / "corpus" / "lexicon.txt")
    first, second = (
        {s.id: s for s in read_segmentations(e / f"align/{split}.jsonl")} for e in (one, other)
    )
    words, phones, same_phone, same_state, frames, used = [], [], 0, 0, 0, 0
    for name in first.keys() & second.keys():
        if len(first[name]) != len(second[name]):
            continue
        pair = [Spoken(found[name], texts[name], lexicon) for found in (first, second)]
        if any(spoken.sizes is None for spoken in pair):
            continue
        used += 1
        alike = pair[0].phone_of_frame == pair[1].phone_of_frame
        same_phone += np.count_nonzero(alike)
        same_state += np.count_nonzero(alike & (pair[0].state_of_frame == pair[1].state_of_frame))
        frames += len(alike)
        for (p, a), (q, b) in zip(*(spoken.words() for spoken in pair), strict=True):
            words += [abs(int(a[0, 0] - b[0, 0])), abs(int(a[-1, 1] - b[-1, 1]))]
            if p == q:
                phones += np.abs(a - b).ravel().tolist()
    if not used:
        raise UserError(f"{one} and {other}: no utterance of {split} that both have aligned alike")
    found = {"utterances": used, "only one has": len(first.keys() ^ second.keys())}
    for kind, distances in (("word", words), ("phone", phones)):
        apart = FRAME * np.array(distances)
        found[f"{kind} boundaries, median ms"] = float(np.median(apart))
        found[f"{kind} boundaries, mean ms"] = float(np.mean(apart))
        for near in NEAR:
            found[f"{kind} boundaries within {near} ms, %"] = 100 * float(np.mean(apart <= near))
    found["frames of the same phone, %"] = 100 * same_phone / frames
    found["frames of the same state, %"] = 100 * same_state / frames
    return found


def main() -> int:
    """Print the measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", type=Path, nargs=2, metavar="EXP")
    parser.add_argument("--split", default="train")
    options = parser.parse_args()
    try:
        found = compare(*options.experiments, options.split)
    except UserError as error:
        print(f"alignment_difference: error: {error}", file=sys.stderr)
        return 2
    for name, value in found.items():
        print(f"{name:<36} {value:8.1f}" if isinstance(value, float) else f"{name:<36} {value:6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
