"""Several experiments side by side: what differs in their settings, and what came of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.decoding.scoring import error_counts
from acoustic_kd.reports.charts import MARKS
from acoustic_kd.reports.experiment_files import (
    ExperimentFiles,
    differing_settings,
    read_source,
    short_names,
)
from acoustic_kd.reports.experiment_page import NO_FRAMES
from acoustic_kd.reports.frame_sections import calibration_table, pooled, reliability
from acoustic_kd.reports.page import NONE, Note, Picture, Section, Table, render
from acoustic_kd.reports.results import differences
from acoustic_kd.reports.sections import comparison_parts, size_table, training_pictures
from acoustic_kd.reports.tables import difference_table, gain_summary
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_text

LEAST = 2  # experiments


def compare(directories: Sequence[Path], out: Path) -> None:
    """Write a page on finished experiments.

    Raises:
        UserError: there is only one, one is not finished or given twice, or none may be written
            there.
    """
    if len(directories) < LEAST:
        raise UserError("give the directories of two experiments or more")
    if Path(out).is_dir():
        raise UserError(f"--out is {out}, a folder; give the name of a file, such as compare.html")
    names = short_names([Path(directory).resolve() for directory in directories])
    pairs = zip(directories, names, strict=True)
    write_text(out, compare_page([read_source(directory, name) for directory, name in pairs]))


def compare_page(sources: Sequence[ExperimentFiles]) -> str:
    """The page."""
    title = f"{' and '.join([', '.join(s.name for s in sources[:-1]), sources[-1].name])} compared"
    lead = [
        f"{source.name}: {' '.join(f'{line}.' for line in gain_summary(source.results))}"
        for source in sources
    ]
    sections = [
        _results(sources),
        _differences(sources),
        _settings(sources),
        _training(sources),
        _cost(sources),
        _soft_targets(sources),
        _calibration(sources),
    ]
    return render(title, lead, sections)


def _results(sources: Sequence[ExperimentFiles]) -> Section:
    parts = [*_cautions(sources), *comparison_parts(sources, "experiment")]
    return Section("results", "Results", parts)


def _cautions(sources: Sequence[ExperimentFiles]) -> list[Note]:
    """Why figures may not be held against one another."""
    corpora = {source.results["corpus"] for source in sources}
    if len(corpora) > 1:
        text = (
            f"They are of different corpora ({', '.join(sorted(corpora))}): figures do not compare."
        )
        return [Note(text, caution=True)]
    if not _comparable(sources):
        text = "Not all test on the same utterances with the same words: figures do not compare."
        return [Note(text, caution=True)]
    if len({_senones(source) for source in sources}) > 1:
        text = "Their senones differ: frame accuracies do not compare, word error rates do."
        return [Note(text, caution=True)]
    return []


def _comparable(sources: Sequence[ExperimentFiles]) -> bool:
    """Whether all test on the same utterances, as far as these are there to be seen."""
    first = sources[0].references
    return bool(first) and all(source.references == first for source in sources[1:])


def _senones(source: ExperimentFiles) -> str | None:
    entries = source.soft_targets.entries.values()
    return next((entry.header.inventory for entry in entries), None)


def _differences(sources: Sequence[ExperimentFiles]) -> Section:
    """Of the distilled models of each experiment from those of the first."""
    title = f"Distilled models against those of {sources[0].name}"
    found = paired(sources) if _comparable(sources) else None
    if found is None:
        note = "Not told: what was decoded is not there any more, or not of the same utterances."
        return Section("differences", title, [Note(note)])
    caption = (
        "Differences in points; 95 % and the probability of being better are of a paired bootstrap "
        f"over test {found['wer']['drawn']}."
    )
    return Section("differences", title, [Table(difference_table({"differences": found}), caption)])


def paired(sources: Sequence[ExperimentFiles]) -> dict[str, dict[str, Any]] | None:
    """By how much the distilled models of each experiment differ from the first's, on test.

    Args:
        sources: of the same test utterances.

    Returns:
        `frame_accuracy` and `wer` as in `results.json`; None where measurements are not there, or
        other frames were counted.
    """
    if not all(source.measurements for source in sources):
        return None
    references, speakers = sources[0].references, sources[0].speakers
    words, frames = [], []
    for source in sources:
        names = source.of_kind("distilled")
        counts = [error_counts(references, source.transcripts[name]) for name in names]
        words.append(np.mean(counts, axis=0)[:, :2])
        measured = [source.measurements[name]["frames"]["test"] for name in names]
        frames.append({u: np.mean([one[u] for one in measured], axis=0) for u in measured[0]})
    named = list(frames[0])
    if any(set(one) != set(named) for one in frames):
        return None
    right = np.array([[one[u] for u in named] for one in frames])  # [experiments, U, 2]
    if (right[:, :, 1] != right[0, :, 1]).any():
        return None
    pairs = {source.name: (n, 0) for n, source in enumerate(sources) if n}
    both = {
        "frame_accuracy": ((right[:, :, 1] - right[:, :, 0]).T, right[0, :, 1], named),
        "wer": (np.stack(words)[:, :, 0].T, words[0][:, 1], list(references)),
    }
    return {
        what: differences(errors, totals, [speakers[u] for u in utterances], pairs)
        for what, (errors, totals, utterances) in both.items()
    }


def _settings(sources: Sequence[ExperimentFiles]) -> Section:
    """Those in which the experiments differ."""
    keys = differing_settings(sources)
    if not keys:
        known = any(source.settings for source in sources)
        text = "None that shapes results." if known else "There is no record of them."
        return Section("settings", "Settings that differ", [Note(text)])
    table = [["setting", *(source.name for source in sources)]]
    table += [[key, *(str(source.settings.get(key, NONE)) for source in sources)] for key in keys]
    note = Note(f"All that differ; {NONE}: not set, which is the default.")
    return Section("settings", "Settings that differ", [note, Table(table)])


def _training(sources: Sequence[ExperimentFiles]) -> Section:
    series = [
        (source.name, source.curves[name], number)
        for number, source in enumerate(sources)
        for name in source.of_kind("distilled")
        if name in source.curves
    ]
    pictures: list[Note | Picture] = [*training_pictures(series)]
    if len(sources) > len(MARKS):
        text = f"Colours, dashes and marks repeat after {len(MARKS)} experiments."
        pictures.insert(0, Note(text, caution=True))
    return Section("training", "Training of the distilled models", pictures)


def _cost(sources: Sequence[ExperimentFiles]) -> Section:
    return Section("cost", "Size, speed, memory", [size_table(sources, "experiment")])


def _soft_targets(sources: Sequence[ExperimentFiles]) -> Section:
    columns: list[Mapping[str, str]] = [dict(source.soft_targets.rows()) for source in sources]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    table = [["of the store", *(source.name for source in sources)]]
    table += [[key, *(column.get(key, NONE) for column in columns)] for key in keys]
    return Section("soft-targets", "Soft targets", [Table(table)] if keys else [])


def _calibration(sources: Sequence[ExperimentFiles]) -> Section:
    figures = {
        f"{source.name}, {kind}": pooled(parts)
        for source in sources
        for kind, parts in source.frames.items()
    }
    lacking = [source.name for source in sources if not source.frames]
    parts: list[Note | Table | Picture] = [Note(f"{name}: {NO_FRAMES}") for name in lacking]
    if figures:
        parts.append(calibration_table(figures, "experiment, system"))
        distilled = {
            source.name: figures[f"{source.name}, distilled"] for source in sources if source.frames
        }
        styles = {source.name: number for number, source in enumerate(sources)}
        drawn = reliability(distilled, styles)
        parts += [drawn] if drawn else []
    return Section("calibration", "Calibration", parts)
