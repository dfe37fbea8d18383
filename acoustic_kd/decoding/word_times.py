"""When words were said: recognised words are aligned to their frames by the same models.

The labels of a lattice stand where a word parts from all others, which is not where it ends; so its
words are aligned like a transcript (`decoding.align`), and their phones counted off.
"""

from collections.abc import Sequence

import numpy as np

from acoustic_kd.alignment.segmentation import AlignmentFailure, Segmentation
from acoustic_kd.decoding.align import Transcripts
from acoustic_kd.lexicon import SILENCE, Lexicon


def align_words(
    words: Sequence[str], loglikes: np.ndarray, transcripts: Transcripts
) -> list[tuple[int, int]] | None:
    """The frames [first, last + 1) of each word.

    Args:
        words: N ≥ 1 words, all of them in the lexicon of `transcripts`.
        loglikes: [T, K] log-likelihoods of the senones, not scaled.

    Returns:
        None where the words do not fit the frames.
    """
    try:
        path = transcripts.path(list(words), loglikes)
    except AlignmentFailure:
        return None
    segmentation = transcripts.inventory.segmentation("", path)
    return word_spans(segmentation, words, transcripts.lexicon)


def word_spans(
    segmentation: Segmentation, words: Sequence[str], lexicon: Lexicon
) -> list[tuple[int, int]] | None:
    """Where in a segmentation each word is, in frames; None if its phones are not the words'.

    Where the phones could be shared out in several ways (`A` + `B C` or `A B` + `C`), which only
    variants of neighbouring words allow, the first variants in the lexicon win.
    """
    ends = np.cumsum(segmentation.durations.sum(1))
    said = [n for n, phone in enumerate(segmentation.phones) if phone != SILENCE]
    phones = tuple(segmentation.phones[n] for n in said)

    def whole(variant: tuple[str, ...], first: int) -> bool:
        """Is it said from phone `first` on, with no silence inside?"""
        last = first + len(variant)
        return phones[first:last] == variant and said[last - 1] - said[first] == len(variant) - 1

    # For each word, the numbers of phones that may be behind those up to it, and from where.
    reached: list[dict[int, int]] = [{0: 0}]
    for word in words:
        following: dict[int, int] = {}
        for first in reached[-1]:
            for variant in lexicon[word]:
                if whole(variant, first):
                    following.setdefault(first + len(variant), first)
        reached.append(following)
    last = len(phones)
    if last not in reached[-1]:
        return None
    spans = []
    for sources in reached[:0:-1]:
        first = sources[last]
        begun = ends[said[first] - 1] if said[first] else 0
        spans.append((int(begun), int(ends[said[last - 1]])))
        last = first
    return spans[::-1]
