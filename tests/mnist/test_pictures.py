"""The pictures of the MNIST report: PNG files read back, images chosen, SVG that is XML."""

import base64
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import torch

from acoustic_kd.features.frames import read_frames
from acoustic_kd.mnist.data import Digits, Mnist
from acoustic_kd.mnist.experiment import write_frames
from acoustic_kd.mnist.pictures import (
    LABEL,
    SECOND,
    choose_images,
    soft_target_picture,
    temperature_picture,
)
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.write import Provenance, write_shard

SVG = "{http://www.w3.org/2000/svg}"
LABELS = np.repeat(np.arange(10), 3)


def read_png(content: bytes) -> np.ndarray:
    """The pixels of an unfiltered greyscale PNG, its check sums tested."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", content, place + 8 + length)[0] == zlib.crc32(kind + data)
        chunks[kind], place = data, place + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 0, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def parse(svg: str) -> ET.Element:
    root = ET.fromstring(svg)  # noqa: S314
    _, _, width, height = root.get("viewBox").split()
    ground = root.find(f"{SVG}rect")
    assert (ground.get("width"), ground.get("height")) == (width, height)
    assert ground.get("fill") == "#ffffff"
    return root


def distilled(temperature, **more):
    net = {"row": "distilled", "experiment": 3, "teacher": "cumbersome-01", "seed": 1}
    return net | {"temperature": temperature} | more


def write_experiment(directory, temperatures):
    """Three images of every digit; the teacher takes the nth of them for the next digit more."""
    images = np.random.default_rng(0).integers(0, 256, (30, 784)).astype(np.uint8)
    digits = Digits(images, LABELS)
    write_frames(Mnist(digits, digits, "pretended digits", False), directory)
    frames = read_frames(directory / "frames" / "train")
    logits = 9.0 * torch.nn.functional.one_hot(torch.from_numpy(LABELS), 10)
    likeness = torch.arange(30) % 3
    logits[torch.arange(30), (torch.from_numpy(LABELS) + 1) % 10] = 2.0 * likeness
    for t in temperatures:
        path = directory / "soft_targets" / "cumbersome-01" / f"T{t:g}" / "shard-00000.h5"
        means, provenance = [(logits / t).softmax(-1)], Provenance(t, ("digest",))
        write_shard(path, frames, means, provenance, Encoding("dense"))
    return frames


def test_the_image_most_like_another_digit_is_chosen_among_those_the_teacher_is_sure_of():
    labels = np.array([2, 2, 2, 2, 5, 5, 7])
    at_one = np.full((7, 10), 0.0)
    for row, (label, top, second) in enumerate(
        [
            (2, 0.99, 0.005),
            (2, 0.92, 0.07),  # the one
            (2, 0.55, 0.45),  # more like a 3, but the teacher is not sure
            (3, 0.95, 0.05),  # taken for a 3
            (5, 0.6, 0.3),
            (5, 0.5, 0.4),  # of 5 it is sure of none
            (1, 0.9, 0.1),  # of 7 it has none right
        ]
    ):
        at_one[row, label], at_one[row, (label + 1) % 10] = top, second
    assert choose_images(labels, at_one, 1.0, at_one) == [1, 5]
    # The same from soft targets at a higher temperature alone, as they are stored.
    warm = (at_one + 1e-9) ** (1 / 20)
    warm = (warm / warm.sum(1, keepdims=True)).astype(np.float16).astype(float)
    assert choose_images(labels, warm, 20.0, warm) == [1, 5]


def test_the_soft_targets_of_a_tiny_experiment(tmp_path):
    frames = write_experiment(tmp_path, (1, 4, 5, 20))
    nets = [distilled(t) for t in (20, 1, 5, 4)]
    nets.append(distilled(2, teacher="cumbersome-01+02-geometric"))
    root = parse(svg := soft_target_picture({"nets": nets}, tmp_path))
    assert len(svg) < 200_000
    images = root.findall(f"{SVG}image")
    for digit, image in enumerate(images):
        kind, data = image.get("href").split(",")
        assert kind == "data:image/png;base64"
        ink = 255 - read_png(base64.b64decode(data)).astype(int)
        chosen = frames.features[3 * digit + 2].float().numpy()  # most like the next digit
        assert np.abs(ink.ravel() - 255 * chosen).max() <= 0.51
    assert len(images) == 10
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert [t.split(" (")[0] for t in texts if t.startswith("T =")] == ["T = 1", "T = 4", "T = 20"]
    bars = root.findall(f"{SVG}rect")[1:]
    assert len(bars) == 3 * 10 * 10
    for colour, heights in ((LABEL, (56, 56)), (SECOND, (0, 56))):
        found = [float(bar.get("height")) for bar in bars if bar.get("fill") == colour]
        assert len(found) == 30
        assert min(found) > heights[0] - 0.1 and max(found) <= heights[1]


def test_without_soft_targets_there_is_no_picture(tmp_path):
    assert soft_target_picture({"nets": []}, tmp_path) is None
    assert soft_target_picture({"nets": [distilled(20.0)]}, tmp_path) is None
    write_experiment(tmp_path, (1,))
    assert soft_target_picture({"nets": [distilled(20.0)]}, tmp_path) is None
    root = parse(soft_target_picture({"nets": [distilled(1.0)]}, tmp_path))  # a single temperature
    assert len(root.findall(f"{SVG}rect")) == 1 + 100


def cell(width, temperature, seed, errors):
    return distilled(temperature, seed=seed, experiment=4, width=width, errors=errors)


def test_errors_against_temperature():
    temperatures = (1, 2.5, 20)
    nets = [
        cell(width, t, seed, round(30_000 / width + t + seed))
        for width in (30, 800, 100)
        for t in reversed(temperatures)
        for seed in (1, 2, 3)
    ]
    assert temperature_picture({"nets": [distilled(20.0)]}) is None
    root = parse(temperature_picture({"nets": [*nets, cell(300, 20.0, 1, 74)]}))
    panels = root.findall(f"{SVG}g/{SVG}svg")
    cells = {800: 3, 300: 1, 100: 3, 30: 3}
    assert [panel.get("aria-label") for panel in panels] == [f"{w} units a layer" for w in cells]
    for panel, count in zip(panels, cells.values(), strict=True):
        assert len(list(panel.iter(f"{SVG}path"))) == count + 1  # marks, one in the legend
        curves = [curve.get("points").split() for curve in panel.iter(f"{SVG}polyline")]
        assert len(curves) == 1 + count  # means, deviations
        for points in curves:  # from the lowest temperature on
            places = [float(point.split(",")[0]) for point in points]
            assert places == sorted(places)
