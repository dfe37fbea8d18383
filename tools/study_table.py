"""The results of a study as a Markdown table and as a chart."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from acoustic_kd.reports.charts import document, element, line, step, text
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_text

# Student's t: 95 % of a mean's differences lie within so many standard errors, by seeds.
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
SYSTEMS = ("members", "ensemble", "control", "distilled")
HEADING = ["", *SYSTEMS, "over the control (95 %)", "gain kept", "passes", "MB"]
HEADING += ["copies and soft targets, s", "training, s"]


def table(results: dict[str, Any], command: str) -> str:
    """The command and one table: a row a setting, grouped by factor."""
    about = (
        f"{results['title']} Frame accuracy on dev in percent: means of {results['seeds']} seeds; "
        "± is the standard deviation over the seeds. A pass has as many frames as the transfer set "
        "without copies. MB are those of the stored soft targets. All cores make the copies; one "
        "core makes the soft targets, and one trains the distilled model."
    )
    lines = ["```sh", command, "```", "", about, ""]
    lines += [_line(HEADING), _line(["---"] * len(HEADING))]
    factor = None
    for row in results["rows"]:
        if row["factor"] != factor:
            factor = row["factor"]
            lines.append(_line([f"**{factor}**", *[""] * (len(HEADING) - 1)]))
        lines.append(_line([row["name"], *_cells(row)]))
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    values = [f"{fmean(row[name]):.2f}" for name in SYSTEMS[:2]]
    values += [f"{fmean(row[name]):.2f} ± {stdev(row[name]):.2f}" for name in SYSTEMS[2:]]
    mean, half = over_control(row)
    gain = fmean(row["ensemble"]) - fmean(row["control"])
    kept = f"{100 * mean / gain:.0f} %" if gain > 0 else "–"  # noqa: RUF001
    size = fmean(row["bytes"]) / 1e6
    over = f"{mean:+.2f} ± {half:.2f}"
    seconds = [f"{fmean(row[name]):.0f}" for name in ("teacher_seconds", "seconds")]
    signed = [one.replace("-", "−") for one in (over, kept)]
    return [*values, *signed, str(row["epochs"]), f"{size:.1f}", *seconds]


def over_control(row: dict[str, Any]) -> tuple[float, float]:
    """The mean of distilled − control over the seeds, and half its 95 % interval (Student's t)."""
    pairs = zip(row["distilled"], row["control"], strict=True)
    differences = [distilled - control for distilled, control in pairs]
    seeds = len(differences)
    return fmean(differences), T95[seeds] * stdev(differences) / seeds**0.5


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def chart(results: dict[str, Any]) -> str:
    """Control, distilled model and ensemble of each row on one axis of frame accuracy."""
    rows, left, width, height = results["rows"], 330, 480, 18
    shown = SYSTEMS[1:]
    values = [fmean(row[name]) for row in rows for name in shown]
    low, high = min(values) - 0.3, max(values) + 0.3
    colours = {"ensemble": "#888888", "control": "#d95f02", "distilled": "#1b6fb3"}

    def place(value: float) -> float:
        return left + (width - 20) * (value - low) / (high - low)

    parts, y = [], 34.0
    for number, name in enumerate(shown):
        parts.append(element("circle", cx=left + 110 * number, cy=10, r=4, fill=colours[name]))
        parts.append(text(left + 8 + 110 * number, 14, name))
    top, factor = y - 10, None
    for row in rows:
        if row["factor"] != factor:
            factor = row["factor"]
            parts.append(text(4, y + 4, factor, size=12, font_weight="bold"))
            y += height
        parts.append(text(left - 12, y + 4, row["name"], "end"))
        ends = [place(fmean(row[name])) for name in ("control", "distilled")]
        parts.append(line(*[ends[0], y, ends[1], y], stroke="#bbbbbb", stroke_width=2))
        for name in shown:
            parts.append(
                element("circle", cx=place(fmean(row[name])), cy=y, r=4, fill=colours[name])
            )
        y += height
    tick = step(high - low)
    for value in (tick * n for n in range(int(low / tick) + 1, int(high / tick) + 1)):
        x = place(value)
        parts.insert(0, line(x, top, x, y, stroke="#cccccc", stroke_width=0.5))
        parts.append(text(x, y + 12, f"{value:g} %", "middle"))
    paper = element("rect", width=left + width, height=y + 20, fill="white")
    return document(left + width, y + 20, [paper, *parts], font_family="sans-serif")


def around_section(path: Path, name: str) -> tuple[str, str]:
    """The text of a file before and after what stands between a study's marker lines.

    The lines are `<!-- study NAME -->` and `<!-- end of study NAME -->`.

    Raises:
        UserError: the file cannot be read, or the marker lines are missing.
    """
    first, last = f"<!-- study {name} -->\n", f"<!-- end of study {name} -->\n"
    try:
        head, begun, rest = path.read_text(encoding="utf-8").partition(first)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    _, ended, tail = rest.partition(last)
    if not begun or not ended:
        lines = f"'{first.strip()}' and '{last.strip()}'"
        raise UserError(f"{path}: the marker lines {lines} are missing; add them")
    return head + first, last + tail


def write_section(path: Path, name: str, content: str) -> None:
    """Put `content` between a study's marker lines in a file.

    Raises:
        UserError: as for `around_section`.
    """
    head, tail = around_section(path, name)
    write_text(path, f"{head}\n{content}\n{tail}")
