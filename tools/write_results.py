#!/usr/bin/env python3
"""Write experiments into recipes/RESULTS.md: usage: tools/write_results.py EXP …

Each has its directory's name for a heading; the one on MNIST is `mnist`. What stands there of other
experiments stays as it is.
"""

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.mnist import report as mnist_report
from acoustic_kd.reports.deployment import CAPTION, Deployment, deployment_rows, read_deployment
from acoustic_kd.reports.tables import (
    MEASURES,
    SHAPES_CAPTION,
    as_markdown,
    difference_caption,
    difference_table,
    figure_on_test,
    sentences,
    shape_rows,
    speaker_table,
    table_rows,
)
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, write_text

PROGRAM = "tools/write_results.py"
TARGET = Path(__file__).parents[1] / "recipes" / "RESULTS.md"
HEAD = """# Results

Written by `tools/write_results.py` from the experiments' `results.json`; nothing here is typed.
± is the standard deviation over models, where nothing else is said.

Of speech, figures are percentages; 95 % is a bootstrap interval over the test utterances (of all
models of a row together). LM weight, insertion penalty, learning rate and the choice of the best
epoch rest on dev alone. Of mnist, figures are numbers of errors, where no % stands beside them.

The control is a model of the distilled model's shape and budget that was trained on hard targets
alone. A table without a control was measured with an earlier recipe whose distilled models trained
for more epochs than its members: it does not show what soft targets gain.
"""

SUMMARY = "Summary"
SUMMARY_HEADING = [
    "test set", "", "member", "control", "ensemble", "distilled", "smallest distilled",
    "ensemble over member", "distilled over control", "gain kept",
]  # fmt: skip
SUMMARY_CAPTION = (
    "On test, in percent; differences in points, in favour of the first of the two. Gain kept: "
    "the share of the ensemble's gain over its members that the distilled model keeps. In "
    "brackets: 95 % intervals; a difference whose interval contains 0 may be chance."
)
MODEL_HEADING = [
    "model", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "errors", "LM weight",
    "penalty", "search, × real time",
]  # fmt: skip


def summary(before: str, experiments: dict[str, dict]) -> str:
    """The table of all experiments on speech.

    Args:
        before: the summary as it is, whose rows of other experiments stay.
        experiments: name → results.
    """
    kept = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in before.splitlines()
        if line.startswith("| ") and line.split("|")[1].strip() != SUMMARY_HEADING[0]
    ]
    rows = [row for row in kept if row[0] not in experiments]
    for name, results in experiments.items():
        rows += [summary_row(name, results, *measure) for measure in MEASURES.items()]
    table = as_markdown([SUMMARY_HEADING, *rows])
    return "\n".join([f"## {SUMMARY}", "", *table, "", SUMMARY_CAPTION]) + "\n"


def summary_row(name: str, results: dict, measure: str, title: str) -> list[str]:
    """A measure of one experiment, below SUMMARY_HEADING."""
    systems = {system["name"]: system for system in results["systems"]}
    small = [s for s in systems.values() if s["name"].startswith("distilled ")]
    chosen = [systems.get(kind) for kind in ("baseline", "control", "ensemble", "distilled")]
    chosen.append(min(small, key=lambda s: s["parameters"], default=None))

    def figure(system: dict | None) -> str:
        return "" if system is None else f"{figure_on_test(system, measure):.2f}"

    def difference(pair: str) -> str:
        found = results["differences"][measure]["pairs"].get(pair)
        if found is None:
            return ""
        low, high = found["ci95"]
        return f"{found['points'] + 0.0:+.2f} ({low + 0.0:+.2f} … {high + 0.0:+.2f})"

    share, interval = (results[f"gain_kept{suffix}"][measure] for suffix in ("", "_ci95"))
    kept = "" if share is None or interval is None else f"{100 * share:.0f} %"
    kept += f" ({100 * interval[0]:.0f} … {100 * interval[1]:.0f})" if kept else ""
    pairs = "ensemble over baseline", "distilled over control"
    return [name, title, *map(figure, chosen), *map(difference, pairs), kept]


def section(
    name: str,
    results: dict,
    graph: dict | None,
    other: dict | None,
    formats: Sequence[Deployment] = (),
) -> str:
    """The part of one experiment: its command, its tables, what is kept of the gain.

    Args:
        graph: what building the decoding graph took.
        other: what tools/bench/pocketsphinx_wer.py measured on the same test set, if it did.
        formats: what tools/deployment.py measured.
    """
    minutes = results["minutes"]
    longest = ", ".join(f"{name} {took:g}" for name, took in minutes.items() if took >= 0.1)
    lines = [
        f"## {name}",
        "",
        "```sh",
        results["command"],
        "```",
        "",
        *as_markdown(table_rows(results)),
        "",
        *(f"- {sentence}" for sentence in sentences(results)),
        f"- {sum(minutes.values()):.0f} minutes in all on {machine()} ({longest})",
        *([] if graph is None else [_graph(graph)]),
        *([] if other is None else [_other(other)]),
        "",
        *as_markdown(difference_table(results["differences"])),
        "",
        difference_caption(results["differences"]),
        "",
        *as_markdown([MODEL_HEADING, *map(model_row, results["each_model"])]),
    ]
    if table := shape_rows(results):
        lines += ["", *as_markdown(table), "", SHAPES_CAPTION]
    if table := deployment_rows(formats):
        lines += ["", *as_markdown(table), "", f"{CAPTION} `tools/deployment.py EXP`."]
    if table := speaker_table(results):
        lines += ["", *as_markdown(table)]
    return "\n".join(lines) + "\n"


def mnist_section(results: dict, folder: Path) -> str:
    """The part of the MNIST experiment; its pictures are copied beside the target."""
    pictures = {}
    for name in ("soft-targets", "temperatures"):
        path = folder / f"{name}.svg"
        if path.exists():
            pictures[name] = f"pictures/mnist-{name}.svg"
            write_text(TARGET.parent / pictures[name], path.read_text(encoding="utf-8"))
    lines = ["## mnist", "", "```sh", results["command"], "```", ""]
    return "\n".join([*lines, *mnist_report.section(results, pictures, machine())]) + "\n"


def _graph(graph: dict) -> str:
    return (
        f"- decoding graph: {graph['words']:,} words, {graph['ngrams']:,} n-grams; "
        f"{graph['states']:,} states, {graph['arcs']:,} arcs, {graph['megabytes']:g} MB; made in "
        f"{graph['seconds']:.0f} s with {graph['peak_gib']:g} GiB of memory at most"
    )


def _other(other: dict) -> str:
    wer = other["wer"]
    return (
        "- for comparison (`tools/bench/pocketsphinx_wer.py`): pocketsphinx's own English model "
        f"with the same lexicon and language model has {wer['percent']:.2f} % WER "
        f"({wer['errors']} of {wer['words']}, 95 %: {wer['ci95'][0]:.1f} … {wer['ci95'][1]:.1f})"
    )


def model_row(model: dict) -> list[str]:
    """One model's row below MODEL_HEADING."""
    accuracy, test = model["frame_accuracy"], model["wer"]["test"]
    return [
        model["name"],
        f"{accuracy['dev']:.2f}",
        f"{accuracy['test']:.2f}",
        f"{model['wer']['dev']['percent']:.2f}",
        f"{test['percent']:.2f}",
        f"{test['errors']} (S {test['substitutions']}, I {test['insertions']}, "
        f"D {test['deletions']}) of {test['words']}",
        f"{model['lm_weight']:g}",
        f"{model['insertion_penalty']:g}",
        f"{model['real_time_factor']:.3f}",
    ]


def machine() -> str:
    """Cores and kind of processor."""
    return f"{os.cpu_count()} cores ({platform.machine()}, no GPU)"


def sections(text: str) -> dict[str, str]:
    """The parts of the file as it stands, by their headings."""
    parts = {}
    for part in text.split("\n## ")[1:]:
        parts[part.split("\n")[0]] = f"## {part.rstrip()}\n"
    return parts


def write(experiments: Sequence[Path]) -> None:
    """Write the file."""
    before = sections(TARGET.read_text(encoding="utf-8") if TARGET.exists() else "")
    parts = {SUMMARY: before.pop(SUMMARY, ""), **before}
    on_speech = {}
    for folder in experiments:
        path = folder / "results.json"
        if not path.is_file():
            raise UserError(f"{path}: cannot be read; run the recipe first")
        results = read_json(path)
        if results["corpus"] == "mnist":
            parts["mnist"] = mnist_section(results, folder)
            continue
        graph, other = (
            read_json(path) if path.exists() else None
            for path in (folder / "graph" / "graph.json", folder / "pocketsphinx.json")
        )
        name = folder.resolve().name
        on_speech[name] = results
        parts[name] = section(name, results, graph, other, read_deployment(folder))
    parts[SUMMARY] = summary(parts[SUMMARY], on_speech)
    write_text(TARGET, "\n".join([HEAD, *parts.values()]))
    print(f"wrote {TARGET}")


def main() -> int:
    """Write the file; returns the exit status."""
    parser = Parser(prog=PROGRAM, description=__doc__)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXP")
    options = parser.parse_args()
    return exit_status(PROGRAM, lambda: write(options.experiments))


if __name__ == "__main__":
    sys.exit(main())
