"""Pictures of the MNIST report, as SVG: soft targets of some digits, errors against temperature."""

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic_kd.features.frames import read_frames
from acoustic_kd.mnist.data import SIDE
from acoustic_kd.mnist.results import grid
from acoustic_kd.mnist.variants import DIGITS
from acoustic_kd.reports.charts import document, element, line, polyline, step, text
from acoustic_kd.soft_targets.read import read_soft_targets

SURE = 0.9  # the teacher's probability of the label at temperature 1, of an image that is shown
INK, GREY, LABEL, SECOND = "#222222", "#9a9a9a", "#1f6fb4", "#d9660d"
IMAGE, BAR, ROW, LEFT, TOP = 56, 15, 78, 20, 64  # pixels of the soft targets' picture
PANEL = 10 * BAR + 30
PLOT = (380, 230)  # width and height of one panel of the temperatures' picture
MARGIN = (58, 34, 20, 40)  # left, top, right, bottom of that panel


def png(pixels: np.ndarray) -> bytes:
    """A greyscale PNG file of `pixels`, uint8 [height, width]."""
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each row unfiltered
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def soft_target_picture(results: dict[str, Any], directory: Path) -> str | None:
    """One image a digit beside its soft targets; None if the experiment keeps none.

    Args:
        directory: of the experiment, with its `frames` and `soft_targets`.
    """
    names = sorted(
        {net["teacher"] for net in results["nets"] if net["teacher"]},
        key=lambda name: ("+" in name, name),  # a single net rather than a mean of several
    )
    if not names or not (directory / "frames" / "train").is_dir():
        return None
    temperatures = sorted({n["temperature"] for n in results["nets"] if n["teacher"] == names[0]})
    folders = {t: directory / "soft_targets" / names[0] / f"T{t:g}" for t in temperatures}
    temperatures = [t for t in temperatures if folders[t].is_dir()]
    if not temperatures:
        return None
    middle = temperatures[(len(temperatures) - 1) // 2]
    frames = read_frames(directory / "frames" / "train")
    soft = {}
    for t in sorted({temperatures[0], middle, temperatures[-1]}):
        _, targets = read_soft_targets(folders[t], frames, t).batch(torch.arange(len(frames)))
        soft[t] = targets.numpy().astype(np.float64)
    labels = frames.labels.numpy()
    chosen = choose(labels, soft[temperatures[0]], temperatures[0], soft[middle])
    images = frames.features[chosen].float().numpy().reshape(-1, SIDE, SIDE)
    return _draw_soft_targets(images, labels[chosen], {t: p[chosen] for t, p in soft.items()})


def choose(
    labels: np.ndarray, coldest: np.ndarray, temperature: float, middle: np.ndarray
) -> list[int]:
    """For each digit, of the images the teacher is sure of, the one most like another digit.

    Args:
        labels: [N].
        coldest: soft targets [N, K] at `temperature`, the lowest there is.
        middle: soft targets [N, K] at the temperature where the likeness is judged.
    """
    at_one = coldest**temperature  # one net's soft targets at T are p^(1/T), normalised
    at_one /= at_one.sum(1, keepdims=True)
    right = coldest.argmax(1) == labels
    sure = right & (at_one[np.arange(len(labels)), labels] >= SURE)
    second = np.sort(middle, axis=1)[:, -2]
    chosen = []
    for digit in range(DIGITS):
        # A poor teacher may be sure of no image of a digit, or get none right.
        for among in (sure, right):
            candidates = np.flatnonzero(among & (labels == digit))
            if len(candidates):
                chosen.append(int(candidates[second[candidates].argmax()]))
                break
    return chosen


def _draw_soft_targets(
    images: np.ndarray, labels: np.ndarray, soft: dict[float, np.ndarray]
) -> str:
    """Images [R, 28, 28] below one another, each with a panel of bars a temperature [R, K]."""
    parts = [
        text(
            LEFT,
            24,
            "Soft targets; blue: the label, orange: the most probable other digit",
            size=12,
        ),
    ]
    for column, (temperature, rows) in enumerate(soft.items()):
        x = LEFT + IMAGE + 30 + column * PANEL
        # Each temperature has a scale of its own: at the highest all bars would be low.
        highest = rows.max(initial=0) or 1.0
        parts.append(text(x, 46, f"T = {temperature:g} (full height: {highest:.2f})"))
        for number, row in enumerate(rows):
            base = TOP + number * ROW + IMAGE
            others = row.copy()
            others[labels[number]] = -1
            colours = {int(others.argmax()): SECOND, int(labels[number]): LABEL}
            parts.append(line(x, base + 0.5, x + 10 * BAR, base + 0.5, stroke=GREY))
            for digit, probability in enumerate(row):
                height = IMAGE * probability / highest
                colour = colours.get(digit, GREY)
                place = {"x": x + digit * BAR + 1, "y": float(base - height)}
                size = {"width": BAR - 2, "height": float(height)}
                parts.append(element("rect", **place, **size, fill=colour))
                middle = x + digit * BAR + BAR / 2
                parts.append(text(middle, base + 12, str(digit), anchor="middle", size=9))
    for number, image in enumerate(images):
        ink = 255 - np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
        data = base64.b64encode(png(ink)).decode()
        parts.append(
            element(
                "image", x=LEFT, y=TOP + number * ROW, width=IMAGE, height=IMAGE,
                style="image-rendering:pixelated", href=f"data:image/png;base64,{data}",
            )
        )  # fmt: skip
    return _svg(max(LEFT + IMAGE + 30 + len(soft) * PANEL, 470), TOP + len(images) * ROW + 6, parts)


def temperature_picture(results: dict[str, Any]) -> str | None:
    """Errors against temperature, a panel a width; None without experiment 4."""
    found = grid(results)
    if not found:
        return None
    parts: list[str] = []
    for number, (width, cells) in enumerate(found.items()):
        x, y = (number % 2) * PLOT[0], (number // 2) * PLOT[1]
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _panel(f"{width} units a layer", {t: [*e.values()] for t, e in cells.items()})
        parts.append("</g>")
    return _svg(min(len(found), 2) * PLOT[0], (len(found) + 1) // 2 * PLOT[1], parts)


def _panel(title: str, cells: dict[float, list[int]]) -> list[str]:
    """Means joined by a line, with a bar of one standard deviation each way."""
    means = {t: float(np.mean(errors)) for t, errors in cells.items()}
    spread = {t: float(np.std(e, ddof=1)) if len(e) > 1 else 0.0 for t, e in cells.items()}
    low = min(means[t] - spread[t] for t in cells)
    high = max(means[t] + spread[t] for t in cells)
    distance = step(max(high - low, 1.0))
    low = distance * np.floor(low / distance)
    high = distance * (np.floor(high / distance) + 1)
    left, top, right, bottom = MARGIN[0], MARGIN[1], PLOT[0] - MARGIN[2], PLOT[1] - MARGIN[3]
    logs = np.log(list(cells))
    across = (logs - logs[0]) / ((logs[-1] - logs[0]) or 1.0)
    xs = dict(zip(cells, left + 12 + across * (right - left - 24), strict=True))

    def height(errors: float) -> float:
        return bottom - (errors - low) / (high - low) * (bottom - top)

    parts = [text(left, 22, title, size=13)]
    for tick in np.arange(low, high + distance / 2, distance):
        parts.append(line(left, height(tick), right, height(tick), stroke="#dddddd"))
        parts.append(text(left - 6, height(tick) + 4, f"{tick:g}", anchor="end", size=10))
    for t, x in xs.items():
        parts.append(line(x, bottom, x, bottom + 4, stroke=INK))
        parts.append(text(x, bottom + 15, f"{t:g}", anchor="middle", size=9))
        ends = height(means[t] - spread[t]), height(means[t] + spread[t])
        parts.append(line(x, ends[0], x, ends[1], stroke=LABEL))
    points = [(x, height(means[t])) for t, x in xs.items()]
    parts.append(polyline(points, stroke=LABEL, stroke_width=1.5))
    parts += [element("circle", cx=float(x), cy=float(y), r=3, fill=LABEL) for x, y in points]
    parts.append(line(left, bottom, right, bottom, stroke=INK))
    parts.append(text((left + right) / 2, PLOT[1] - 8, "temperature", anchor="middle"))
    turn = f"rotate(-90 14 {(top + bottom) / 2:g})"
    parts.append(text(14, (top + bottom) / 2, "errors", anchor="middle", transform=turn))
    return parts


def _svg(width: int, height: int, parts: list[str]) -> str:
    """The file; its white ground keeps it readable on a dark page."""
    ground = element("rect", width=width, height=height, fill="#ffffff")
    style = {"width": width, "height": height, "font_family": "sans-serif", "fill": INK}
    return document(width, height, [ground, *parts], **style) + "\n"
