"""Reads figures that earlier stages wrote: measurements, frame figures, results."""

from pathlib import Path
from typing import Any, Literal, TypedDict

from acoustic_kd.reports.results import Measurement
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json

Split = Literal["dev", "test"]


class _Percent(TypedDict):
    percent: float


class _Wer(_Percent):
    errors: int
    words: int
    substitutions: int
    insertions: int
    deletions: int


class _Measurement(TypedDict):
    name: str
    kind: str
    lm_weight: float
    penalty: float
    frames: dict[Split, dict[str, tuple[int, int]]]
    wer: dict[Split, _Wer]
    real_time_factor: dict[Split, float]
    unfinished: dict[Split, int]


class _Accuracy(TypedDict):
    dev: float
    test: float
    sd: float | None


class _PooledWer(_Percent):
    ci95: tuple[float, float]
    sd: float | None


class _WerOfKind(TypedDict):
    dev: _Percent
    test: _PooledWer


class _MoreOfSystem(TypedDict, total=False):
    network: str
    network_real_time_factor: float


class _System(_MoreOfSystem):
    name: str
    members: int
    parameters: int
    frame_accuracy: _Accuracy
    wer: _WerOfKind
    real_time_factor: float


class _Model(TypedDict):
    name: str
    frame_accuracy: dict[Split, float]
    wer: dict[Split, _Wer]
    lm_weight: float
    insertion_penalty: float
    unfinished: dict[Split, int]


class _Pair(TypedDict):
    points: float
    ci95: tuple[float, float]
    probability_better: float


class _Differences(TypedDict):
    drawn: str
    pairs: dict[str, _Pair]


class _NewWords(TypedDict):
    words: int
    new: int
    right: dict[str, int]


class _MoreResults(TypedDict, total=False):
    gain_kept: dict[str, float | None]
    gain_kept_ci95: dict[str, tuple[float, float] | None]
    gain_kept_over_control: dict[str, float | None]
    gain_kept_over_control_ci95: dict[str, tuple[float, float] | None]
    speakers: list[dict[str, Any]]
    new_words: _NewWords
    transfer_set: dict[str, int]
    last_epoch_gains: dict[str, float]
    bfloat16: bool
    command: str
    minutes: dict[str, float]
    folds: int


class _Results(_MoreResults):
    corpus: str
    config_digest: str
    systems: list[_System]
    differences: dict[Literal["frame_accuracy", "wer"], _Differences]
    each_model: list[_Model]


class _Bin(TypedDict):
    frames: int
    right: int
    confidence: float


class _Phone(TypedDict):
    frames: int
    right: int
    taken_for: dict[str, int]
    mass: dict[str, float]


class _Example(TypedDict):
    phone: str
    utterance: str
    frame: int
    senone: str
    temperatures: list[float]
    senones: dict[str, list[float]]


class _MoreFigures(TypedDict, total=False):
    examples: list[_Example]


class _FrameFigures(_MoreFigures):
    frames: int
    right: int
    cross_entropy: float
    real_time_factor: float
    bins: list[_Bin]
    phones: dict[str, _Phone]


def read_measurement(folder: Path) -> Measurement:
    """The `measurement.json` that the decode stage wrote for a system."""
    return Measurement(**read_json(folder / "measurement.json", _Measurement, "a measurement"))


def read_frame_figures(path: Path) -> dict[str, Any]:
    """A `frames.json` of the decode stage."""
    figures: dict[str, Any] = read_json(path, _FrameFigures, "figures of frames")
    return figures


def read_results(folder: Path) -> dict[str, Any]:
    """The `results.json` of an experiment."""
    path = folder / "results.json"
    values = read_json(path)
    if not isinstance(values, dict) or "systems" not in values:
        raise UserError(f"{path}: not results of speech; give experiments of `acoustic-kd run`")
    results: dict[str, Any] = read_json(path, _Results, "results of speech")
    return results
