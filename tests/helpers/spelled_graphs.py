"""A fake senone inventory, and log-likelihoods that spell a known path, for the decoding tests."""

from collections import namedtuple

import numpy as np

from acoustic_kd.decoding.search import SearchSettings
from acoustic_kd.language.lexicon import Lexicon

# The fields of a senone inventory that graphs need.
FakeInventory = namedtuple("FakeInventory", ("phones", "table", "num_senones"))

# Prefixes (BE, BEE T = BEET), one-phone words, a variant with another end, a homophone-free rest.
LEXICON = Lexicon(
    {
        "A": (("AH",), ("EY",)),
        "B": (("B", "IY"),),
        "BEET": (("B", "IY", "T"),),
        "BEETLE": (("B", "IY", "T", "AH", "L"),),
        "EAT": (("IY", "T"),),
        "TEA": (("T", "IY"),),
        "TEAL": (("T", "IY", "L"),),
        "ILL": (("EY", "L"), ("AH", "L")),
        "OH": (("OW",),),
    }
)
PHONES = ("SIL", *LEXICON.phones())
WORDS = sorted(LEXICON.entries)


def inventory(contexts: int, seed: int = 0, phones: tuple[str, ...] = PHONES) -> FakeInventory:
    """Senones by chance: each (phone, state) has `contexts` classes that its triphones share."""
    rng = np.random.default_rng(seed)
    count = len(phones)
    table = np.zeros((count, count, count, 3), np.int32)
    table[:, 0] = [0, 1, 2]
    for centre in range(1, count):
        for state in range(3):
            first = 3 + ((centre - 1) * 3 + state) * contexts
            table[:, centre, :, state] = first + rng.integers(contexts, size=(count, count))
    return FakeInventory(tuple(phones), table, 3 + (count - 1) * 3 * contexts)


SENONES = inventory(40)
# A search that finds the best path.
WIDE = SearchSettings(
    beam=40, max_active=10**6, lattice_beam=40, acoustic_scale=0.2, max_lattice_arcs=10**6
)


def spell(
    words: list[str],
    senones: FakeInventory,
    rng: np.random.Generator,
    pauses: bool = True,
    lexicon: Lexicon = LEXICON,
) -> np.ndarray:
    """[T] senones of `words`: pronunciations, pauses, durations (1-4 frames) by chance."""
    phones = ["SIL"] if pauses and rng.random() < 0.5 else []
    for word in words:
        prons = lexicon[word]
        phones += prons[rng.integers(len(prons))]
        phones += ["SIL"] if pauses and rng.random() < 0.5 else []
    numbers = [0, *(senones.phones.index(phone) for phone in phones), 0]
    path = [
        senone
        for left, centre, right in zip(numbers, numbers[1:], numbers[2:], strict=False)
        for state in range(3)
        for senone in [senones.table[left, centre, right, state]] * rng.integers(1, 5)
    ]
    return np.array(path, np.int32)


def loglikes(path: np.ndarray, num_senones: int, contrast: float = 60.0) -> np.ndarray:
    """[T, K]: 0 for the path's senones, -contrast for all others."""
    matrix = np.full((len(path), num_senones), -contrast, np.float32)
    matrix[np.arange(len(path)), path] = 0.0
    return matrix


def arpa_uniform(path, words=tuple(LEXICON.entries)) -> None:
    """A unigram model in which every word and the sentence end are alike."""
    logprob = -np.log10(len(words) + 1)
    rows = "".join(f"{logprob:.6f}\t{word}\n" for word in [*words, "</s>"])
    path.write_text(
        f"\\data\\\nngram 1={len(words) + 2}\n\n\\1-grams:\n-99\t<s>\n{rows}\n\\end\\\n"
    )
