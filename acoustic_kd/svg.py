"""The parts of pictures in SVG. Whatever stands in them is escaped here, and nowhere else."""

from html import escape

import numpy as np


def element(name: str, content: str | None = None, /, **attributes: object) -> str:
    """An element; `stroke_width=2` is `stroke-width="2"`, `class_` is `class`.

    Args:
        content: markup, so text must be escaped already; None: an empty element.
        attributes: numbers are written with one decimal, those that are None are left out.
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
    """Words at a place."""
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
    """The picture: `width` × `height` units, its parts on top of one another in their order."""
    head = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}"}
    content = "\n".join(["", *parts, ""])
    return element("svg", content, **head, **attributes)


def step(span: float, count: int = 4) -> float:
    """A round distance of ticks, 1, 2 or 5 times a power of ten, for about `count` of them."""
    rough = span / count
    power = 10 ** np.floor(np.log10(rough))
    return float(next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9)))
