"""The report of one experiment, `report.html`: what is most wanted first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acoustic_kd.reports import frame_sections as frames
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.page import NONE, Note, Part, Section, Table, render
from acoustic_kd.reports.sections import (
    SIZE_HEADING,
    models_section,
    results_section,
    size_rows,
    speakers_section,
    summary_lines,
    training_section,
)
from acoustic_kd.reports.sentences import differing

NO_FRAMES = (
    "These figures were not measured: an older version decoded this experiment. Delete its "
    "decode folder and run the stages decode and report to have them."
)


def report_page(directory: Path, results: dict[str, Any]) -> str:
    """The report of an experiment.

    Args:
        results: the contents of its `results.json`.
    """
    source = ExperimentFiles(Path(directory).resolve().name, Path(directory), results)
    sections = [
        results_section(results),
        training_section([source]),
        _cost(source),
        _sentences(source),
        _soft_targets(source),
        *_frames(source),
        models_section(results),
        speakers_section(results),
        _settings(source),
    ]
    title = f"{results['corpus']}: {', '.join(s['name'] for s in results['systems'])}"
    return render(title, summary_lines(results), sections)


def _cost(source: ExperimentFiles) -> Section:
    minutes = source.results.get("minutes", {})
    parts: list[Note | Table] = [
        Table(
            [SIZE_HEADING, *size_rows(source)],
            "One model of the kind; of the ensemble, all its members together. Training: time of "
            "the machine, whatever else ran on it. × real time: seconds for each second of audio, "
            f"the search on one core; {NONE}: not measured.",
        )
    ]
    if minutes:
        parts.append(
            Table([["stage", *minutes], ["minutes", *(f"{took:g}" for took in minutes.values())]])
        )
    forms = {
        "words": "{:,} words",
        "ngrams": "{:,} n-grams",
        "states": "{:,} states",
        "arcs": "{:,} arcs",
        "megabytes": "{:g} MB",
        "peak_gib": "made with {:g} GiB of memory at most",
    }
    graph = [form.format(source.graph[key]) for key, form in forms.items() if key in source.graph]
    if graph:
        parts.append(Note(f"Decoding graph: {', '.join(graph)}."))
    return Section("cost", "Size, speed, memory", parts)


def _sentences(source: ExperimentFiles) -> Section:
    one, other = source.of_kind("baseline")[0], source.of_kind("distilled")[0]
    parts: Sequence[Part] = [Note("What was recognised is not there any more (decode/…/test.txt).")]
    if source.references:
        shown = [one, "ensemble", other]
        parts = differing(source.references, source.transcripts, one, other, shown)
    return Section("sentences", "Decoded sentences", parts)


def _soft_targets(source: ExperimentFiles) -> Section:
    found = source.soft_targets.rows()
    if not found:
        return Section("soft-targets", "Soft targets", [Note("They are not there any more.")])
    note = (
        "Of the stored targets, by their manifest. Kept mass: what the kept classes have of the "
        "ensemble's tempered prediction; KL to dense: from that prediction to what is stored."
    )
    table = Table([["of the store", ""], *([name, cell] for name, cell in found)])
    parts: list[Part] = [Note(note), table]
    parts += [Note(problem, caution=True) for problem in source.soft_targets.problems[:3]]
    return Section("soft-targets", "Soft targets", parts)


def _frames(source: ExperimentFiles) -> list[Section]:
    titles = {
        "phones": "Frame accuracy by phone",
        "confusions": "What soft targets know",
        "calibration": "Calibration",
    }
    if not source.frames:
        return [Section(name, title, [Note(NO_FRAMES)]) for name, title in titles.items()]
    figures = {kind: frames.pooled(parts) for kind, parts in source.frames.items()}
    (ensemble,) = source.frames["ensemble"]
    pictures = frames.example_pictures(ensemble)
    drawn, confused = frames.reliability(figures, frames.STYLES), frames.confusion_picture(ensemble)
    parts: dict[str, Sequence[Part]] = {
        "phones": frames.by_phone(figures),
        "confusions": [
            Note(
                "A test frame a phone that the ensemble gets right, with a probability of 0.9 or "
                "more where there is one, and of these the one in which it has most for other "
                "phones: its most probable senones (PHONE_STATE.NUMBER), tempered. Each column has "
                "a scale of its own; bold is the frame's own senone."
            ),
            *pictures[: frames.EXAMPLES],
            *([confused] if confused else []),
            frames.phone_table(ensemble, figures),
        ],
        "calibration": [frames.calibration_table(figures), *([drawn] if drawn else [])],
    }
    sections = [Section(name, title, parts[name]) for name, title in titles.items()]
    more = Section("examples", "More frames, tempered", pictures[frames.EXAMPLES :], folded=True)
    return [*sections, more]


def _settings(source: ExperimentFiles) -> Section:
    command = source.results.get("command")
    parts: list[Note | Table] = [Note(f"Made again by: {command}")] if command else []
    parts.append(Note(f"Digest of the settings: {source.results['config_digest']}"))
    if source.settings:
        table = [[key, str(value)] for key, value in sorted(source.settings.items())]
        parts.append(Table([["setting", "value"], *table]))
    return Section("settings", "Settings", parts, folded=True)
