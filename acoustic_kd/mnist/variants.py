"""The variants of the experiment: which nets are trained, on which targets, how often."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acoustic_kd.settings import TEMPERATURE, ModelConfig, TrainConfig, check_values, choices
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.yaml_dataclasses import fill, read_yaml

DIGITS = 10
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Variant:
    """One kind of net, trained once a temperature and seed.

    Attributes:
        experiment: its number in the report.
        title: its name in the report.
        paper: the errors of 10,000 that the paper gives, if it does.
        seeds: how many nets, numbered from 1.
        max_norm, weight_decay: as in `TrainConfig`.
        jitter: training images are moved by up to so many pixels each way, at random.
        teacher: the variant that gives the soft targets; null: the net learns the hard ones.
        members: of the teacher variant are averaged; with one, net n learns from teacher n.
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
class VariantRun:
    """One net of a variant.

    Attributes:
        temperature: of its soft targets; None for hard ones.
        seed: from 1.
    """

    variant: str
    settings: Variant
    temperature: float | None
    seed: int

    @property
    def name(self) -> str:
        """Its directory under `runs` of the experiment."""
        middle = "" if self.temperature is None else f"T{self.temperature:g}/"
        return f"{self.variant}/{middle}{self.seed:02d}"


@dataclass(frozen=True)
class Teacher:
    """The nets `seeds` of a variant, whose averaged predictions are soft targets."""

    variant: str
    seeds: tuple[int, ...]
    mean: str

    @property
    def name(self) -> str:
        """The directory of its soft targets under `soft_targets` of the experiment."""
        seeds = "+".join(f"{seed:02d}" for seed in self.seeds)
        return f"{self.variant}-{seeds}" + ("" if len(self.seeds) == 1 else f"-{self.mean}")


def read_variants(path: Path, full: bool) -> dict[str, Variant]:
    """The variants of a settings file: all of them, or those of `quick` with its settings."""
    values = read_yaml(path)
    if not isinstance(values, dict) or set(values) != {"variants", "quick"}:
        raise UserError(f"{path}: expected the mappings 'variants' and 'quick' and nothing else")
    settings, quick = (_by_name(path, part, values[part]) for part in ("variants", "quick"))
    variants = {
        name: _read_variant(path, f"variants.{name}", values) for name, values in settings.items()
    }
    if not full:
        for name in quick:
            if name not in variants:
                known = ", ".join(variants)
                raise UserError(f"{path}: quick.{name}: no such variant; give one of {known}")
        variants = {
            name: _read_variant(path, f"quick.{name}", settings[name] | changes)
            for name, changes in quick.items()
        }
    if not variants:
        raise UserError(f"{path}: no {'variants' if full else 'quick variants'}; give at least one")
    for name, variant in variants.items():
        _check(path, name, variant, variants)
    return variants


def _by_name(path: Path, part: str, values: Any) -> dict[str, dict[str, Any]]:
    """Check that `values` is a mapping of names to settings."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: {part} must be a mapping of variants")
    for name, variant in values.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9-]+", name):
            raise UserError(
                f"{path}: {part}.{name}: give the variant a name of lower-case letters, digits "
                "and hyphens"
            )
        if variant is not None and not isinstance(variant, dict):
            raise UserError(f"{path}: {part}.{name} must be a mapping of settings")
    return {name: variant or {} for name, variant in values.items()}


def _read_variant(path: Path, name: str, values: Any) -> Variant:
    variant = fill(Variant, values, str(path), f"{name}.", ())
    for part, settings in (("model", variant.model), ("train", variant.train)):
        for key, value in vars(settings).items():
            try:
                check_values({f"{part}.{key}": value})
            except UserError as error:
                text = str(error).replace(f"{part}.{key}", f"{name}.{key}")
                raise UserError(f"{path}: {text}") from None
    return variant


def _check(path: Path, name: str, variant: Variant, variants: dict[str, Variant]) -> None:
    """Raise a UserError if settings of a variant contradict each other or those of its teacher."""
    digits, teacher = set(range(DIGITS)), variants.get(variant.teacher or "")
    wrong = None
    if not 1 <= variant.seeds <= MAX_SEEDS:
        wrong = f"seeds must be 1 to {MAX_SEEDS}"
    elif variant.paper is not None and not 0 <= variant.paper <= 10_000:
        wrong = "paper must be a number of errors of 10,000 images"
    elif variant.mean not in (means := choices("soft_targets.mean")):
        wrong = f"mean is '{variant.mean}'; it must be {' or '.join(means)}"
    elif not variant.digits or not digits.issuperset([*variant.digits, *variant.correct]):
        wrong = "digits and correct must be among 0 … 9"
    elif set(variant.correct) == digits:
        wrong = "correct must leave out a class: only differences of biases matter"
    elif not variant.temperatures or not all(map(TEMPERATURE.allows, variant.temperatures)):
        wrong = f"temperatures must be {TEMPERATURE.text}"
    elif len({f"{t:g}" for t in variant.temperatures}) < len(variant.temperatures):
        wrong = "temperatures must differ, in six digits"
    elif not 0 <= variant.hard_weight <= 1_000_000 or not 0 <= variant.jitter <= 10:
        wrong = "hard_weight must be 0 to 1000000, jitter 0 to 10 pixels"
    elif variant.teacher is not None and teacher is None:
        wrong = f"teacher '{variant.teacher}' is no variant of this run"
    elif teacher is not None and teacher.teacher is not None:
        wrong = f"teacher '{variant.teacher}' is itself distilled"
    elif teacher is not None and not 1 <= variant.members <= teacher.seeds:
        wrong = f"members must be 1 to {teacher.seeds}, the seeds of its teacher"
    if wrong:
        raise UserError(f"{path}: variant '{name}': {wrong}")


def runs_of(variants: dict[str, Variant]) -> Iterator[VariantRun]:
    """Every net of every variant."""
    for name, variant in variants.items():
        for temperature in variant.temperatures if variant.teacher is not None else (None,):
            for seed in range(1, variant.seeds + 1):
                yield VariantRun(name, replace(variant), temperature, seed)


def teacher_of(run: VariantRun, variants: dict[str, Variant]) -> Teacher | None:
    """The teacher of a net, or None."""
    variant = run.settings
    if variant.teacher is None:
        return None
    if variant.members > 1:
        return Teacher(variant.teacher, tuple(range(1, variant.members + 1)), variant.mean)
    seed = (run.seed - 1) % variants[variant.teacher].seeds + 1
    return Teacher(variant.teacher, (seed,), "arithmetic")
