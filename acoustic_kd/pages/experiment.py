"""The report of one experiment, `report.html`: what is most wanted first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acoustic_kd.comparison import difference_table, speaker_table
from acoustic_kd.pages import frames
from acoustic_kd.pages.charts import Row, rows
from acoustic_kd.pages.parts import NONE, Note, Part, Picture, Section, Table, render
from acoustic_kd.pages.sentences import differing
from acoustic_kd.pages.source import Source
from acoustic_kd.pages.tables import SIZE_HEADING, size_rows, system_rows, training_pictures
from acoustic_kd.report import gain_sentences, table_rows, transfer_sentences

NO_FRAMES = (
    "These figures were not measured: an older version decoded this experiment. Delete its "
    "decode folder and run the stages decode and report to have them."
)


def report_page(directory: Path, results: dict[str, Any]) -> str:
    """The report of an experiment.

    Args:
        results: the contents of its `results.json`.
    """
    source = Source(Path(directory).resolve().name, Path(directory), results)
    lead = [
        *(f"{line[0].upper()}{line[1:]}." for line in gain_sentences(results)),
        *(f"{line[0].upper()}{line[1:]}." for line in transfer_sentences(results)),
    ]
    sections = [
        _results(source),
        _training(source),
        _cost(source),
        _sentences(source),
        _soft_targets(source),
        *_frames(source),
        _models(source),
        _speakers(source),
        _settings(source),
    ]
    return render(f"{results['corpus']}: baseline, ensemble, distilled", lead, sections)


def _results(source: Source) -> Section:
    results = source.results
    drawn = results["differences"]["wer"]["drawn"]
    return Section(
        "results",
        "Results",
        [
            Table(
                table_rows(results),
                "Percent; ± is the standard deviation over models, 95 % a bootstrap interval over "
                "test utterances. LM weight and insertion penalty were tuned on dev.",
            ),
            Picture(
                "Frame accuracy on test",
                rows("Frame accuracy on test", "%", system_rows(results, "frame_accuracy"), (), 2),
                "Filled: the system; in outline: its single models.",
            ),
            Picture(
                "Word error rate on test",
                rows("Word error rate on test", "%", system_rows(results, "wer"), (), 2),
                "With 95 % intervals; fewer is better.",
            ),
            *_gains(results),
            Table(
                difference_table(results),
                "Differences in points; 95 % and the probability of being better are of a paired "
                f"bootstrap over test {drawn}.",
            ),
        ],
    )


def _gains(results: Any) -> list[Picture]:
    """The share of the ensemble's gain that is kept, where it can be told."""
    entries = []
    for what, title in (("frame_accuracy", "frame accuracy"), ("wer", "WER")):
        share, interval = results["gain_kept"][what], results["gain_kept_ci95"][what]
        if share is not None and interval is not None:
            bounds = (100 * interval[0], 100 * interval[1])
            entries.append(Row(title, (), 100 * share, bounds, frames.STYLES["distilled"]))
    if not entries:
        return []
    title = "Gain of the ensemble that is kept"
    drawn = rows(title, "% of the gain", entries, (), 0)
    return [Picture(title, drawn, "0: as good as a member; 100: as the ensemble. 95 % intervals.")]


def _training(source: Source) -> Section:
    series = [
        (f"{kind}{f' ({len(source.of_kind(kind))})' if len(source.of_kind(kind)) > 1 else ''}",
         source.curves[name], frames.STYLES[kind])
        for name, kind in source.models.items()
        if name in source.curves
    ]  # fmt: skip
    parts: list[Note | Picture] = [
        Note("Every member and every distilled model. What is kept is the best epoch on dev.")
    ]
    found = training_pictures(series)
    if not found:
        parts = [Note("There is no record of training (metrics.jsonl) beside the models.")]
    return Section("training", "Training", [*parts, *found])


def _cost(source: Source) -> Section:
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


def _sentences(source: Source) -> Section:
    one, other = source.of_kind("baseline")[0], source.of_kind("distilled")[0]
    parts: Sequence[Part] = [Note("What was recognised is not there any more (decode/…/test.txt).")]
    if source.references:
        shown = [one, "ensemble", other]
        parts = differing(source.references, source.transcripts, one, other, shown)
    return Section("sentences", "Decoded sentences", parts)


def _soft_targets(source: Source) -> Section:
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


def _frames(source: Source) -> list[Section]:
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


def _models(source: Source) -> Section:
    heading = [
        "model", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "errors", "LM weight",
        "penalty", "search unfinished",
    ]  # fmt: skip
    table = [heading]
    for model in source.results["each_model"]:
        test = model["wer"]["test"]
        table.append(
            [
                model["name"],
                *(f"{model['frame_accuracy'][split]:.2f}" for split in ("dev", "test")),
                f"{model['wer']['dev']['percent']:.2f}",
                f"{test['percent']:.2f}",
                f"{test['errors']} of {test['words']}",
                f"{model['lm_weight']:g}",
                f"{model['insertion_penalty']:g}",
                f"{model['unfinished']['test']}",
            ]
        )
    return Section("models", "Every model", [Table(table)], folded=True)


def _speakers(source: Source) -> Section:
    table = speaker_table(source.results)
    return Section("speakers", "By speaker", [Table(table)] if table else [], folded=True)


def _settings(source: Source) -> Section:
    command = source.results.get("command")
    parts: list[Note | Table] = [Note(f"Made again by: {command}")] if command else []
    parts.append(Note(f"Digest of the settings: {source.results['config_digest']}"))
    if source.settings:
        table = [[key, str(value)] for key, value in sorted(source.settings.items())]
        parts.append(Table([["setting", "value"], *table]))
    return Section("settings", "Settings", parts, folded=True)
