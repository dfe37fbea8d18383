#!/usr/bin/env python3
"""Write experiments into recipes/RESULTS.md: usage: tools/write_results.py EXP …

Each has its directory's name for a heading; the one on MNIST is `mnist`. What stands there of other
experiments stays as it is.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from acoustic_kd.mnist import report as mnist_report
from acoustic_kd.reports.deployment import (
    CAPTION,
    Deployment,
    deployment_rows,
    read_deployment,
)
from acoustic_kd.reports.tables import (
    SHAPES_CAPTION,
    as_markdown,
    difference_caption,
    difference_table,
    sentences,
    shape_rows,
    speaker_table,
    table_rows,
)
from acoustic_kd.system.files import read_json, write_text

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

MODEL_HEADING = [
    "model", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "errors", "LM weight",
    "penalty", "search, × real time",
]  # fmt: skip


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


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXP")
    parts = sections(TARGET.read_text(encoding="utf-8") if TARGET.exists() else "")
    for folder in parser.parse_args().experiments:
        try:
            results = json.loads((folder / "results.json").read_text())
            if results["corpus"] == "mnist":
                parts["mnist"] = mnist_section(results, folder)
                continue
            graph, other = (
                read_json(path) if path.exists() else None
                for path in (folder / "graph" / "graph.json", folder / "pocketsphinx.json")
            )
            name = folder.resolve().name
            parts[name] = section(name, results, graph, other, read_deployment(folder))
        except OSError:
            print(f"{folder}/results.json: cannot be read; run the recipe first", file=sys.stderr)
            return 2
    write_text(TARGET, "\n".join([HEAD, *parts.values()]))
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
