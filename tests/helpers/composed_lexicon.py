"""L of the reference: phones to words, with the disambiguation symbols that determinising needs.

Mohri, Pereira and Riley, *Speech Recognition with Weighted Finite-State Transducers* (2008),
sections 4.1-4.2. Labels are numbered as Kaldi does: 0 is epsilon; phone i of the inventory is
i + 1, and the disambiguation symbols #0, #1, … follow the phones; words count from 1, then #0.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import kaldifst
import numpy as np

from acoustic_kd.decoding.graph.fst import FstArrays, make_arcs, to_kaldifst
from acoustic_kd.language.lexicon import SILENCE, Lexicon

START, LOOP, SILENT, AFTER_SILENCE = range(4)


@dataclass(frozen=True)
class LexiconFst:
    """L with its disambiguation symbols.

    Attributes:
        fst: phones (and disambiguation symbols) → words, output labels sorted.
        words: the words in the order of their labels, from label 1.
        disambiguation: the phone-side labels of #0, #1, ….
    """

    fst: kaldifst.StdVectorFst
    words: list[str]
    disambiguation: list[int]

    @property
    def word_backoff(self) -> int:
        """Label of #0 among the words: the language model's back-off arcs carry it."""
        return len(self.words) + 1


def make_lexicon_fst(
    lexicon: Lexicon,
    words: Sequence[str],
    phones: Sequence[str],
    silence_probability: float = 0.5,
    optional_silence: bool = True,
) -> LexiconFst:
    """Build L for `words`: any sequence of words, with optional silence between and around them.

    Every pronunciation of a word has weight 1, as in Kaldi's `prepare_lang.sh` without given
    pronunciation probabilities: variants are not made dearer for being many.

    Args:
        lexicon: pronunciations of at least `words`.
        words: the vocabulary; labels are given in sorted order.
        phones: the inventory's phones, silence first.
        silence_probability: chance of silence at each word boundary and at both ends.
        optional_silence: if false, silence is only where a pronunciation spells it.
    """
    words = sorted(set(words))
    spelled = [(label, pron) for label, word in enumerate(words, 1) for pron in lexicon[word]]
    marks = _disambiguation(pron for _, pron in spelled)
    first_mark = len(phones) + 1
    silence_mark = first_mark + max(marks, default=0) + 1
    phone_label = {phone: label for label, phone in enumerate(phones, start=1)}

    no_silence = -math.log(1 - silence_probability) if optional_silence else 0.0
    silence = -math.log(silence_probability)
    arcs = [(START, 0, 0, no_silence, LOOP)]
    if optional_silence:
        arcs.append((START, 0, 0, silence, SILENT))
        arcs.append((SILENT, phone_label[SILENCE], 0, 0.0, AFTER_SILENCE))
        arcs.append((AFTER_SILENCE, silence_mark, 0, 0.0, LOOP))
    num_states = AFTER_SILENCE + 1
    for (word, pronunciation), mark in zip(spelled, marks, strict=True):
        labels = [phone_label[phone] for phone in pronunciation]
        labels += [first_mark + mark] if mark else []
        state = LOOP
        for position, label in enumerate(labels[:-1]):
            arcs.append((state, label, word if position == 0 else 0, 0.0, num_states))
            state, num_states = num_states, num_states + 1
        output = word if len(labels) == 1 else 0
        arcs.append((state, labels[-1], output, no_silence, LOOP))
        if optional_silence:
            arcs.append((state, labels[-1], output, silence, SILENT))
    final = np.full(num_states, np.inf, np.float32)
    final[LOOP] = 0.0
    fst = to_kaldifst(FstArrays(START, final, *make_arcs(arcs)))
    kaldifst.connect(fst)
    # #0 must pass through L to the language model's back-off arcs.
    kaldifst.add_self_loops(fst, [first_mark], [len(words) + 1])
    kaldifst.arcsort(fst, "olabel")
    return LexiconFst(fst, words, list(range(first_mark, silence_mark + 1)))


def _disambiguation(pronunciations) -> list[int]:
    """For each pronunciation the number of its disambiguation symbol #1, #2, …; 0 for none.

    One is needed where the same phones are another entry's too, or the beginning of another.
    """
    pronunciations = list(pronunciations)
    count = Counter(pronunciations)
    prefixes = {pron[:end] for pron in count for end in range(1, len(pron))}
    used: Counter = Counter()
    marks = []
    for pron in pronunciations:
        if count[pron] > 1 or pron in prefixes:
            used[pron] += 1
            marks.append(used[pron])
        else:
            marks.append(0)
    return marks
