"""Utterances and transcripts that a corpus has in different files: which belong together."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import zip_longest

from acoustic_kd.corpora.utterances import Exclusion, Utterance


def pair(
    split: str,
    spoken: Mapping[str, Utterance | str],
    rows: Iterable[tuple[str, str, str]],
    no_transcript: str,
    no_sound: Callable[[str], str],
    refuse: Callable[[str], str | None] = lambda words: None,
) -> tuple[list[Utterance], list[Exclusion]]:
    """Give each utterance its transcript. Every id of either side is kept or excluded.

    Args:
        spoken: id → utterance, or the reason why its sound cannot be used.
        rows: ("PATH:LINE", id, words) of each transcript; the ids are unique.
        no_transcript: the reason to exclude an utterance that no row has.
        no_sound: id of a transcript without utterance → the reason to exclude it.
        refuse: words → the reason why they cannot be used, if they cannot.
    """
    texts = {key: (where, words) for where, key, words in rows}
    kept, without_words = [], []
    for key, found in spoken.items():
        where, words = texts.get(key, ("", ""))
        problem = refuse(words) if words else "no words"
        if isinstance(found, str):
            without_words.append(Exclusion(key, split, found))
        elif not where:
            without_words.append(Exclusion(key, split, no_transcript))
        elif problem:
            without_words.append(Exclusion(key, split, f"{where}: {problem}"))
        else:
            kept.append(replace(found, text=words))
    without_sound = [Exclusion(key, split, no_sound(key)) for key in texts if key not in spoken]
    # In turn, so that the first few in a message show that ids differ between the files.
    both = zip_longest(without_words, without_sound)
    return kept, [exclusion for turn in both for exclusion in turn if exclusion]
