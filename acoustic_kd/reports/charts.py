"""Charts as inline SVG; all text in them is escaped here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np


def element(name: str, content: str | None = None, /, **attributes: object) -> str:
    """An element; `stroke_width=2` is `stroke-width="2"`, `class_` is `class`.

    Args:
        content: markup, so text must be escaped already; None: an empty element.
        attributes: numbers are written with one decimal; None leaves an attribute out.
    """
    pairs = (
        (key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(f' {key}="{escape(_written(value))}"' for key, value in pairs)
    return f"<{name}{inside}/>" if content is None else f"<{name}{inside}>{content}</{name}>"


def _written(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)


def text(
    x: float, y: float, words: str, anchor: str = "start", size: int = 11, **attributes: object
) -> str:
    """Words that begin, end or are centred (`anchor`) at x."""
    return element(
        "text", escape(words), x=x, y=y, font_size=size, text_anchor=anchor, **attributes
    )


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def polyline(points: list[tuple[float, float]], **attributes: object) -> str:
    """A line through points."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=places, fill="none", **attributes)


def document(width: float, height: float, parts: list[str], /, **attributes: object) -> str:
    """The SVG element of `width` × `height` units; later parts cover earlier ones."""
    head = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}"}
    content = "\n".join(["", *parts, ""])
    return element("svg", content, **head, **attributes)


def step(span: float, count: int = 4) -> float:
    """A round distance of ticks, 1, 2 or 5 times a power of ten, for about `count` of them."""
    rough = span / count
    power = 10 ** np.floor(np.log10(rough))
    return float(next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9)))


WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 10, 200  # the axes of a chart of lines
SMALL = 10  # size of the text at ticks
LEGEND_ROW = 17
DASHES = (None, "2 3", "8 3", "8 3 2 3", "4 4", "1 2")
MARKS = (  # paths around (0, 0)
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
    "M-3.2 -3.2h6.4v6.4h-6.4z",
    "M0 -4.2l4 7.2h-8z",
    "M0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    "M0 4.2l4 -7.2h-8z",
    "M-1.3 -4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
)

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """Points joined by a line; series of one label and style share an entry of the legend."""

    label: str
    points: Sequence[tuple[float, float]]
    style: int = 0
    marked: bool = True  # whether marks show where its points are


@dataclass(frozen=True)
class Row:
    """A row of a chart of rows.

    Attributes:
        points: (style, value) of single models.
        value: of all of them together, or None.
        interval: around the value, or None.
    """

    label: str
    points: Sequence[tuple[int, float]] = ()
    value: float | None = None
    interval: tuple[float, float] | None = None
    style: int = 0


def mark(x: float, y: float, style: int, kind: str = "mark") -> str:
    """The mark of a style, filled or, with `kind` "hollow", in outline."""
    place = f"translate({x:.1f} {y:.1f})"
    return element("path", d=MARKS[style % len(MARKS)], class_=kind, transform=place)


def _group(style: int, parts: Iterable[str]) -> str:
    return element("g", "".join(parts), class_=f"s{style % len(MARKS)}")


def _picture(title: str, height: float, parts: list[str]) -> str:
    size = {"width": WIDTH, "height": height}
    return document(WIDTH, height, parts, role="img", aria_label=title, **size)


def _rounded(values: Sequence[float], wide: float = 0.0) -> tuple[float, float, float]:
    """Round bounds around values, at least `wide` apart, and the distance of ticks."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max(high - low, wide, 1e-6) / 2
    distance = step(2 * half, 5)
    low, high = min(low, middle - half), max(high, middle + half)
    return (
        float(distance * np.floor(low / distance + 1e-9)),
        float(distance * np.ceil(high / distance - 1e-9)),
        distance,
    )


def _ticks(low: float, high: float, distance: float) -> list[tuple[float, str]]:
    count = round((high - low) / distance)
    places = [low + n * distance for n in range(count + 1)]
    return [(place, f"{round(place, 9) + 0.0:g}") for place in places]


def lines(
    title: str,
    across: str,
    up: str,
    series: Sequence[Series],
    limits: tuple[float, float] | None = None,
    diagonal: bool = False,
    x_ticks: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over a common axis.

    Args:
        across, up: labels of the axes.
        limits: of both axes; None: around the points.
        diagonal: draw the line on which both are equal.
        x_ticks: (x, label); none: at round distances.
    """
    points = [point for curve in series for point in curve.points]
    xs, ys = ([point[n] for point in points] for n in (0, 1))
    bounds = [(*limits, 0.2)] * 2 if limits else [_rounded(xs, 1.0), _rounded(ys, 0.01)]
    (x_low, x_high, x_step), (y_low, y_high, y_step) = bounds

    def x_of(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (RIGHT - LEFT)

    def y_of(value: float) -> float:
        return BOTTOM - (value - y_low) / (y_high - y_low) * (BOTTOM - TOP)

    parts = []
    for value, label in _ticks(y_low, y_high, y_step):
        parts.append(line(LEFT, y_of(value), RIGHT, y_of(value), class_="grid"))
        parts.append(text(LEFT - 5, y_of(value) + 3.5, label, "end", SMALL))
    for value, label in x_ticks or _ticks(x_low, x_high, x_step):
        parts.append(line(x_of(value), BOTTOM, x_of(value), BOTTOM + 4, class_="axis"))
        parts.append(text(x_of(value), BOTTOM + 15, label, "middle", SMALL))
    parts.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, class_="axis"))
    middle = (TOP + BOTTOM) / 2
    turn = {"transform": f"rotate(-90 11 {middle:g})", "class_": "quiet"}
    parts.append(text(11, middle, up, "middle", SMALL, **turn))
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 29, across, "middle", SMALL, class_="quiet"))
    if diagonal:
        parts.append(line(x_of(x_low), y_of(y_low), x_of(x_high), y_of(y_high), class_="axis"))
    parts += [_curve(curve, x_of, y_of) for curve in series]
    legend = list(dict.fromkeys((curve.label, curve.style) for curve in series))
    height = BOTTOM + 36 + LEGEND_ROW * len(legend)
    return _picture(title, height, parts + _legend(legend, BOTTOM + 46))


def _curve(series: Series, x_of: Scale, y_of: Scale) -> str:
    places = [(x_of(x), y_of(y)) for x, y in series.points]
    dashes = DASHES[series.style % len(DASHES)]
    every = -(-len(places) // 10)  # not so many marks that they hide the line
    marked = places[::-1][::every] if series.marked else []
    curve = polyline(places, class_="curve", stroke_dasharray=dashes)
    return _group(series.style, [curve, *(mark(x, y, series.style) for x, y in marked)])


def _legend(entries: Sequence[tuple[str, int]], top: float) -> list[str]:
    parts = []
    for number, (label, style) in enumerate(entries):
        y = top + LEGEND_ROW * number
        dashes = DASHES[style % len(DASHES)]
        sample = line(LEFT, y, LEFT + 34, y, class_="curve", stroke_dasharray=dashes)
        parts.append(_group(style, [sample, mark(LEFT + 17, y, style)]))
        parts.append(text(LEFT + 42, y + 4, label))
    return parts


def rows(
    title: str,
    across: str,
    entries: Sequence[Row],
    legend: Sequence[tuple[str, int]] = (),
    digits: int | None = None,
    beside: int = 0,
    limits: tuple[float, float] | None = None,
) -> str:
    """Rows of values on a common axis.

    Args:
        across: label of the axis.
        legend: (label, style) of the marks.
        digits: of the value at the end of a row; None: it is not written.
        beside: width of labels beside the rows; 0: labels stand above them.
        limits: of the axis; None: around the values.
    """
    values = [value for row in entries for _, value in row.points]
    values += [row.value for row in entries if row.value is not None]
    values += [bound for row in entries for bound in row.interval or ()]
    low, high, distance = _rounded(limits or values, 0.01)
    left, right = (beside or 10), RIGHT - (44 if digits is not None else 8)
    height = 17 if beside else 38
    bottom = 8 + height * len(entries)

    def x_of(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = []
    for value, label in _ticks(low, high, distance):
        parts.append(line(x_of(value), 4, x_of(value), bottom, class_="grid"))
        parts.append(text(x_of(value), bottom + 13, label, "middle", SMALL))
    for number, row in enumerate(entries):
        top = 8 + height * number
        y = top + (height / 2 if beside else 26)
        place = (left - 6, y + 4, row.label, "end") if beside else (left, top + 11, row.label)
        parts.append(text(*place))
        drawn = []
        if row.interval is not None:
            ends = [x_of(bound) for bound in row.interval]
            drawn.append(line(ends[0], y, ends[1], y, class_="curve"))
            drawn += [line(x, y - 4, x, y + 4, class_="curve") for x in ends]
        parts.append(_group(row.style, drawn))
        parts += [_group(style, [mark(x_of(v), y, style, "hollow")]) for style, v in row.points]
        if row.value is not None:
            parts.append(_group(row.style, [mark(x_of(row.value), y, row.style)]))
            if digits is not None:
                parts.append(text(RIGHT, y + 4, f"{row.value:.{digits}f}", "end"))
    parts.append(text((left + right) / 2, bottom + 28, across, "middle", SMALL, class_="quiet"))
    for number, (label, style) in enumerate(legend):
        y = bottom + 45 + LEGEND_ROW * number
        parts.append(_group(style, [mark(left + 6, y, style, "hollow")]))
        parts.append(text(left + 16, y + 4, label))
    return _picture(title, bottom + 38 + LEGEND_ROW * len(legend), parts)


def tempered(
    title: str, temperatures: Sequence[float], bars: dict[str, Sequence[float]], label: str
) -> str:
    """Bars of the probabilities of senones, a column for each temperature with its own scale.

    Args:
        bars: senone → its probability at each temperature.
        label: the frame's senone.
    """
    left, wide, height, top = 78, (WIDTH - 78) / len(temperatures), 22, 22
    highest = [max(column) or 1.0 for column in zip(*bars.values(), strict=True)]
    parts = []
    for number, temperature in enumerate(temperatures):
        parts.append(text(left + number * wide, 12, f"T = {temperature:g}"))
    for number, (name, row) in enumerate(bars.items()):
        y, is_label = top + height * number, name == label
        weight = "bold" if is_label else None
        parts.append(text(left - 8, y + 12, name, "end", font_weight=weight))
        for column, probability in enumerate(row):
            x, length = left + column * wide, (wide - 12) * probability / highest[column]
            bar = element("rect", x=x, y=y + 12, width=max(length, 0.5), height=6, class_="bar")
            parts.append(_group(0 if is_label else 5, [bar]))
            parts.append(text(x, y + 10, _probability(probability), size=9, font_weight=weight))
    return _picture(title, top + height * len(bars) + 2, parts)


def _probability(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.0e}" if value else "0"
