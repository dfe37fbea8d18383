"""Several experiments, or folds, side by side: results, differences, the settings that differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from acoustic_kd.decoding.scoring import error_counts
from acoustic_kd.reports.charts import Row, rows
from acoustic_kd.reports.experiment_files import ExperimentFiles, differing_settings, side_by_side
from acoustic_kd.reports.frame_sections import STYLES
from acoustic_kd.reports.page import NONE, Note, Part, Picture, Section, Table
from acoustic_kd.reports.results import differences
from acoustic_kd.reports.sections import difference_part, gain_pictures, system_rows
from acoustic_kd.reports.tables import wer_first

FOLD = "corpus.fold"  # the setting in which folds differ


def results_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """The systems of several experiments, with a warning where figures cannot be compared."""
    text, parts = "", comparison_parts(experiments)
    corpora = sorted({experiment.results["corpus"] for experiment in experiments})
    if len(corpora) > 1:
        text = f"The corpora differ ({', '.join(corpora)}): figures cannot be compared."
    elif not _same_test(experiments):
        text = "Test utterances or their words differ: figures cannot be compared."
    elif len({_inventory(experiment) for experiment in experiments} - {None}) > 1:
        text = "The senones differ: compare word error rates, not frame accuracies."
    warning = [Note(text, caution=True)] if text else []
    return Section("results", "Results", [*warning, *parts])


def _same_test(experiments: Sequence[ExperimentFiles]) -> bool:
    """Whether all test on the same words of the same utterances, as far as files can tell."""
    first = experiments[0].references
    return bool(first) and all(experiment.references == first for experiment in experiments[1:])


def _inventory(experiment: ExperimentFiles) -> str | None:
    """The digest of the senones; None where the soft targets were deleted."""
    entries = experiment.soft_targets.entries.values()
    return next((entry.header.inventory for entry in entries), None)


def comparison_parts(experiments: Sequence[ExperimentFiles]) -> list[Part]:
    """The systems in a table, and their figures on test in pictures."""
    table = side_by_side(experiments, lambda experiment: wer_first(experiment.results))
    legend = list(STYLES.items())
    note = "Filled, with the figure at the end: the distilled models."
    parts: list[Part] = [Table(table), Note(note)]
    for key, title, note in (
        ("frame_accuracy", "Frame accuracy on test", ""),
        ("wer", "Word error rate on test", "With the distilled models' 95 % intervals."),
    ):
        entries = []
        for experiment in experiments:
            by_kind = system_rows(experiment.results, key)
            *others, own = (by_kind[kind] for kind in STYLES if kind in by_kind)
            points = [(row.style, row.value) for row in others if row.value is not None]
            entries.append(Row(experiment.name, points, own.value, own.interval, own.style))
        parts.append(Picture(title, rows(title, "%", entries, legend, 2), note))
    return parts


def folds_section(experiment: ExperimentFiles) -> Section:
    """Each fold beside the others; nothing without folds."""
    folds, parts = experiment.folds, list[Part]()
    if len(folds) > 1:
        if unexpected := [key for key in differing_settings(folds) if key != FOLD]:
            text = f"The folds differ in more than {FOLD}: {', '.join(unexpected)}."
            parts.append(Note(text, caution=True))
        parts += comparison_parts(folds)
        parts += gain_pictures({fold.name: fold.results for fold in folds})
    return Section("folds", "Each fold", parts)


def differences_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """The distilled models of each experiment against those of the first."""
    title = f"Distilled models against those of {experiments[0].name}"
    measured = paired_differences(experiments) if _same_test(experiments) else None
    note = "Not measured: decoded words are missing, or test utterances differ."
    part = Note(note) if measured is None else difference_part(measured)
    return Section("differences", title, [part])


def paired_differences(experiments: Sequence[ExperimentFiles]) -> dict[str, Any] | None:
    """By how much the distilled models of each experiment differ from the first's, on test.

    Args:
        experiments: with the same test utterances.

    Returns:
        `frame_accuracy` and `wer` as `differences` of `results.json`; None where measurements are
        missing, or other frames were counted.
    """
    if not all(experiment.measurements for experiment in experiments):
        return None
    references, speakers = experiments[0].references, experiments[0].speakers
    words, frames = [], []
    for experiment in experiments:
        names = experiment.of_kind("distilled")
        counts = [error_counts(references, experiment.transcripts[name]) for name in names]
        words.append(np.mean(counts, axis=0)[:, :2])
        measured = [experiment.measurements[name].frames["test"] for name in names]
        frames.append({u: np.mean([model[u] for model in measured], axis=0) for u in measured[0]})
    utterances = list(frames[0])
    if any(set(counted) != set(utterances) for counted in frames):
        return None
    right = np.array([[counted[u] for u in utterances] for counted in frames])  # [experiments,U,2]
    if (right[:, :, 1] != right[0, :, 1]).any():
        return None
    wrong, errors = (right[:, :, 1] - right[:, :, 0]).T, np.stack(words)[:, :, 0].T
    pairs = {experiment.name: (n, 0) for n, experiment in enumerate(experiments) if n}
    return {
        what: differences(counts, totals, [speakers[u] for u in names], pairs)
        for what, counts, totals, names in (
            ("frame_accuracy", wrong, right[0, :, 1], utterances),
            ("wer", errors, words[0][:, 1], list(references)),
        )
    }


def settings_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """The settings in which the experiments differ."""
    title, keys = "Settings that differ", differing_settings(experiments)
    if not keys:
        known = any(experiment.settings for experiment in experiments)
        text = "No setting that shapes results." if known else "No stage has a record of settings."
        return Section("settings", title, [Note(text)])
    table = [["setting", *(experiment.name for experiment in experiments)]]
    table += [[key, *(str(e.settings.get(key, NONE)) for e in experiments)] for key in keys]
    note = Note(f"{NONE}: not set; the default is used.")
    return Section("settings", title, [note, Table(table)])
