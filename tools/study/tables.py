"""The study's results as Markdown, and in the documentation."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from acoustic_kd.errors import UserError
from acoustic_kd.files import write_text
from study.cells import ORDER
from study.noise import is_dense

HEADING = ["T", "encoding", "bytes a frame", "dev", "test", "of the gain, dev", "of the gain, test"]
HEADING += ["difference to dense", "95 %"]
NONE = "–"  # noqa: RUF001


def report(results: dict[str, Any]) -> str:
    """Commands, tables, and what they say, in plain words."""
    lines = [
        "```sh",
        *results["commands"],
        "```",
        "",
        f"{results['train_frames']:,} train frames of {results['corpus']}, {results['classes']:,} "
        f"classes, {len(results['reference']['members'])} members; {results['minutes']:.0f} "
        "minutes of work, each piece on one core, without the members' training.",
        "",
        *store_table(results["cells"]),
    ]
    trained = [row for row in results["cells"] if "models" in row]
    if trained:
        lines += ["", *model_part(results, trained)]
    return "\n".join(lines) + "\n"


def store_table(rows: list[dict[str, Any]]) -> list[str]:
    """Bytes, kept mass and KL of each encoding, temperature by temperature."""
    temperatures = sorted({row["temperature"] for row in rows})
    by_place = {(row["encoding"], row["temperature"]): row for row in rows}
    columns = {
        "bytes a frame": lambda row: f"{row['bytes_per_frame']:.1f}",
        "kept mass, %": lambda row: f"{100 * row['measured']['kept_mass']:.2f}",
        "KL, nats": lambda row: _divergence(row["measured"]["divergence"]),
    }
    heading = [f"{name}, T = {t:g}" for name in columns for t in temperatures]
    found = []
    for encoding in dict.fromkeys(_ordered(rows)):
        places = [by_place.get((encoding, t)) for t in temperatures]
        cells = [NONE if row is None else show(row) for show in columns.values() for row in places]
        found.append([encoding, *cells])
    entropies = {row["temperature"]: row["measured"]["entropy"] for row in rows}
    said = ", ".join(f"{entropies[t]:.2f} at T = {t:g}" for t in temperatures)
    return [
        *_table(["encoding", *heading], found),
        "",
        f"KL is that of the dense float32 predictions to what is read back; of sampled ones it is "
        f"infinite ({NONE}), since most classes were not drawn. The predictions' entropy in nats: "
        f"{said}.",
    ]


def _ordered(rows: list[dict[str, Any]]) -> list[str]:
    """The encodings, in the order in which a temperature's cells stand."""
    places: dict[str, tuple] = {}
    for row in rows:
        one = row["settings"]
        number = ORDER.index(one["name"])
        places[row["encoding"]] = number, one["kept_mass"], one["kept_classes"], -one["bits"]
    return sorted(places, key=places.__getitem__)


def _divergence(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.4f}" if value >= 0.001 else f"{value:.0e}"


def model_part(results: dict[str, Any], trained: list[dict[str, Any]]) -> list[str]:
    """What models learn from the stores: a table and a sentence for each temperature."""
    reference, seeds = results["reference"], len(trained[0]["models"])
    members = [
        f"{fmean(found):.2f} ± {stdev(found):.2f} % on {split}" if len(found) > 1
        else f"{found[0]:.2f} % on {split}"
        for split in ("dev", "test")
        for found in [[member[split] for member in reference["members"]]]
    ]  # fmt: skip
    ensemble = [f"{reference['ensemble'][split]:.2f} % on {split}" for split in ("dev", "test")]
    lines = [
        f"Frame accuracy of {seeds} distilled models a row, ± their standard deviation. The "
        f"members have {' and '.join(members)}, the ensemble {' and '.join(ensemble)}. The "
        "difference is that of dev means to dense at 16 bits and the same temperature, with "
        "Welch's 95 % interval over the seeds: of twenty rows that lose nothing, about one lies "
        "outside. Test frames are reported; nothing is chosen by them.",
        "",
        *_table(
            HEADING,
            [_model_row(row) for row in trained],
        ),
        "",
    ]
    for temperature in sorted({row["temperature"] for row in trained}):
        group = [row for row in trained if row["temperature"] == temperature]
        lines += [f"- T = {temperature:g}: {sentence}" for sentence in statement(group)]
    return lines


def _model_row(row: dict[str, Any]) -> list[str]:
    cells = [f"{row['temperature']:g}", row["encoding"], f"{row['bytes_per_frame']:.1f}"]
    for split in ("dev", "test"):
        accuracy = row["accuracy"][split]
        cells.append(f"{accuracy['mean']:.2f} ± {accuracy['sd']:.2f}")
    for split in ("dev", "test"):
        kept = row["gain_kept"][split]
        cells.append(NONE if kept is None else f"{100 * kept:.0f} %".replace("-", "−"))
    over = row.get("over_dense")
    if over is None:
        return [*cells, NONE, NONE]
    return [*cells, f"{_signed(over['mean'])} ± {over['error']:.2f}", _interval(over)]


def statement(group: list[dict[str, Any]]) -> list[str]:
    """Which stores of one temperature teach as well as dense ones, and the smallest of them."""
    dense = [row for row in group if is_dense(row)]
    others = [row for row in group if "over_dense" in row]
    if not dense or not others:
        return []
    by_verdict: dict[str, list[str]] = {}
    for row in others:
        by_verdict.setdefault(row["over_dense"]["verdict"], []).append(row["encoding"])
    said = [
        f"{verdict}{' of dense' if verdict == 'within noise' else ' than dense'}: "
        + "; ".join(by_verdict[verdict])
        for verdict in ("within noise", "worse", "better")
        if verdict in by_verdict
    ]
    fitting = [row for row in others if row["over_dense"]["verdict"] != "worse"]
    best = min([*dense, *fitting], key=lambda row: row["bytes_per_frame"])
    end = "Nothing smaller than dense at 16 bits is as good."
    if best is not dense[0]:
        over = best["over_dense"]
        end = (
            f"The smallest that is not worse is {best['encoding']}: {best['bytes_per_frame']:.1f} "
            f"bytes a frame instead of {dense[0]['bytes_per_frame']:.1f}, {_signed(over['mean'])} "
            f"points ({_interval(over)}), so a loss of more than {max(0.0, -over['low']):.2f} is "
            "unlikely."
        )
    return [f"{'. '.join(part[0].upper() + part[1:] for part in said)}. {end}"]


def _interval(over: dict[str, Any]) -> str:
    return f"{_signed(over['low'])} … {_signed(over['high'])}"


def _signed(value: float) -> str:
    text = f"{value:+.2f}".replace("-", "−")
    return text if text not in ("+0.00", "−0.00") else "0.00"


def _table(heading: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def around_section(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the tables of experiment `name` in a Markdown file.

    Raises:
        UserError: the file cannot be read, or the marker lines are not there.
    """
    first, last = f"<!-- study {name} -->\n", f"<!-- end of study {name} -->\n"
    try:
        head, begun, rest = path.read_text(encoding="utf-8").partition(first)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    _, ended, tail = rest.partition(last)
    if not begun or not ended:
        lines = f"'{first.strip()}' and '{last.strip()}'"
        raise UserError(f"{path}: the marker lines {lines} are not there; add them")
    return head + first, last + tail


def write_section(path: Path, name: str, text: str) -> None:
    """Put the tables of experiment `name` in their place in a Markdown file."""
    head, tail = around_section(path, name)
    write_text(path, f"{head}\n{text}\n{tail}")
