"""Parts that the page of one experiment and the page of several share."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from acoustic_kd.pages.charts import Row, Series, lines
from acoustic_kd.pages.frames import STYLES
from acoustic_kd.pages.parts import NONE, Note, Picture, Section, Table
from acoustic_kd.pages.source import Source
from acoustic_kd.work import read_done

SIZE_HEADING = [
    "system", "networks", "weights", "model files", "training", "frames/s in training",
    "acoustic model, × real time", "search, × real time",
]  # fmt: skip


def size_rows(source: Source) -> list[list[str]]:
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


def size_table(sources: Sequence[Source], what: str) -> Table:
    """`size_rows` of several experiments; `what` they are heads the first column."""
    rows = [[source.name, *row] for source in sources for row in size_rows(source)]
    return Table([[what, *SIZE_HEADING], *rows])


def _size(source: Source, name: str) -> float | None:
    path = source.folders[name] / "model.safetensors"
    return path.stat().st_size / 1e6 if path.is_file() else None


def _minutes(source: Source, name: str) -> float | None:
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


def training_section(sources: Sequence[Source]) -> Section:
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
