"""Decoded sentences in which two systems differ, their errors marked."""

from collections.abc import Mapping, Sequence

import kaldialign

from acoustic_kd.decoding.error_listing import GAP
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.page import Note, Section, Sentence

MAX_SHOWN = 5  # sentences of each group

Words = Mapping[str, Sequence[str]]  # utterance → words


def sentences_section(experiment: ExperimentFiles) -> Section:
    """The test utterances in which the first member and the first distilled model differ."""
    title = "Decoded sentences"
    if not experiment.references:
        note = Note("The decoded words are missing (decode/…/test.txt).")
        return Section("sentences", title, [note])
    first, second = experiment.of_kind("baseline")[0], experiment.of_kind("distilled")[0]
    shown = [first, "ensemble", second]
    parts = differing_sentences(experiment.references, experiment.transcripts, first, second, shown)
    return Section("sentences", title, parts)


def mark_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str]]:
    """The words of a hypothesis and those it lacks, each with its mark."""
    marked = []
    for expected, word in kaldialign.align(list(reference), list(hypothesis), GAP):
        if expected == word:
            marked.append(("", word))
        elif expected == GAP:
            marked.append(("inserted", word))
        else:
            marked.append(("deleted", expected) if word == GAP else ("substituted", word))
    return marked


def differing_sentences(
    references: Words,
    transcripts: Mapping[str, Words],
    first: str,
    second: str,
    shown: Sequence[str],
) -> list[Note | Sentence]:
    """How often two systems differ, and the sentences where they do most.

    Args:
        transcripts: system → utterance → words.
        shown: the systems whose words are shown.
    """
    groups: dict[str, list[tuple[int, str]]] = {"fewer": [], "more": [], "as many": []}
    for name, reference in references.items():
        pair = [transcripts[system][name] for system in (first, second)]
        if pair[0] == pair[1]:
            continue
        errors = [kaldialign.edit_distance(reference, words)["total"] for words in pair]
        gain = errors[0] - errors[1]
        count = "fewer" if gain > 0 else "more" if gain < 0 else "as many"
        groups[count].append((-abs(gain), name))
    fewer, more, same = (len(group) for group in groups.values())
    parts: list[Note | Sentence] = [
        Note(
            f"{first} and {second} differ in {fewer + more + same} of {len(references)} test "
            f"utterances: {second} has fewer errors in {fewer}, more in {more}, as many in {same}. "
            f"Up to {MAX_SHOWN} of each are shown, the greatest differences first. Underlined: "
            "substituted; +: inserted; struck out: deleted."
        )
    ]
    for count, group in groups.items():
        if group:
            than = f"as {first}, but others" if count == "as many" else f"than {first}"
            parts.append(Note(f"{second} has {count} errors {than}:"))
        parts += [
            Sentence(
                name,
                " ".join(references[name]),
                {s: mark_errors(references[name], transcripts[s][name]) for s in shown},
            )
            for _, name in sorted(group)[:MAX_SHOWN]
        ]
    return parts
