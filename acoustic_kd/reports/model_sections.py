"""Training, size and speed of the models of one or several experiments, and their soft targets."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from acoustic_kd.reports.charts import MARKS, Series, lines
from acoustic_kd.reports.experiment_files import ExperimentFiles, side_by_side
from acoustic_kd.reports.frame_sections import STYLES
from acoustic_kd.reports.page import NONE, Note, Part, Picture, Section, Table
from acoustic_kd.system.records import read_done

MAX_PROBLEMS = 3  # of a store of soft targets, that are listed


def training_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """Every model of one experiment, by kind; the distilled ones of several, by experiment."""
    if len(experiments) > 1:
        title = "Training of the distilled models"
        text = f"Colours, dashes and marks repeat after {len(MARKS)} experiments."
        parts: list[Part] = [Note(text, caution=True)] if len(experiments) > len(MARKS) else []
        series = [
            (experiment.name, curve, number)
            for number, experiment in enumerate(experiments)
            for curve in experiment.curves["distilled"]
        ]
        return Section("training", title, [*parts, *training_pictures(series)])
    (experiment,) = experiments
    counts = {kind: len(experiment.of_kind(kind)) * len(experiment.directories) for kind in STYLES}
    labels = {kind: f"{kind} ({count})" if count > 1 else kind for kind, count in counts.items()}
    curves = [
        (labels[kind], curve, STYLES[kind])
        for kind, of_kind in experiment.curves.items()
        if kind in STYLES  # not of further shapes
        for curve in of_kind
    ]
    note = "Every member and every distilled model. The best epoch on dev is kept."
    if not curves:
        note = "metrics.jsonl is missing beside the models."
    return Section("training", "Training", [Note(note), *training_pictures(curves)])


def training_pictures(series: Sequence[tuple[str, list[dict[str, Any]], int]]) -> list[Picture]:
    """Curves of dev frame accuracy, dev loss and learning rate, for (label, epochs, style)."""
    pictures = []
    for key, title, up, factor in (
        ("dev_frame_accuracy", "Frame accuracy on dev", "%", 1.0),
        ("dev_loss", "Loss on dev, hard targets", "nats a frame", 1.0),
        ("learning_rate", "Learning rate", "× 10⁻³", 1e3),
    ):
        curves = []
        for label, epochs, style in series:
            points = [(e["epoch"], factor * e[key]) for e in epochs if e.get(key) is not None]
            curves += [Series(label, points, style)] if points else []
        if curves:
            pictures.append(Picture(title, lines(title, "epoch", up, curves)))
    return pictures


def cost_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """Size, speed and memory; of a single experiment also minutes by stage and the graph."""
    folds = [fold for experiment in experiments for fold in experiment.folds]
    caption = (
        "One model of the kind; of the ensemble, all its members together. Training: time on the "
        "machine, with whatever else ran on it. × real time: seconds for each second of audio, the "
        f"search on one core; {NONE}: not measured."
    )
    parts: list[Part] = [Table(side_by_side(folds, size_rows), caption)]
    if len(folds) == 1:
        if minutes := folds[0].results.get("minutes", {}):
            cells = [f"{took:g}" for took in minutes.values()]
            parts.append(Table([["stage", *minutes], ["minutes", *cells]]))
        if graph := _graph_sizes(folds[0].graph):
            parts.append(Note(f"Decoding graph: {', '.join(graph)}."))
    return Section("cost", "Size, speed, memory", parts)


def size_rows(experiment: ExperimentFiles) -> list[list[str]]:
    """Heading and one row a kind of system."""
    heading = [
        "system", "networks", "weights", "model files", "training", "frames/s in training",
        "acoustic model, × real time", "search, × real time",
    ]  # fmt: skip
    table = [heading]
    for system in experiment.results["systems"]:
        kind = system["name"]
        is_sum = kind == "ensemble"  # all members; the others are one model each
        folders = experiment.model_directories("baseline" if is_sum else kind)
        records = [read_done(folder) or {} for folder in folders]
        sizes = [record.get("files", {}).get("model.safetensors") for record in records]
        seconds = [record.get("seconds") for record in records]
        curves = experiment.curves[kind]
        speeds = [median(epoch["frames_per_second"] for epoch in curve) for curve in curves]
        frames = experiment.frames.get(kind, [])
        table.append(
            [
                kind,
                f"{system['members']}",
                f"{system['parameters'] / 1e6:.2f} M",
                _sum_or_mean(sizes, is_sum, 1e6, "MB"),
                _sum_or_mean(seconds, is_sum, 60, "min"),
                f"{fmean(speeds):,.0f}" if speeds else NONE,
                f"{fmean(f['real_time_factor'] for f in frames):.3f}" if frames else NONE,
                f"{system['real_time_factor']:.3f}",
            ]
        )
    return table


def _sum_or_mean(values: Sequence[float | None], is_sum: bool, unit: float, name: str) -> str:
    """The sum of some values in a unit, or their mean; NONE where one of them is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NONE
    return f"{(sum(known) if is_sum else fmean(known)) / unit:.1f} {name}"


def _graph_sizes(graph: Mapping[str, Any]) -> list[str]:
    forms = {
        "words": "{:,} words",
        "ngrams": "{:,} n-grams",
        "states": "{:,} states",
        "arcs": "{:,} arcs",
        "megabytes": "{:g} MB",
        "peak_gib": "made with {:g} GiB of memory at most",
    }
    return [form.format(graph[key]) for key, form in forms.items() if key in graph]


def soft_target_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """What the manifests of the soft targets say, a column an experiment."""
    folds = [fold for experiment in experiments for fold in experiment.folds]
    columns = [dict(fold.soft_targets.rows()) for fold in folds]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    if not keys:
        return Section("soft-targets", "Soft targets", [Note("The soft targets were deleted.")])
    names = [fold.name for fold in folds] if len(folds) > 1 else [""]
    note = (
        "Figures of the stored targets, from their manifest. Kept mass: the share of the "
        "ensemble's tempered prediction that the kept classes have; KL to dense: from that "
        "prediction to the stored one."
    )
    table = [["of the store", *names]]
    table += [[key, *(column.get(key, NONE) for column in columns)] for key in keys]
    parts: list[Part] = [Note(note), Table(table)]
    for fold in folds:
        problems = fold.soft_targets.problems[:MAX_PROBLEMS]
        parts += [Note(problem, caution=True) for problem in problems]
    return Section("soft-targets", "Soft targets", parts)
