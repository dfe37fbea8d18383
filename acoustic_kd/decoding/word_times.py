"""When words were said: recognised words are aligned to their frames by the same models.

The labels of a lattice stand where a word parts from all others, which is not where it ends; so its
words are aligned like a transcript (`decoding.align`), and their phones counted off.
"""

from collections.abc import Sequence

import numpy as np

from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.decoding.align import alignment_graph, force_align
from acoustic_kd.lexicon import SILENCE, Lexicon
from acoustic_kd.senones import SenoneInventory


def align_words(
    words: Sequence[str],
    loglikes: np.ndarray,
    lexicon: Lexicon,
    inventory: SenoneInventory,
    durations: np.ndarray,
) -> list[tuple[int, int]] | None:
    """The frames [first, last + 1) of each word.

    Args:
        words: N ≥ 1 words, all of them in the lexicon.
        loglikes: [T, K] log-likelihoods of the senones, not scaled.
        durations: [K], mean durations in frames.

    Returns:
        None where the words do not fit the frames.
    """
    path = force_align(alignment_graph(lexicon, words, inventory, durations), loglikes)
    return None if path is None else word_spans(inventory.segmentation("", path), words, lexicon)


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
