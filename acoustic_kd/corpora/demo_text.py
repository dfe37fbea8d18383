"""Sentences of the demo's small grammars: `acoustic_kd.corpora.demo_languages`."""

import random

from acoustic_kd.corpora.demo_languages import GRAMMARS

Grammar = dict[str, list[str]]


def sentences(count: int, seed: int, language: str = "en") -> list[str]:
    """`count` different sentences; a longer list begins with the shorter one of the same seed."""
    rng = random.Random(f"sentences {seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        found[_expand("$SENTENCE", GRAMMARS[language], rng)] = None
    return list(found)


def vocabulary(language: str = "en") -> set[str]:
    """Every word of the grammar, as it is written there."""
    texts = (text for alternatives in GRAMMARS[language].values() for text in alternatives)
    return {word for text in texts for word in text.split() if not word.startswith("$")}


def _expand(text: str, grammar: Grammar, rng: random.Random) -> str:
    words = []
    for word in text.split():
        replaced = rng.choice(grammar[word[1:]]) if word.startswith("$") else ""
        words.append(_expand(replaced, grammar, rng) if replaced else word)
    return " ".join(words)
