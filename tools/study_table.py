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
HEADING = ["", *SYSTEMS, "over the control (95 %)", "gain kept", "passes", "MB"]
HEADING += ["copies and soft targets, s", "training, s"]
LEFT, WIDTH, ROW_HEIGHT = 330, 480, 18  # of the chart: labels, axis, a row
COLOURS = {"ensemble": "#888888", "control": "#d95f02", "distilled": "#1b6fb3"}


def table(results: dict[str, Any], command: str) -> str:
    """The command and one table: a row a setting, grouped by factor."""
    about = (
        f"{results['title']} Frame accuracy on dev in percent: mean and standard deviation of "
        f"{results['seeds']} seeds. A pass has as many frames as the transfer set without copies. "
        "MB: stored soft targets. All cores make the copies, one core the rest."
    )
    cells = [[row["name"], *_cells(row)] for row in results["rows"]]
    return section(command, about, HEADING, cells, [row["factor"] for row in results["rows"]])


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


def _cells(row: dict[str, Any]) -> list[str]:
    mean, half = over_control(row)
    gain = fmean(row["ensemble"]) - fmean(row["control"])
    kept = f"{100 * mean / gain:.0f} %" if gain > 0 else "–"  # noqa: RUF001
    return [
        *(f"{fmean(row[name]):.2f}" for name in ("members", "ensemble")),
        *(f"{fmean(row[name]):.2f} ± {stdev(row[name]):.2f}" for name in ("control", "distilled")),
        f"{mean:+.2f} ± {half:.2f}".replace("-", "−"),
        kept.replace("-", "−"),
        str(row["epochs"]),
        f"{fmean(row['bytes']) / 1e6:.1f}",
        *(f"{fmean(row[name]):.0f}" for name in ("teacher_seconds", "seconds")),
    ]


def over_control(row: dict[str, Any]) -> tuple[float, float]:
    """The mean of distilled − control over the seeds, and half its 95 % interval (Student's t)."""
    pairs = zip(row["distilled"], row["control"], strict=True)
    differences = [distilled - control for distilled, control in pairs]
    seeds = len(differences)
    return fmean(differences), T95[seeds] * stdev(differences) / seeds**0.5


def chart(results: dict[str, Any]) -> str:
    """Control, distilled model and ensemble of each row on one axis of frame accuracy."""
    rows = results["rows"]
    values = [fmean(row[name]) for row in rows for name in COLOURS]
    low, high = min(values) - 0.3, max(values) + 0.3

    def x_of(value: float) -> float:
        return LEFT + (WIDTH - 20) * (value - low) / (high - low)

    def dot(x: float, y: float, name: str) -> str:
        return element("circle", cx=x, cy=y, r=4, fill=COLOURS[name])

    parts, y, top, factor = [], 34.0, 24.0, None
    for number, name in enumerate(COLOURS):
        x = LEFT + 110 * number
        parts += [dot(x, 10, name), text(x + 8, 14, name)]
    for row in rows:
        if row["factor"] != factor:
            factor = row["factor"]
            parts.append(text(4, y + 4, factor, size=12, font_weight="bold"))
            y += ROW_HEIGHT
        places = {name: x_of(fmean(row[name])) for name in COLOURS}
        ends = places["control"], y, places["distilled"], y
        parts.append(text(LEFT - 12, y + 4, row["name"], "end"))
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
