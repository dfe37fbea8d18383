"""What a page shows of results.json, be it of one experiment or of folds that are pooled."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from acoustic_kd.reports.charts import Row, Series, lines, rows
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.frame_sections import STYLES
from acoustic_kd.reports.page import NONE, Note, Part, Picture, Section, Table
from acoustic_kd.reports.results import GAINS
from acoustic_kd.reports.tables import (
    MEASURES,
    difference_table,
    sentences,
    speaker_table,
    table_rows,
)
from acoustic_kd.system.steps import read_done


def summary_lines(results: Mapping[str, Any]) -> list[str]:
    """What is said first: what is kept of the gain, and on which transfer set."""
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences(results)]


def results_section(results: Mapping[str, Any]) -> Section:
    """The table, intervals, single models, the gain kept, differences."""
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
            *gain_pictures({"": results}),
            Table(
                difference_table(results),
                "Differences in points; 95 % and the probability of being better are of a paired "
                f"bootstrap over test {drawn}.",
            ),
        ],
    )


def gain_pictures(folds: Mapping[str, Mapping[str, Any]]) -> list[Picture]:
    """The share of the ensemble's gain that is kept, where it can be told.

    Args:
        folds: name → results, all in one picture; a single one may have no name.
    """
    entries = []
    for name, results in folds.items():
        for over, key in GAINS.items():
            for what, title in MEASURES.items():
                share = results.get(key, {}).get(what)
                interval = results.get(f"{key}_ci95", {}).get(what)
                if share is not None and interval is not None:
                    label = ", ".join([*([name] if name else []), title, f"over {over}"])
                    bounds = (100 * interval[0], 100 * interval[1])
                    entries.append(Row(label, (), 100 * share, bounds, STYLES["distilled"]))
    if not entries:
        return []
    title = "Gain of the ensemble that is kept"
    drawn = rows(title, "% of the gain", entries, (), 0)
    note = "0: as good as a member or the control; 100: as good as the ensemble. 95 % intervals."
    return [Picture(title, drawn, note)]


def comparison_parts(sources: Sequence[ExperimentFiles], what: str) -> list[Part]:
    """The systems of several experiments in a table, and the distilled ones in pictures.

    Args:
        what: the experiments are.
    """
    table = [[what, *table_rows(sources[0].results)[0]]]
    for source in sources:
        table += [[source.name, *row] for row in table_rows(source.results)[1:]]
    legend = [(kind, style) for kind, style in STYLES.items()]
    note = "Filled, with the figure at the end: the distilled models."
    parts: list[Part] = [Table(table), Note(note)]
    for key, title, note in (
        ("frame_accuracy", "Frame accuracy on test", ""),
        ("wer", "Word error rate on test", "With the distilled models' 95 % intervals."),
    ):
        entries = []
        for source in sources:
            *others, distilled = system_rows(source.results, key)
            points = [(row.style, row.value) for row in others if row.value is not None]
            entries.append(
                Row(source.name, points, distilled.value, distilled.interval, distilled.style)
            )
        parts.append(Picture(title, rows(title, "%", entries, legend, 2), note))
    return parts


def models_section(results: Mapping[str, Any]) -> Section:
    """Every model that was measured."""
    heading = [
        "model", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "errors", "LM weight",
        "penalty", "search unfinished",
    ]  # fmt: skip
    table = [heading]
    for model in results["each_model"]:
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


def speakers_section(results: Mapping[str, Any]) -> Section:
    """How each system fares with each speaker."""
    table = speaker_table(results)
    return Section("speakers", "By speaker", [Table(table)] if table else [], folded=True)


SIZE_HEADING = [
    "system", "networks", "weights", "model files", "training", "frames/s in training",
    "acoustic model, × real time", "search, × real time",
]  # fmt: skip


def size_rows(source: ExperimentFiles) -> list[list[str]]:
    """Of each kind of system what it takes, in the columns of SIZE_HEADING."""
    table = []
    for system in source.results["systems"]:
        kind = system["name"]
        # The ensemble is all members, the others are one model each.
        together = kind == "ensemble"
        models = source.of_kind("baseline" if together else kind)
        sizes = [_size(source, name) for name in models]
        minutes = [_minutes(source, name) for name in models]
        speeds = [
            median(row["frames_per_second"] for row in source.curves[name])
            for name in models
            if name in source.curves
        ]
        frames = source.frames.get(kind, [])
        table.append(
            [
                kind,
                f"{system['members']}",
                f"{system['parameters'] / 1e6:.2f} M",
                _one_or_all(sizes, together, "{:.1f} MB"),
                _one_or_all(minutes, together, "{:.1f} min"),
                f"{fmean(speeds):,.0f}" if speeds and not together else NONE,
                f"{fmean(f['real_time_factor'] for f in frames):.3f}" if frames else NONE,
                f"{system['real_time_factor']:.3f}",
            ]
        )
    return table


def size_table(sources: Sequence[ExperimentFiles], what: str) -> Table:
    """`size_rows` of several experiments; `what` they are heads the first column."""
    rows = [[source.name, *row] for source in sources for row in size_rows(source)]
    return Table([[what, *SIZE_HEADING], *rows])


def _size(source: ExperimentFiles, name: str) -> float | None:
    path = source.folders[name] / "model.safetensors"
    return path.stat().st_size / 1e6 if path.is_file() else None


def _minutes(source: ExperimentFiles, name: str) -> float | None:
    done = read_done(source.folders[name])
    return done["seconds"] / 60 if done and "seconds" in done else None


def _one_or_all(values: Sequence[float | None], together: bool, form: str) -> str:
    """The mean of some values, or their sum; nothing where one of them is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NONE
    return form.format(sum(known) if together else fmean(known))


def system_rows(results: Any, what: str) -> list[Row]:
    """A row a kind of system on test: its single models, their mean and, of WER, the interval.

    Args:
        what: `frame_accuracy` or `wer`.
    """
    entries = []
    for system in results["systems"]:
        kind, style = system["name"], STYLES[system["name"]]
        start = "member" if kind == "baseline" else kind
        models = [m for m in results["each_model"] if m["name"].partition("-")[0] == start]
        if what == "wer":
            values = [model["wer"]["test"]["percent"] for model in models]
            value, interval = system["wer"]["test"]["percent"], tuple(system["wer"]["test"]["ci95"])
        else:
            values = [model["frame_accuracy"]["test"] for model in models]
            value, interval = system["frame_accuracy"]["test"], None
        points = [(style, value) for value in values] if len(values) > 1 else []
        many = f", mean of {len(values)}" if len(values) > 1 else ""
        entries.append(Row(kind + many, points, value, interval, style))
    return entries


def training_pictures(series: Sequence[tuple[str, list[dict[str, Any]], int]]) -> list[Picture]:
    """Curves of dev frame accuracy and dev loss.

    Args:
        series: (label, rows of `metrics.jsonl`, style).
    """
    pictures = []
    for key, title, up in (
        ("dev_frame_accuracy", "Frame accuracy on dev", "%"),
        ("dev_loss", "Loss on dev, hard targets", "nats a frame"),
        ("learning_rate", "Learning rate", "× 10⁻³"),
    ):
        factor = 1e3 if key == "learning_rate" else 1.0
        curves = [
            Series(
                label,
                [(r["epoch"], factor * r[key]) for r in found if r.get(key) is not None],
                style,
            )
            for label, found, style in series
        ]
        curves = [curve for curve in curves if curve.points]
        if curves:
            pictures.append(Picture(title, lines(title, "epoch", up, curves)))
    return pictures


def training_section(sources: Sequence[ExperimentFiles]) -> Section:
    """The training of every model of an experiment, or of several alike."""
    counts = {kind: sum(len(source.of_kind(kind)) for source in sources) for kind in STYLES}
    labels = {kind: f"{kind} ({count})" if count > 1 else kind for kind, count in counts.items()}
    series = [
        (labels[kind], source.curves[name], STYLES[kind])
        for source in sources
        for name, kind in source.models.items()
        if name in source.curves
    ]
    pictures = training_pictures(series)
    note = "Every member and every distilled model. What is kept is the best epoch on dev."
    if not pictures:
        note = "There is no record of training (metrics.jsonl) beside the models."
    return Section("training", "Training", [Note(note), *pictures])
