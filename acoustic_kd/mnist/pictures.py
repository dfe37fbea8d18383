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
from acoustic_kd.reports.charts import WIDTH, Series, document, element, line, lines, text
from acoustic_kd.soft_targets.read import read_soft_targets

MIN_LABEL_PROBABILITY = 0.9  # of the teacher at temperature 1, for an image that is shown
INK, GREY, LABEL, SECOND = "#222222", "#9a9a9a", "#1f6fb4", "#d9660d"
IMAGE, BAR, ROW, LEFT, TOP = 56, 15, 78, 20, 64  # pixels of the soft targets' picture
PANEL = 10 * BAR + 30
PANEL_HEIGHT = 260  # of the temperatures' picture
STYLE = f".grid{{stroke:#dddddd}}.axis{{stroke:{INK}}}.curve{{stroke:{LABEL}}}.mark{{fill:{LABEL}}}"


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
    """One image of each digit beside its soft targets; None without soft targets.

    Args:
        directory: of the experiment, with its `frames` and `soft_targets`.
    """
    teachers = {net["teacher"] for net in results["nets"] if net["teacher"]}
    # A single net rather than a mean of several.
    names = sorted(teachers, key=lambda name: ("+" in name, name))
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
    chosen = choose_images(labels, soft[temperatures[0]], temperatures[0], soft[middle])
    images = frames.features[chosen].float().numpy().reshape(-1, SIDE, SIDE)
    return _draw_soft_targets(images, labels[chosen], {t: p[chosen] for t, p in soft.items()})


def choose_images(
    labels: np.ndarray, coldest: np.ndarray, temperature: float, middle: np.ndarray
) -> list[int]:
    """For each digit, among images that the teacher is sure of, the one most like another digit.

    Args:
        labels: [N].
        coldest: soft targets [N, K] at `temperature`, the lowest.
        middle: soft targets [N, K] whose second probability measures the likeness.
    """
    at_one = coldest**temperature  # one net's soft targets at T are p^(1/T), normalised
    at_one /= at_one.sum(1, keepdims=True)
    right = coldest.argmax(1) == labels
    sure = right & (at_one[np.arange(len(labels)), labels] >= MIN_LABEL_PROBABILITY)
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
    title = "Soft targets; blue: the label, orange: the most probable other digit"
    parts = [text(LEFT, 24, title, size=12)]
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
        place = {"x": LEFT, "y": TOP + number * ROW, "width": IMAGE, "height": IMAGE}
        look = {"style": "image-rendering:pixelated", "href": f"data:image/png;base64,{data}"}
        parts.append(element("image", **place, **look))
    return _svg(max(LEFT + IMAGE + 30 + len(soft) * PANEL, 470), TOP + len(images) * ROW + 6, parts)


def temperature_picture(results: dict[str, Any]) -> str | None:
    """Mean errors against temperature ± s.d., a panel a width; None without experiment 4."""
    panels = []
    for number, (width, cells) in enumerate(grid(results).items()):
        title, series = f"{width} units a layer", []
        for temperature, errors in cells.items():
            mean, x = float(np.mean([*errors.values()])), float(np.log(temperature))
            deviation = float(np.std([*errors.values()], ddof=1)) if len(errors) > 1 else 0.0
            bar = [(x, mean - deviation), (x, mean), (x, mean + deviation)]
            series.append(Series(title, bar, marked=False))
        means = Series(title, [bar.points[1] for bar in series])
        ticks = [(x, f"{t:g}") for t, (x, _) in zip(cells, means.points, strict=True)]
        panel = lines(title, "temperature", "errors", [means, *series], x_ticks=ticks)
        place = f"translate({number % 2 * WIDTH} {number // 2 * PANEL_HEIGHT})"
        panels.append(element("g", panel, transform=place))
    if not panels:
        return None
    width, height = min(len(panels), 2) * WIDTH, (len(panels) + 1) // 2 * PANEL_HEIGHT
    return _svg(width, height, [element("style", STYLE), *panels])


def _svg(width: int, height: int, parts: list[str]) -> str:
    """The file; its white ground keeps it readable on a dark page."""
    ground = element("rect", width=width, height=height, fill="#ffffff")
    style = {"width": width, "height": height, "font_family": "sans-serif", "fill": INK}
    return document(width, height, [ground, *parts], **style) + "\n"
