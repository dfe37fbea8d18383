"""Small artificial digits, ten patterns in noise, and a small experiment on them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.mnist.data import Digits, Mnist
from acoustic_kd.system.parallel import Task

VARIANTS = """
variants:
  teacher:
    {experiment: 1, title: the teachers, paper: 67, seeds: 2, width: 24, dropout: 0.2,
     input_dropout: 0.1, max_norm: 2.0, jitter: 1, epochs: 5, batch_frames: 50,
     learning_rate: 5e-3}
  hard: {experiment: 2, seeds: 2, width: 16, epochs: 3, batch_frames: 50, learning_rate: 5e-3}
  distilled:
    {experiment: 3, seeds: 3, width: 16, epochs: 3, batch_frames: 50, learning_rate: 5e-3,
     teacher: teacher, temperatures: [2, 5.5], hard_weight: 0.1}
  no-threes:
    {experiment: 5, seeds: 1, width: 16, epochs: 8, batch_frames: 50, learning_rate: 5e-3,
     teacher: teacher, temperatures: [5.5], digits: [0, 1, 2, 4, 5, 6, 7, 8, 9], correct: [3]}
  arithmetic: &ensemble
    {experiment: 7, seeds: 1, width: 16, epochs: 1, batch_frames: 50, learning_rate: 5e-3,
     teacher: teacher, members: 2, temperatures: [2]}
  geometric: {<<: *ensemble, mean: geometric}
quick:
  teacher: {seeds: 1, epochs: 1}
  distilled: {seeds: 1, temperatures: [2]}
"""


def make_digits(count: int, seed: int) -> Digits:
    """Digits with a pattern of 7 × 7 squares for each class, and a few wrong squares."""
    patterns = np.random.default_rng(99).random((10, 7, 7)) < 0.2
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10)
    squares = patterns[labels] ^ (rng.random((count, 7, 7)) < 0.1)
    inked = squares.repeat(4, 1).repeat(4, 2)
    images = 255 * inked + rng.normal(0, 40, inked.shape)
    return Digits(images.clip(0, 255).astype(np.uint8).reshape(count, 784), labels)


def make_mnist(test_seed: int = 2) -> Mnist:
    return Mnist(make_digits(600, 1), make_digits(200, test_seed), "pretended digits", False)


def run_here(
    tasks: Sequence[Task], jobs: int, state: Callable[[], Any]
) -> Iterator[tuple[Task, Any]]:
    """`run_tasks` in this process, one task after the other: no other process has to start."""
    made = state()
    done: set[str] = set()
    for task in tasks:
        assert done.issuperset(task.needs), f"{task.name} comes before what it needs"
        yield task, task.function(made, *task.arguments)
        done.add(task.name)


def times(directory: Path) -> dict[str, int]:
    """When each file was last written."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in paths}


def written(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """The steps (folders with a done.json) that ran between two calls of `times`."""
    changed = {name for name in after if after[name] != before.get(name)}
    return {name.removesuffix("/done.json") for name in changed if name.endswith("/done.json")}
