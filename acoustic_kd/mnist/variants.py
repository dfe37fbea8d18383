"""The rows of the experiment: which nets are trained, on which targets, how often."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acoustic_kd.settings import ModelConfig, TrainConfig, check_values, choices
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.yaml_dataclasses import fill, read_yaml

DIGITS = 10


@dataclass(frozen=True)
class Variant:
    """One kind of net, trained once a temperature and seed.

    Attributes:
        experiment: its number in the report.
        title: what the report calls it.
        paper: the paper's errors of 10,000, where it has them.
        seeds: how many nets, numbered from 1.
        max_norm, weight_decay: as in `TrainConfig`.
        jitter: training images are moved by up to so many pixels each way, at random.
        teacher: the row that gives the soft targets; null: the net learns the hard ones.
        members: of the teacher row are averaged; with one, net n learns from teacher n.
        mean: how they are averaged.
        temperatures: of the soft targets, a net each.
        hard_weight: of the hard targets beside the soft ones.
        digits: those in the transfer set.
        correct: the classes whose bias is corrected after training.
    """

    experiment: int = 0
    title: str = ""
    paper: float | None = None
    seeds: int = 3
    layers: int = 2
    width: int = 800
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    jitter: int = 0
    epochs: int = 30
    batch_frames: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    teacher: str | None = None
    members: int = 1
    mean: str = "arithmetic"
    temperatures: tuple[float, ...] = (20.0,)
    hard_weight: float = 0.0
    digits: tuple[int, ...] = tuple(range(DIGITS))
    correct: tuple[int, ...] = ()

    @property
    def model(self) -> ModelConfig:
        """The net: one image is one frame, without neighbours."""
        return ModelConfig(self.layers, self.width, self.dropout, self.input_dropout, 0, 0)

    @property
    def train(self) -> TrainConfig:
        """How it is trained: a schedule that is fixed beforehand, so that no image is held out."""
        return TrainConfig(
            epochs=self.epochs,
            batch_frames=self.batch_frames,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            max_norm=self.max_norm,
            schedule="cosine",
        )


@dataclass(frozen=True)
class Run:
    """One net of a row.

    Attributes:
        row: the row's name.
        temperature: of its soft targets; None for hard ones.
        seed: from 1.
    """

    row: str
    settings: Variant
    temperature: float | None
    seed: int

    @property
    def name(self) -> str:
        """Where it lies under the experiment's runs."""
        middle = "" if self.temperature is None else f"T{self.temperature:g}/"
        return f"{self.row}/{middle}{self.seed:02d}"


@dataclass(frozen=True)
class Teacher:
    """Whose predictions a net learns: the nets `seeds` of a row, averaged."""

    row: str
    seeds: tuple[int, ...]
    mean: str

    @property
    def name(self) -> str:
        """Where its soft targets lie."""
        seeds = "+".join(f"{seed:02d}" for seed in self.seeds)
        return f"{self.row}-{seeds}" + ("" if len(self.seeds) == 1 else f"-{self.mean}")


def read_rows(path: Path, full: bool) -> dict[str, Variant]:
    """The rows of a settings file: all of them, or those of `quick` with its settings.

    Raises:
        UserError: the file is missing or malformed, or a setting is unknown or out of range.
    """
    values = read_yaml(path)
    if not isinstance(values, dict) or set(values) != {"rows", "quick"}:
        raise UserError(f"{path}: expected the mappings 'rows' and 'quick' and nothing else")
    settings, quick = (_by_name(path, part, values[part]) for part in ("rows", "quick"))
    rows = {name: _row(path, f"rows.{name}", row) for name, row in settings.items()}
    if not full:
        for name in quick:
            if name not in rows:
                raise UserError(f"{path}: quick.{name} is no row; rows are {', '.join(rows)}")
        rows = {
            name: _row(path, f"quick.{name}", settings[name] | changes)
            for name, changes in quick.items()
        }
    if not rows:
        raise UserError(f"{path}: there are no {'rows' if full else 'quick rows'}")
    for name, row in rows.items():
        _check(path, name, row, rows)
    return rows


def _by_name(path: Path, part: str, values: Any) -> dict[str, dict[str, Any]]:
    """A mapping of names to settings, checked to be one."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: {part} must be a mapping of rows")
    for name, row in values.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9-]+", name):
            raise UserError(
                f"{path}: {part}.{name}: a row's name is of lower-case letters, digits and hyphens"
            )
        if row is not None and not isinstance(row, dict):
            raise UserError(f"{path}: {part}.{name} must be a mapping of settings")
    return {name: row or {} for name, row in values.items()}


def _row(path: Path, name: str, values: Any) -> Variant:
    row = fill(Variant, values, str(path), f"{name}.", ())
    for part, settings in (("model", row.model), ("train", row.train)):
        for key, value in vars(settings).items():
            try:
                check_values({f"{part}.{key}": value})
            except UserError as error:
                text = str(error).replace(f"{part}.{key}", f"{name}.{key}")
                raise UserError(f"{path}: {text}") from None
    return row


def _check(path: Path, name: str, row: Variant, rows: dict[str, Variant]) -> None:
    """Raise a UserError for what a row asks for and cannot have."""
    digits = set(range(DIGITS))
    wrong = None
    if row.seeds < 1:
        wrong = "seeds must be 1 or more"
    elif row.mean not in (means := choices("soft_targets.mean")):
        wrong = f"mean is '{row.mean}'; it must be {' or '.join(means)}"
    elif not row.digits or not set(row.digits) <= digits or not set(row.correct) <= digits:
        wrong = "digits and correct must be among 0 … 9"
    elif set(row.correct) == digits:
        wrong = "correct must leave a class as it is: only differences of biases matter"
    elif not all(0 < t < float("inf") for t in row.temperatures) or not row.temperatures:
        wrong = "temperatures must be greater than 0"
    elif len({f"{t:g}" for t in row.temperatures}) < len(row.temperatures):
        wrong = "temperatures must differ, in six digits"
    elif not 0 <= row.hard_weight < float("inf") or not 0 <= row.jitter <= 10:
        wrong = "hard_weight must be 0 or more, jitter 0 to 10 pixels"
    elif row.teacher is not None and row.teacher not in rows:
        wrong = f"teacher '{row.teacher}' is no row of this run"
    elif row.teacher is not None and rows[row.teacher].teacher is not None:
        wrong = f"teacher '{row.teacher}' is itself distilled"
    elif row.teacher is not None and not 1 <= row.members <= rows[row.teacher].seeds:
        wrong = f"members must be 1 to {rows[row.teacher].seeds}, the seeds of its teacher"
    if wrong:
        raise UserError(f"{path}: row '{name}': {wrong}")


def runs_of(rows: dict[str, Variant]) -> Iterator[Run]:
    """Every net of every row."""
    for name, row in rows.items():
        for temperature in row.temperatures if row.teacher is not None else (None,):
            for seed in range(1, row.seeds + 1):
                yield Run(name, replace(row), temperature, seed)


def teacher_of(run: Run, rows: dict[str, Variant]) -> Teacher | None:
    """Whose predictions a net learns, or None."""
    row = run.settings
    if row.teacher is None:
        return None
    if row.members > 1:
        return Teacher(row.teacher, tuple(range(1, row.members + 1)), row.mean)
    return Teacher(row.teacher, ((run.seed - 1) % rows[row.teacher].seeds + 1,), "arithmetic")
