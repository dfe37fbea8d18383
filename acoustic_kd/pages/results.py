"""What a page shows of results.json, be it of one experiment or of folds that are pooled."""

from collections.abc import Mapping, Sequence
from typing import Any

from acoustic_kd.comparison import difference_table, speaker_table
from acoustic_kd.pages.charts import Row, rows
from acoustic_kd.pages.frames import STYLES
from acoustic_kd.pages.parts import Note, Part, Picture, Section, Table
from acoustic_kd.pages.source import Source
from acoustic_kd.pages.tables import system_rows
from acoustic_kd.report import GAINS
from acoustic_kd.report_text import (
    MEASURES,
    sentences,
    table_rows,
)


def lead_of(results: Mapping[str, Any]) -> list[str]:
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


def side_by_side(sources: Sequence[Source], what: str) -> list[Part]:
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
