"""Tables as text and as Markdown; the comparison in tables and sentences, from the contents of
`results.json` (docs/results.md).
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from math import isnan
from typing import Any

from acoustic_kd.corpora.overlap import shared_speakers_text
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.reports.results import GAINS
from acoustic_kd.system.errors import printable

MAX_LAST_EPOCH_GAIN = 0.3  # points of dev frame accuracy; a larger gain is warned of

Rows = Sequence[Sequence[str]]  # of a table, its heading first


def as_text(rows: Rows) -> list[str]:
    """The lines of a table for a terminal: columns aligned, a rule below the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    heading, *rest = rows
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (heading, ["-" * width for width in widths], *rest)
    ]
    return [line.rstrip() for line in lines]


def as_markdown(rows: Rows) -> list[str]:
    """The lines of a table in Markdown; what is markup in a cell becomes text."""
    heading, *rest = ("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)
    return [heading, f"|{'|'.join('---' for _ in rows[0])}|", *rest]


def _escaped(cell: str) -> str:
    """A name as Markdown shows it: names of speakers may have any characters."""
    return re.sub(r"[\\|`*\[\]]", r"\\\g<0>", escape(printable(cell), quote=False))


def plus_minus(mean: float, deviation: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A number with its uncertainty, or alone where that is None or NaN.

    Args:
        digits: after the decimal point.
        sign: write "+" before a positive number.
    """
    text = f"{mean:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    known = deviation is not None and not isnan(deviation)
    return f"{text} ± {deviation:.{digits}f}" if known else text


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a system, as text."""
    rows = [
        ["system", "weights", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "95 %"]
    ]
    for system in results["systems"]:
        accuracy, wer = system["frame_accuracy"], system["wer"]
        low, high = wer["test"]["ci95"]
        models = "" if system["models"] == 1 else f" (mean of {system['models']})"
        if system["members"] > 1:
            models = f" of {system['members']}"
        rows.append(
            [
                system["name"] + models,
                f"{system['parameters'] / 1e6:.2f} M",
                f"{accuracy['dev']:.2f}",
                plus_minus(accuracy["test"], accuracy["sd"]),
                f"{wer['dev']['percent']:.2f}",
                plus_minus(wer["test"]["percent"], wer["test"]["sd"]),
                f"{low:.1f} … {high:.1f}",
            ]
        )
    return rows


def wer_first(results: Mapping[str, Any]) -> list[list[str]]:
    """`table_rows` with test before dev and WER first: a phone shows the first columns alone."""
    return [[row[n] for n in (0, 5, 6, 3, 4, 2, 1)] for row in table_rows(results)]


def headline(results: Mapping[str, Any]) -> str:
    """What was measured, in a line: the distilled model beside the ensemble and a member."""
    systems = {system["name"]: system for system in results["systems"]}
    distilled, ensemble, member = (
        [f"{figure_on_test(systems[kind], what):.1f} %" for what in MEASURES]
        for kind in ("distilled", "ensemble", "baseline")
    )
    folds = f" over {results['folds']} folds" if "folds" in results else ""
    return (
        f"{results['corpus']}{folds}: the distilled model has {distilled[0]} frame accuracy and "
        f"{distilled[1]} WER (ensemble: {' and '.join(ensemble)}; one member: "
        f"{' and '.join(member)})"
    )


def shape_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a shape: hard targets alone beside soft ones; nothing without shapes."""
    systems = {system["name"]: system for system in results["systems"]}
    if not any(name.startswith("distilled ") for name in systems):
        return []
    heading = ["shape", "network", "weights", "× real time", "learnt from"]
    rows = [[*heading, "frame acc. dev", "frame acc. test", "WER test", "95 %"]]
    for name, system in systems.items():
        kind, _, shape = name.partition(" ")
        low, high = system["wer"]["test"]["ci95"]
        learnt = {"ensemble": "", "distilled": "soft targets"}.get(kind, "hard targets")
        rows.append(
            [
                shape or {"baseline": "member", "ensemble": "ensemble"}.get(kind, "main"),
                system.get("network", ""),
                f"{system['parameters'] / 1e6:.2f} M",
                f"{times_real_time(system):.3f}",
                learnt,
                f"{system['frame_accuracy']['dev']:.2f}",
                f"{system['frame_accuracy']['test']:.2f}",
                f"{system['wer']['test']['percent']:.2f}",
                f"{low:.1f} … {high:.1f}",
            ]
        )
    return rows


def times_real_time(system: Mapping[str, Any]) -> float:
    """Seconds of network and search per second of speech."""
    return float(system["real_time_factor"] + system.get("network_real_time_factor", 0.0))


SHAPES_CAPTION = (
    "Each shape of the distilled model, from hard targets alone (its control) and from soft "
    "targets. × real time: seconds of network and search per second of speech, on one core."
)
MEASURES = {"frame_accuracy": "frame accuracy", "wer": "WER"}


def figure_on_test(system: Mapping[str, Any], what: str) -> float:
    """One of MEASURES of a system, or of a single model, in percent."""
    figure = system[what]["test"]
    return figure["percent"] if what == "wer" else figure


def gain_summary(results: Mapping[str, Any]) -> list[str]:
    """The gain of the distilled model in sentences: over its control first, then the share kept."""
    sentences = []
    if GAINS["control"] not in results:
        sentences.append(
            "there is no control (distill.hard_baseline=false): a gain may come from longer "
            "training instead of soft targets"
        )
    for what, title in MEASURES.items():
        pair = results["differences"][what]["pairs"].get("distilled over control")
        if pair is not None:
            sentences.append(f"{title}: {_over_control(pair)}")
        kept = [_kept_words(results, what, over) for over in GAINS if GAINS[over] in results]
        sentences.append(f"{title}: {'; '.join(kept)}")
    return sentences


def _over_control(pair: Mapping[str, Any]) -> str:
    low, high = pair["ci95"]
    shown = "" if low > 0 else ", so it is worse" if high < 0 else ", so no gain is shown"
    better = "better" if pair["points"] >= 0 else "worse"
    return (
        f"the distilled model is {abs(pair['points']):.2f} points {better} than the control "
        f"(95 %: {low + 0.0:+.2f} … {high + 0.0:+.2f}{shown})"
    )


def _kept_words(results: Mapping[str, Any], what: str, over: str) -> str:
    """The share of the ensemble's gain over one kind of system that the distilled model keeps."""
    share, interval = (results[f"{GAINS[over]}{suffix}"][what] for suffix in ("", "_ci95"))
    whom = {"baseline": "its members", "control": "the control"}[over]
    if share is None:
        return f"the ensemble does not beat {whom}, so no share of a gain is given"
    if interval is None:
        return f"the ensemble's gain over {whom} is too small for a reliable share"
    return (
        f"{100 * share:.0f} % of the ensemble's gain over {whom} is kept "
        f"(95 %: {100 * interval[0]:.0f} … {100 * interval[1]:.0f} %)"
    )


def training_sentences(results: Mapping[str, Any]) -> list[str]:
    """A warning for each model whose dev frame accuracy still rose in its last epoch."""
    return [
        f"warning: {name} was not trained to convergence: its last epoch gained {points:.2f} "
        f"points of dev frame accuracy; raise "
        f"{'train' if name.startswith('member') else 'distill'}.epochs"
        for name, points in results.get("last_epoch_gains", {}).items()
        if points > MAX_LAST_EPOCH_GAIN
    ]


def transfer_set_summary(results: Mapping[str, Any]) -> list[str]:
    """The untranscribed part of the transfer set in a sentence; nothing if there is none."""
    frames = results.get("transfer_set", {})
    if not frames.get("untranscribed"):
        return []
    share = frames["untranscribed"] / frames["frames"]
    hours = {name: count * SHIFT_SECONDS / 3600 for name, count in frames.items()}
    return [
        f"transfer set: {hours['frames']:.2f} h, {hours['untranscribed']:.2f} h "
        f"({100 * share:.0f} %) without transcripts"
    ]


def new_word_summary(results: Mapping[str, Any]) -> list[str]:
    """How many test words are new, and how many of them were recognised; nothing if none is."""
    counts = results.get("new_words", {})
    if not counts.get("new"):
        return []
    right = ", ".join(f"{name} {count}" for name, count in counts["right"].items())
    return [
        f"new words: {counts['new']} of {counts['words']} test words are neither in the train "
        f"transcripts nor in the language model's text; recognised: {right}"
    ]


def sentences(results: Mapping[str, Any]) -> list[str]:
    """All sentences below the tables."""
    precision = {True: "bfloat16", False: "float32"}.get(results.get("bfloat16", ""))
    return [
        *gain_summary(results),
        *transfer_set_summary(results),
        *new_word_summary(results),
        *map(shared_speakers_text, results.get("shared_speakers", [])),
        *training_sentences(results),
        *([f"the models were trained in {precision}"] if precision else []),
    ]


def terminal_table(results: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    lines = [*as_text(table_rows(results)), "", *as_text(difference_table(results["differences"]))]
    if table := shape_rows(results):
        lines += ["", *as_text(table)]
    return "\n".join(lines + [f"  {sentence}" for sentence in sentences(results)])


RESULTS_CAPTION = (
    "Figures in percent; ± is the standard deviation over models, 95 % a bootstrap interval over "
    "test utterances. LM weight and insertion penalty were tuned on dev."
)


def markdown(results: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    lines = [
        f"# {results['corpus']}: {', '.join(s['name'] for s in results['systems'])}",
        "",
        *as_markdown(table_rows(results)),
        "",
        *(f"- {sentence}" for sentence in sentences(results)),
        "",
        RESULTS_CAPTION,
        "",
        *as_markdown(difference_table(results["differences"])),
        "",
        difference_caption(results["differences"]),
    ]
    if table := shape_rows(results):
        lines += ["", "## Shapes", "", *as_markdown(table), "", SHAPES_CAPTION]
    if table := speaker_table(results):
        lines += ["", "## By speaker", "", *as_markdown(table)]
    return "\n".join(lines) + "\n"


SHOWN_SPEAKERS = range(2, 41)  # numbers of speakers for which there is a table


def difference_caption(differences: Mapping[str, Any]) -> str:
    """What the columns of `difference_table` mean."""
    return (
        "Differences in points; 95 % and the probability of being better are of a paired bootstrap "
        f"over test {differences['wer']['drawn']}."
    )


def difference_table(differences: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a pair of systems, as text; `differences`: as in `results.json`."""
    rows = [["on test", "frame acc., points", "95 %", "better", "WER, points", "95 %", "better"]]
    for name in differences["wer"]["pairs"]:
        row = [name]
        for what in ("frame_accuracy", "wer"):
            pair = differences[what]["pairs"][name]
            low, high = pair["ci95"]
            sign = 1 if what == "frame_accuracy" else -1  # fewer errors: a higher accuracy
            low, high = sorted((sign * low + 0.0, sign * high + 0.0))  # + 0.0: no "-0.00"
            row += [f"{sign * pair['points'] + 0.0:+.2f}", f"{low:+.2f} … {high:+.2f}"]
            row.append(f"{100 * pair['probability_better']:.0f} %")
        rows.append(row)
    return rows


def speaker_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a speaker, as text; nothing for one speaker or very many."""
    speakers = results.get("speakers", [])
    if len(speakers) not in SHOWN_SPEAKERS:
        return []
    kinds = [system["name"] for system in results["systems"]]
    rows = [["speaker", "words", *(f"WER {k}" for k in kinds), *(f"frame acc. {k}" for k in kinds)]]
    for row in speakers:
        cells = [row[kind]["wer"] for kind in kinds]
        cells += [row[kind]["frame_accuracy"] for kind in kinds]
        texts = ["" if cell is None else f"{cell:.2f}" for cell in cells]
        rows.append([row["speaker"], str(row["words"]), *texts])
    return rows
