#!/usr/bin/env python3
"""What much speech costs, from constants that were measured or are assumed.

For each number of hours of speech: hours of CPU cores and of GPUs, and terabytes. For each of them
and each number of GPUs: how long members, soft targets and the distilled model take, what the GPUs
read together while it learns, and what bounds a step of a member and of the distilled model:
arithmetic, launching (what the host does a step), exchange of gradients, or reading. Members are
trained side by side where that is faster, each on its share of the GPUs, else one after the other
on all. docs/clusters.md explains.

usage: tools/scale.py [--hours 1000 60000 1000000] [--gpus 8 256] [--CONSTANT VALUE …]
"""

import argparse
from dataclasses import dataclass, fields
from itertools import pairwise
from math import ceil
from typing import Any

FRAMES_AN_HOUR = 360_000
WINDOW = 26 * 40  # values that the net sees (paper section 4)


@dataclass(frozen=True)
class Constants:
    """What the costs follow from; each is an option of its name.

    Attributes:
        layers, width, classes, members: of the nets.
        epochs: of each of them.
        batch: frames of a step on each GPU.
        tflops: of one GPU's matrix products in bfloat16, 10¹² a second.
        train_share, predict_share: of that, what training and writing soft targets reach.
        step_ms: what the host does a step whatever its size, milliseconds.
        node_gpus: GPUs of one machine.
        inside, between: GB a second that a GPU exchanges with those of its machine, with others.
        storage: GB a second that the file system gives all GPUs together.
        feature_bytes, frame_bytes, soft_bytes: of a frame's features before they are normalised,
            of what is trained on, and of its soft targets.
        features_speed, align_speed: × real time, of one core.
    """

    layers: int = 8
    width: int = 2560
    classes: int = 14_000
    members: int = 10
    epochs: int = 10
    batch: int = 8192
    tflops: float = 700.0
    train_share: float = 0.65
    predict_share: float = 0.8
    step_ms: float = 5.0
    node_gpus: int = 8
    inside: float = 300.0
    between: float = 40.0
    storage: float = 100.0
    feature_bytes: float = 160.0
    frame_bytes: float = 84.0
    soft_bytes: float = 62.0
    features_speed: float = 520.0
    align_speed: float = 47.0

    @property
    def products(self) -> list[int]:
        """Multiplications a frame of each layer."""
        sizes = [WINDOW, *[self.width] * self.layers, self.classes]
        return [fan_in * fan_out for fan_in, fan_out in pairwise(sizes)]

    @property
    def train_seconds(self) -> float:
        """Of one GPU, for one frame: forward, and two products backward but at the inputs."""
        flop = 6 * sum(self.products) - 2 * self.products[0]
        return flop / (self.train_share * self.tflops * 1e12)

    @property
    def predict_seconds(self) -> float:
        """Of one GPU, for one frame, all members."""
        flop = 2 * sum(self.products) * self.members
        return flop / (self.predict_share * self.tflops * 1e12)

    def step(self, gpus: int, bytes_a_frame: float) -> dict[str, float]:
        """Seconds of a step of one model on so many GPUs, by what might bound it.

        Gradients are summed in float32 while the backward pass goes on, the next frames are read
        meanwhile, and the host runs ahead: the slowest of them is what a step takes.

        Args:
            bytes_a_frame: that are read.
        """
        link = self.inside if gpus <= self.node_gpus else self.between
        exchanged = 2 * 4 * sum(self.products) * (gpus - 1) / gpus
        return {
            "arithmetic": self.batch * self.train_seconds,
            "launching": self.step_ms / 1e3,
            "exchange": exchanged / (link * 1e9),
            "reading": gpus * self.batch * bytes_a_frame / (self.storage * 1e9),
        }

    def train(self, hours: float, gpus: int, bytes_a_frame: float) -> tuple[float, str]:
        """Hours for one model on so many GPUs, and what bounds them."""
        parts = self.step(gpus, bytes_a_frame)
        bound = max(parts, key=lambda name: parts[name])
        steps = self.epochs * hours * FRAMES_AN_HOUR / (gpus * self.batch)
        return steps * parts[bound] / 3600, bound

    def ensemble(self, hours: float, gpus: int) -> tuple[float, int, str]:
        """Hours for all members, how many are trained at a time, and what bounds them."""
        plans = []
        for together in range(1, min(self.members, gpus) + 1):
            each, bound = self.train(hours, gpus // together, together * self.frame_bytes)
            plans.append((ceil(self.members / together) * each, together, bound))
        return min(plans)


def needs(constants: Constants, hours: float) -> list[str]:
    """A row of what is needed wherever it is done."""
    frames, gpu = hours * FRAMES_AN_HOUR, 3600.0
    one = frames * constants.epochs * constants.train_seconds / gpu
    return [
        f"{hours:,.0f}",
        f"{frames / 1e9:,.2f}",
        f"{frames * (constants.feature_bytes + constants.frame_bytes) / 1e12:,.2f}",
        f"{frames * constants.soft_bytes / 1e12:,.2f}",
        f"{frames * 2 * constants.classes / 1e12:,.0f}",
        f"{hours / constants.features_speed:,.0f}",
        f"{hours / constants.align_speed:,.0f}",
        f"{constants.members * one:,.0f}",
        f"{frames * constants.predict_seconds / gpu:,.1f}",
        f"{one:,.0f}",
    ]


def times(constants: Constants, hours: float, gpus: int) -> list[str]:
    """A row of how long it takes on so many GPUs."""
    members, together, bound = constants.ensemble(hours, gpus)
    soft = hours * FRAMES_AN_HOUR * constants.predict_seconds / gpus / 3600
    both = constants.frame_bytes + constants.soft_bytes
    distilled, limit = constants.train(hours, gpus, both)
    frames = constants.epochs * hours * FRAMES_AN_HOUR
    return [
        f"{hours:,.0f}",
        f"{gpus}",
        f"{members:,.1f}",
        f"{together}",
        bound,
        f"{soft:,.2f}",
        f"{distilled:,.1f}",
        limit,
        f"{members + soft + distilled:,.1f}",
        f"{frames * both / (distilled * 3600) / 1e9:,.1f}",
        f"{frames / constants.epochs / (gpus * constants.batch):,.0f}",
    ]


def table(headings: str, rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [f"| {headings} |", f"|{'---|' * (headings.count('|') + 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def pages(constants: Constants, hours: list[float], gpus: list[int]) -> str:
    """Both tables."""
    needed = table(
        "hours | 10⁹ frames | features and frames, TB | soft targets, TB | dense in float16, TB | "
        "core-hours, features | core-hours, alignment | GPU-hours, members | GPU-hours, soft "
        "targets | GPU-hours, distilled model",
        [needs(constants, h) for h in hours],
    )
    taken = table(
        "hours | GPUs | members, h | at a time | bound by | soft targets, h | distilled model, h | "
        "bound by | together, h | GB/s read | steps an epoch",
        [times(constants, h, n) for h in hours for n in gpus],
    )
    return f"{needed}\n\n{taken}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hours", type=float, nargs="+", default=[1_000, 60_000, 1_000_000])
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 256])
    for field in fields(Constants):
        name: Any = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=name, default=field.default)
    options = vars(parser.parse_args())
    hours, gpus = options.pop("hours"), options.pop("gpus")
    print(pages(Constants(**options), hours, gpus))


if __name__ == "__main__":
    main()
