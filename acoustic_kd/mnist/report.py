"""The MNIST experiment's report: its tables beside the paper's figures, the paper's claims judged.

± is the standard deviation over nets in tables, the standard error of a mean where a claim is
judged.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from acoustic_kd.mnist.claims import claims, gap
from acoustic_kd.mnist.pictures import soft_target_picture, temperature_picture
from acoustic_kd.mnist.results import (
    BIASES,
    bias_corrections,
    comparability_warning,
    confusions_of,
    errors_of,
    grid,
    nets_by_variant,
    nets_of,
    spread,
)
from acoustic_kd.reports.tables import as_markdown, as_text
from acoustic_kd.system.files import write_text

# The paper's section 3, of 10,000 test images.
PAPER_CORRECTED = {  # experiment → method of bias correction → shift, errors
    5: {"": ("", "206 (133 on threes)"), "test": ("+3.5", "109 (14 on threes)")},
    6: {"": ("", "47.3 %"), "test": ("−7.6", "13.2 %")},
}
VERDICTS = {True: "Holds.", False: "Does not hold.", None: "Not shown by these nets."}


def write_report(results: dict[str, Any], directory: Path) -> None:
    """Write `results.md` and its pictures into the directory of the experiment."""
    pictures = {}
    for name, svg in (
        ("soft-targets", soft_target_picture(results, directory)),
        ("temperatures", temperature_picture(results)),
    ):
        if svg is None:  # delete that of an earlier, larger run
            (directory / f"{name}.svg").unlink(missing_ok=True)
        else:
            pictures[name] = f"{name}.svg"
            write_text(directory / pictures[name], svg)
    lines = ["# mnist: the paper's section 3", "", *section(results, pictures)]
    write_text(directory / "results.md", "\n".join(lines) + "\n")


def section(results: dict[str, Any], pictures: Mapping[str, str], machine: str = "") -> list[str]:
    """The report as lines of Markdown.

    Args:
        pictures: `soft-targets` and `temperatures`, if they were drawn → their paths.
        machine: that it ran on, if known.
    """
    warning = comparability_warning(results)
    on = f" on {machine}" if machine else ""
    parts = [
        [warning] if warning else [],
        _main_table(results),
        _corrected_table(results),
        _grid_table(results),
        _picture(pictures, "temperatures", "Errors against the temperature of the soft targets."),
        _claim_lines(results),
        *_confusions(results),
        _picture(pictures, "soft-targets", "Soft targets of one image a digit."),
        [f"{results['minutes']:.0f} core-minutes of training in all{on}."],
    ]
    lines = [line for part in parts if part for line in ("", *part)]
    return lines[1:]


def terminal_summary(results: dict[str, Any]) -> str:
    """The rows of experiments 1, 2, 3, 7, 5 and 6 for a terminal."""
    rows = [["", "nets", "epochs", f"errors of {results['images']['test']:,}", "paper"]]
    for nets in nets_by_variant(results, 1, 2, 3, 7, 5, 6):
        for how in bias_corrections(nets):
            title = f"  {BIASES[how]}" if how else nets[0]["title"]
            count, epochs = ("", "") if how else (f"{len(nets)}", f"{nets[0]['epochs']}")
            rows.append([title, count, epochs, spread(errors_of(nets, how)), _paper(nets[0], how)])
    warning = comparability_warning(results)
    notes = [f"  {warning}"] if warning else []
    notes += [f"  {c['claim']}: {c['found']} (paper: {c['paper']})" for c in gap(results)]
    return "\n".join([*as_text(rows), *notes])


def _main_table(results: dict[str, Any]) -> list[str]:
    rows = [
        [
            nets[0]["title"],
            f"{nets[0]['parameters'] / 1e6:.2f} M",
            f"{len(nets)}",
            f"{nets[0]['epochs']}",
            spread(errors_of(nets)),
            _paper(nets[0]),
            f"{median(net['frames_per_second'] for net in nets):,.0f}",
        ]
        for nets in nets_by_variant(results, 1, 2, 3, 7)
    ]
    heading = ["net", "weights", "nets", "epochs", "errors", "paper", "images/s in training"]
    return [f"Errors of {_images(results)}:", "", *as_markdown([heading, *rows])] if rows else []


def _corrected_table(results: dict[str, Any]) -> list[str]:
    rows = []
    for nets in nets_by_variant(results, 5, 6):
        classes = list(nets[0]["correct"])  # a tuple would be two indices
        for how in bias_corrections(nets):
            errors = np.array(errors_of(nets, how))
            matrix = confusions_of(nets, how)
            of_classes = matrix[:, classes].sum((1, 2)) - matrix[:, classes, classes].sum(1)
            shifts = [net["corrected"][how]["shift"] for net in nets] if how else []
            rows.append(
                [
                    f"{nets[0]['title']} ({len(nets)} × {nets[0]['epochs']} epochs)",
                    BIASES[how],
                    spread(shifts, digits=2, sign=True) if how else "",
                    spread(errors),
                    f"{spread(100 * errors / matrix[0].sum(), digits=2)} %",
                    f"{spread(of_classes)} of {matrix[0][classes].sum():,} "
                    f"({', '.join(map(str, classes))})",
                    _paper(nets[0], how),
                ]
            )
    if not rows:
        return []
    heading = ["net", "biases", "shift", "errors", "in percent", "on these classes", "paper"]
    return [
        f"Transfer sets without some classes, errors of {_images(results)}:",
        "",
        *as_markdown([heading, *rows]),
        "",
        "The prior's shift makes the net's mean probability of the classes, on its transfer set and"
        " at the temperature of the soft targets, equal to their share of the train images. The "
        "teacher's shift makes that mean, at temperature 1, equal to the teacher's. Neither needs a"
        " label or an image of a class that is missing. The shift that is best on the images it is "
        "measured on is the paper's practice, and optimistic.",
    ]


def _grid_table(results: dict[str, Any]) -> list[str]:
    cells = grid(results)
    temperatures = sorted({t for row in cells.values() for t in row})
    rows = [
        [f"{width}", *(spread(list(row.get(t, {}).values())) for t in temperatures)]
        for width, row in cells.items()
    ]
    heading = ["units a layer", *(f"T = {t:g}" for t in temperatures)]
    caption = f"Errors of {_images(results)} by width and temperature:"
    return [caption, "", *as_markdown([heading, *rows])] if rows else []


def _claim_lines(results: dict[str, Any]) -> list[str]:
    lines = [
        f"- {c['claim']}. Paper: {c['paper']}; here: {c['found']}. {VERDICTS[c['holds']]}"
        for c in claims(results)
    ]
    if not lines:
        return []
    return [
        "The paper's claims, judged by these nets. ± is here the standard error, where not marked "
        "s.d. A claim holds or does not hold if the 95 % interval over nets (Student's t) decides "
        "it; a claim of equality holds if no difference is significant; a number of errors, which "
        "is that of one net in the paper, is compared with the 95 % interval of one more net.",
        "",
        *lines,
    ]


def _confusions(results: dict[str, Any]) -> list[list[str]]:
    """Errors by pair of digits, and by digit."""
    rows = {row: nets_of(results, row) for row in ("hard", "distilled")}
    means = {row: confusions_of(nets).mean(0) for row, nets in rows.items() if nets}
    if not means:
        return []
    off = {row: matrix * (1 - np.eye(len(matrix))) for row, matrix in means.items()}
    total = np.sum(list(off.values()), axis=0)
    pairs = np.argsort(-total, axis=None, kind="stable")[:10]
    by_pair = [
        [f"{true} → {taken}", *(f"{matrix[true, taken]:.1f}" for matrix in off.values())]
        for true, taken in (np.unravel_index(pair, total.shape) for pair in pairs)
        if total[true, taken] > 0
    ]
    by_digit = [[row, *(f"{e:.1f}" for e in matrix.sum(1))] for row, matrix in off.items()]
    digits = ["digit", *map(str, range(10))]
    caption = "Where the errors are, a net's on average: the most frequent confusions,"
    return [
        [caption, "", *as_markdown([["true → taken for", *off], *by_pair])],
        ["and the errors by digit:", "", *as_markdown([digits, *by_digit])],
    ]


def _picture(pictures: Mapping[str, str], name: str, caption: str) -> list[str]:
    return [f"![{caption}]({pictures[name]})"] if name in pictures else []


def _images(results: dict[str, Any]) -> str:
    kind = "held-out train" if results["measured_on"] == "dev" else "test"
    return f"{results['images']['test']:,} {kind} images"


def _paper(net: dict[str, Any], how: str = "") -> str:
    """The paper's figure for a net, or nothing."""
    if net["experiment"] in PAPER_CORRECTED:
        shift, errors = PAPER_CORRECTED[net["experiment"]].get(how, ("", ""))
        return f"{errors}, shift {shift}" if shift else errors
    return "" if net["paper"] is None else f"{net['paper']:g}"
