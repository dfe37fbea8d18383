"""Which phones and frames of a segmentation belong to which word, and how words are pronounced."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.language.lexicon import SILENCE, Lexicon, Pronunciation


def word_phones(
    segmentation: Segmentation, words: Sequence[str], lexicon: Lexicon
) -> list[slice] | None:
    """The phones of each word of a segmentation; None if its phones are not those of the words.

    If the phones can be divided in several ways (`A` + `B C` or `A B` + `C`), which only
    variants of neighbouring words allow, the first variants in the lexicon win.
    """
    spoken = [n for n, phone in enumerate(segmentation.phones) if phone != SILENCE]
    phones = tuple(segmentation.phones[n] for n in spoken)

    def is_spoken(variant: tuple[str, ...], first: int) -> bool:
        """Whether the variant is spoken from phone `first` on, without silence inside."""
        last = first + len(variant)
        return (
            phones[first:last] == variant and spoken[last - 1] - spoken[first] == len(variant) - 1
        )

    # For each word: number of phones up to its end → number of phones up to its beginning.
    reached: list[dict[int, int]] = [{0: 0}]
    for word in words:
        following: dict[int, int] = {}
        for first in reached[-1]:
            for variant in lexicon.entries.get(word, ()):
                if is_spoken(variant, first):
                    following.setdefault(first + len(variant), first)
        reached.append(following)
    last = len(phones)
    if last not in reached[-1]:
        return None
    parts = []
    for sources in reached[:0:-1]:
        first = sources[last]
        parts.append(slice(spoken[first], spoken[last - 1] + 1))
        last = first
    return parts[::-1]


def word_spans(
    segmentation: Segmentation, words: Sequence[str], lexicon: Lexicon
) -> list[tuple[int, int]] | None:
    """The frames [first, last + 1) of each word of a segmentation; None as for `word_phones`."""
    parts = word_phones(segmentation, words, lexicon)
    if parts is None:
        return None
    ends = np.cumsum([0, *segmentation.durations.sum(1)])
    return [(int(ends[part.start]), int(ends[part.stop])) for part in parts]


def pronunciation_costs(
    spoken: Iterable[tuple[Segmentation, Sequence[str]]], lexicon: Lexicon
) -> Mapping[Pronunciation, float]:
    """The cost in the search, in nats, of each pronunciation of the words that were spoken.

    A pronunciation that was spoken n times costs -ln((n + 1) / (N + 1)), where N is the count of
    its word's most frequent one. The most frequent one costs nothing, so words with many variants
    cost no more than others. Kaldi's `dict_dir_add_pronprobs.sh` computes the same.

    Args:
        spoken: segmentations with their words; those whose phones do not fit are passed over.
    """
    counts: Counter[Pronunciation] = Counter()
    for segmentation, words in spoken:
        parts = word_phones(segmentation, words, lexicon)
        if parts is not None:
            counts.update((w, segmentation.phones[p]) for w, p in zip(words, parts, strict=True))
    costs = {}
    for word in {word for word, _ in counts}:
        most = max(counts[word, variant] for variant in lexicon[word])
        for variant in lexicon[word]:
            costs[word, variant] = math.log((most + 1) / (counts[word, variant] + 1))
    return costs
