"""Sections on the results of one experiment, from `results.json`."""

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import Any

from acoustic_kd.reports.charts import Row, Series, lines, rows
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.frame_sections import STYLES
from acoustic_kd.reports.page import Note, Part, Picture, Section, Table
from acoustic_kd.reports.results import GAINS, kind_of
from acoustic_kd.reports.tables import (
    MEASURES,
    RESULTS_CAPTION,
    SHAPES_CAPTION,
    difference_caption,
    difference_table,
    figure_on_test,
    shape_rows,
    speaker_table,
    times_real_time,
    wer_first,
)


def results_section(experiment: ExperimentFiles) -> Section:
    """The table, intervals, single models, the share of the gain that is kept, differences."""
    results = experiment.results
    parts: list[Part] = [Table(wer_first(results), RESULTS_CAPTION)]
    outlined = "Filled: the system; in outline: its single models."
    for what, title, note in (
        ("frame_accuracy", "Frame accuracy on test", outlined),
        ("wer", "Word error rate on test", "With 95 % intervals; fewer is better."),
    ):
        drawn = rows(title, "%", list(system_rows(results, what).values()), (), 2)
        parts.append(Picture(title, drawn, note))
    parts += [*gain_pictures({"": results}), difference_part(results["differences"])]
    return Section("results", "Results", parts)


def difference_part(differences: Mapping[str, Any]) -> Table:
    """The table of paired differences, `differences` of `results.json`."""
    return Table(difference_table(differences), difference_caption(differences))


def gain_pictures(experiments: Mapping[str, Mapping[str, Any]]) -> list[Picture]:
    """The share of the ensemble's gain that is kept, where it has an interval.

    Args:
        experiments: name → results, all in one picture; a single one may have the name "".
    """
    entries = []
    for name, results in experiments.items():
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


def system_rows(results: Mapping[str, Any], what: str) -> dict[str, Row]:
    """A row a kind of system on test: its single models, their mean and, of WER, the interval.

    Args:
        what: `frame_accuracy` or `wer`.
    """
    entries = {}
    for system in results["systems"]:
        kind = system["name"]
        style = STYLES[kind.partition(" ")[0]]
        models = [model for model in results["each_model"] if kind_of(model) == kind]
        several = len(models) > 1
        points = [(style, figure_on_test(model, what)) for model in models] if several else []
        label = f"{kind}, mean of {len(models)}" if several else kind
        interval = tuple(system["wer"]["test"]["ci95"]) if what == "wer" else None
        entries[kind] = Row(label, points, figure_on_test(system, what), interval, style)
    return entries


def models_section(experiment: ExperimentFiles) -> Section:
    """Every model that was measured."""
    heading = [
        "model", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "errors", "LM weight",
        "penalty", "search unfinished",
    ]  # fmt: skip
    table = [heading]
    for model in experiment.results["each_model"]:
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


def speakers_section(experiment: ExperimentFiles) -> Section:
    """Figures of each system by test speaker."""
    table = speaker_table(experiment.results)
    return Section("speakers", "By speaker", [Table(table)] if table else [], folded=True)


def settings_section(experiment: ExperimentFiles) -> Section:
    """The command and the settings, of folds those that all have in common."""
    title = "Settings of all folds" if len(experiment.directories) > 1 else "Settings"
    digest = experiment.results["config_digest"]
    parts: list[Part] = [Note(f"Digest of the settings: {digest}")]
    if experiment.settings:
        table = [[key, str(value)] for key, value in sorted(experiment.settings.items())]
        parts.append(Table([["setting", "value"], *table]))
    return Section("settings", title, parts, folded=True)


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
        height = figure_on_test(system, what)
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
