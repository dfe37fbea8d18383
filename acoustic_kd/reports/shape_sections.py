"""The shapes of the distilled model, from hard targets alone and from soft targets."""

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import Any

from acoustic_kd.reports.charts import Series, lines
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.frame_sections import STYLES
from acoustic_kd.reports.page import Part, Picture, Section, Table
from acoustic_kd.reports.tables import SHAPES_CAPTION, shape_rows, times_real_time


def shapes_section(experiment: ExperimentFiles) -> Section:
    """Accuracy and WER of each shape of the distilled model against its size and its cost."""
    results = experiment.results
    parts: list[Part] = []
    if table := shape_rows(results):
        parts.append(Table(table, SHAPES_CAPTION))
        for what, up in (("frame_accuracy", "frame accuracy, %"), ("wer", "WER, %")):
            for across in ("millions of weights", "× real time"):
                series, ticks = shape_series(results, what, across)
                title = f"{up.partition(',')[0]} on test against {across}"
                drawn = lines(title, across, up, series, x_ticks=ticks)
                parts.append(Picture(title[0].upper() + title[1:], drawn))
    return Section("shapes", "Shapes of the distilled model", parts)


def shape_series(
    results: Mapping[str, Any], what: str, across: str
) -> tuple[list[Series], list[tuple[float, str]]]:
    """A line for hard and one for soft targets on a logarithmic axis, with its ticks."""
    points: dict[str, list[tuple[float, float]]] = {}
    for system in results["systems"]:
        kind = system["name"].partition(" ")[0]
        weights = system["parameters"] / 1e6
        place = times_real_time(system) if across == "× real time" else weights
        figure = system[what]["test"]
        height = figure["percent"] if what == "wer" else figure
        points.setdefault(kind, []).append((log10(max(place, 1e-9)), height))
    labels = {"baseline": "member", "control": "hard targets", "distilled": "soft targets"}
    series = [
        Series(labels.get(kind, kind), sorted(places), STYLES[kind])
        for kind, places in points.items()
    ]
    places = [x for curve in series for x, _ in curve.points]
    low, high = min(places), max(places)
    margin = 0.2 if high - low < 0.4 else 0.0  # so that there is a tick
    values = [d * 10.0**power for power in range(floor(low) - 1, ceil(high) + 1) for d in (1, 2, 5)]
    near = [value for value in values if low - margin <= log10(value) <= high + margin]
    return series, [(log10(value), f"{value:g}") for value in near]
