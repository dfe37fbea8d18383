"""Decoded sentences of which two systems differ, their errors marked."""

from collections.abc import Mapping, Sequence

import kaldialign

from acoustic_kd.decoding.error_listing import NOTHING
from acoustic_kd.reports.page import Note, Sentence

SHOWN = 5  # of each of the groups

Words = Mapping[str, Sequence[str]]  # utterance → words


def marked(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str]]:
    """The words of a hypothesis, and those it lacks, each with its mark."""
    found = []
    for expected, word in kaldialign.align(list(reference), list(hypothesis), NOTHING):
        if expected == word:
            found.append(("", word))
        elif expected == NOTHING:
            found.append(("inserted", word))
        else:
            found.append(("deleted", expected) if word == NOTHING else ("substituted", word))
    return found


def differing(
    references: Words, transcripts: Mapping[str, Words], one: str, other: str, shown: Sequence[str]
) -> list[Note | Sentence]:
    """How often two systems differ, and the sentences where they do most.

    Args:
        transcripts: system → utterance → words.
        one, other: the two; the second may be better, worse, or wrong in other ways.
        shown: the systems that are shown of each sentence.
    """
    groups: dict[str, list[tuple[int, str]]] = {"fewer": [], "more": [], "as many": []}
    for name, reference in references.items():
        pair = [transcripts[system][name] for system in (one, other)]
        if pair[0] == pair[1]:
            continue
        errors = [kaldialign.edit_distance(reference, words)["total"] for words in pair]
        gain = errors[0] - errors[1]
        groups["fewer" if gain > 0 else "more" if gain < 0 else "as many"].append(
            (-abs(gain), name)
        )
    few, many, same = (len(found) for found in groups.values())
    parts: list[Note | Sentence] = [
        Note(
            f"{one} and {other} differ in {few + many + same} of {len(references)} test "
            f"utterances: {other} has fewer errors in {few}, more in {many}, as many in {same}. "
            f"Up to {SHOWN} of each are shown, the greatest differences first. Underlined: another "
            "word than was said; +: not said; struck out: said, but not recognised."
        )
    ]
    for how, found in groups.items():
        if found:
            than = f"as {one}, but others" if how == "as many" else f"than {one}"
            parts.append(Note(f"{other} has {how} errors {than}:"))
        parts += [
            Sentence(
                name,
                " ".join(references[name]),
                {s: marked(references[name], transcripts[s][name]) for s in shown},
            )
            for _, name in sorted(found)[:SHOWN]
        ]
    return parts
