"""The results of a study as a Markdown table and as a chart."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from acoustic_kd.reports.charts import document, element, line, step, text
from acoustic_kd.reports.tables import as_markdown
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_text

# Student's t for 95 % intervals: number of seeds → half the width in standard errors of the mean.
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
SYSTEMS = ("members", "ensemble", "control", "distilled")
MEASURES = {  # name in the columns of a study → in the table
    "train": "frames train",
    "dev": "frames dev",
    "test": "frames test",
    "wer": "WER test",
}
LEFT, WIDTH, ROW_HEIGHT = 330, 480, 18  # of the chart: labels, axis, a row
COLOURS = {"ensemble": "#888888", "control": "#d95f02", "distilled": "#1b6fb3"}


def table(results: dict[str, Any], command: str) -> str:
    """The command and one table: a row a setting, grouped by factor."""
    about = (
        f"{results['title']} In percent: mean and standard deviation of {results['seeds']} seeds. "
        "Frames: frame accuracy; on train, of the utterances that a model has learnt from. "
        "Distilled over control: the difference, with its 95 % interval over the seeds. A pass has "
        "as many frames as what the distilled model learns from, without copies."
    )
    columns = results["columns"]
    heading = ["", *(_title(column) for column in columns)]
    for measure in _compared(columns):
        heading.append(f"{MEASURES[measure]}: distilled over control")
        heading += ["gain kept"] if f"ensemble {measure}" in columns else []
    cells = [[row["name"], *_cells(row, columns)] for row in results["rows"]]
    factors = [row["factor"] for row in results["rows"]]
    return section(command, about, [*heading, "passes"], cells, factors)


def _title(column: str) -> str:
    system, measure = column.split()
    return f"{system}, {MEASURES[measure]}"


def _compared(columns: Sequence[str]) -> list[str]:
    """The measures of which a study has both the control and the distilled model."""
    pairs = {m: {f"control {m}", f"distilled {m}"} for m in MEASURES}
    return [m for m in MEASURES if pairs[m] <= set(columns) and m != "train"]


def section(
    command: str,
    about: str,
    heading: list[str],
    cells: Sequence[list[str]],
    factors: Sequence[str],
) -> str:
    """A command, what its table shows, and the table with a line above each factor's rows.

    Args:
        cells: of each row.
        factors: the factor of each row.
    """
    first, rule, *rows = as_markdown([heading, *cells])
    lines = [first, rule]
    for number, (factor, row) in enumerate(zip(factors, rows, strict=True)):
        if number == 0 or factor != factors[number - 1]:
            lines.append("| " + " | ".join([f"**{factor}**", *[""] * (len(heading) - 1)]) + " |")
        lines.append(row)
    return "\n".join(["```sh", command, "```", "", about, "", *lines, ""])


def _cells(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    cells = []
    for column in columns:
        mean, single = f"{fmean(row[column]):.2f}", column.startswith(("members", "ensemble"))
        cells.append(mean if single else f"{mean} ± {stdev(row[column]):.2f}")
    for measure in _compared(columns):
        mean, half = over_control(row, measure)
        cells.append(f"{mean:+.2f} ± {half:.2f}".replace("-", "−"))
        if (ensemble := f"ensemble {measure}") in columns:
            gain = fmean(row[ensemble]) - fmean(row[f"control {measure}"])
            gain, kept = (-gain, -mean) if measure == "wer" else (gain, mean)
            shown = f"{100 * kept / gain:.0f} %" if gain > 0 else "–"  # noqa: RUF001
            cells.append(shown.replace("-", "−"))
    return [*cells, str(row["epochs"])]


def over_control(row: dict[str, Any], measure: str) -> tuple[float, float]:
    """The mean of distilled − control over the seeds, and half its 95 % interval (Student's t)."""
    pairs = zip(row[f"distilled {measure}"], row[f"control {measure}"], strict=True)
    differences = [distilled - control for distilled, control in pairs]
    seeds = len(differences)
    return fmean(differences), T95[seeds] * stdev(differences) / seeds**0.5


def chart(results: dict[str, Any]) -> str:
    """Control, distilled model and ensemble of each row on one axis: frame accuracy, or words.

    A line connects the distilled models of a factor.
    """
    rows, columns = results["rows"], results["columns"]
    measure = next(m for m in ("dev", "test", "wer", "train") if f"distilled {m}" in columns)
    colours = {name: c for name, c in COLOURS.items() if f"{name} {measure}" in columns}
    values = [fmean(row[f"{name} {measure}"]) for row in rows for name in colours]
    low, high = min(values) - 0.3, max(values) + 0.3

    def x_of(value: float) -> float:
        return LEFT + (WIDTH - 20) * (value - low) / (high - low)

    def dot(x: float, y: float, name: str) -> str:
        return element("circle", cx=x, cy=y, r=4, fill=COLOURS[name])

    parts, y, top, factor = [], 34.0, 24.0, None
    before: tuple[float, float] | None = None
    for number, name in enumerate(colours):
        x = LEFT + 110 * number
        parts += [dot(x, 10, name), text(x + 8, 14, name)]
    for row in rows:
        if row["factor"] != factor:
            factor, before = row["factor"], None
            parts.append(text(4, y + 4, factor, size=12, font_weight="bold"))
            y += ROW_HEIGHT
        places = {name: x_of(fmean(row[f"{name} {measure}"])) for name in colours}
        parts.append(text(LEFT - 12, y + 4, row["name"], "end"))
        if before:
            parts.append(line(*before, places["distilled"], y, stroke=COLOURS["distilled"]))
        before = places["distilled"], y
        if "control" in places:
            ends = places["control"], y, places["distilled"], y
            parts.append(line(*ends, stroke="#bbbbbb", stroke_width=2))
        parts += [dot(x, y, name) for name, x in places.items()]
        y += ROW_HEIGHT
    tick = step(high - low)
    for value in (tick * n for n in range(int(low / tick) + 1, int(high / tick) + 1)):
        x = x_of(value)
        parts.insert(0, line(x, top, x, y, stroke="#cccccc", stroke_width=0.5))
        parts.append(text(x, y + 12, f"{value:g} %", "middle"))
    paper = element("rect", width=LEFT + WIDTH, height=y + 20, fill="white")
    return document(LEFT + WIDTH, y + 20, [paper, *parts], font_family="sans-serif")


def around_section(path: Path, name: str) -> tuple[str, str]:
    """The text of a file before and after the section between a study's marker lines.

    The lines are `<!-- study NAME -->` and `<!-- end of study NAME -->`.
    """
    first, last = f"<!-- study {name} -->\n", f"<!-- end of study {name} -->\n"
    try:
        before, begin, rest = path.read_text(encoding="utf-8").partition(first)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    _, end, after = rest.partition(last)
    if not begin or not end:
        lines = f"'{first.strip()}' and '{last.strip()}'"
        raise UserError(f"{path}: the marker lines {lines} are missing; add them")
    return before + first, last + after


def write_section(path: Path, name: str, content: str) -> None:
    """Put `content` between a study's marker lines in a file."""
    before, after = around_section(path, name)
    write_text(path, f"{before}\n{content}\n{after}")
