"""Bundles: directories with all that recognising needs, and nothing else of an experiment.

`acoustic-kd bundle` writes them. `config.json` has the settings, and the SHA-256 of every other
file.
"""

import importlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from acoustic_kd.alignment.senones import read_inventory, read_statistics
from acoustic_kd.decoding.search import Decoder, SearchSettings
from acoustic_kd.features.fmllr import SpeakerSpace, read_speaker_space
from acoustic_kd.features.normalise import Moments
from acoustic_kd.language.pieces import PIECES_FILE, Joiner
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.settings import FeatureConfig, check_values
from acoustic_kd.system.errors import UserError, first_line
from acoustic_kd.system.files import file_sha256, read_json
from acoustic_kd.system.json_types import WrongType, reader

FORMAT = "acoustic_kd bundle"
VERSION = 1
CONFIG = "config.json"
MODEL, INT8_MODEL = "model.onnx", "model.int8.onnx"
INVENTORY, STATISTICS, LEXICON = "inventory.json", "statistics.json", "lexicon.txt"
GRAPH = ("HCLG.fst", "words.txt", "graph.json")
NEEDED = (*GRAPH, INVENTORY, STATISTICS, LEXICON, MODEL)
SPEAKER_SPACE = "speaker_space.json"
MAY_HAVE = (PIECES_FILE, SPEAKER_SPACE, INT8_MODEL, "model.safetensors", "model.json")
AGAIN = "write or fetch the bundle again"


@dataclass(frozen=True)
class BundleConfig:
    """The content of `config.json`.

    Attributes:
        format, version: FORMAT and VERSION.
        model: what the experiment calls it, such as distilled/01.
        features, search: settings of the frames and of the search.
        weights: LM weight and word insertion penalty.
        trained_hz: frequency up to which the model learnt from sound.
        window: frames before and after a frame that its posteriors depend on.
        train_moments: number, sums and sums of squares of the frames that the model learnt from.
        files: name → SHA-256.
    """

    format: str
    version: int
    model: str
    features: FeatureConfig
    search: SearchSettings
    weights: tuple[float, float]
    trained_hz: float
    window: tuple[int, int]
    train_moments: tuple[int, list[float], list[float]]
    files: dict[str, str]


def is_bundle(directory: Path) -> bool:
    """Whether a directory is a bundle, of any version and for any program."""
    try:
        value = json.loads((Path(directory) / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and str(value.get("format")).startswith(FORMAT)


def onnx_runtime() -> ModuleType:
    """The module onnxruntime, without its telemetry."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def read_bundle(directory: Path, int8: bool = False) -> Recognizer:
    """The recogniser of a bundle, whose files are checked."""
    config = _read_config(directory)
    model = INT8_MODEL if int8 else MODEL
    if model not in config.files:
        raise UserError(f"{directory}: has no {model}; write the bundle with --int8")
    for name, digest in config.files.items():
        if not (directory / name).is_file() or file_sha256(directory / name) != digest:
            raise UserError(f"{directory / name}: missing, damaged or of another bundle; {AGAIN}")
    log_prior, durations = read_statistics(directory / STATISTICS)
    return Recognizer(
        features=config.features,
        scorer=OnnxScorer.read(directory / model, log_prior, durations, config.window),
        decoder=Decoder(directory, config.search),
        weights=config.weights,
        inventory=read_inventory(directory / INVENTORY),
        lexicon=directory / LEXICON,
        join=Joiner.of(directory),
        trained_hz=config.trained_hz,
        train_moments=Moments(*config.train_moments),
        speaker_space=_read_speaker_space(directory, config, len(log_prior)),
    )


def _read_speaker_space(directory: Path, config: BundleConfig, classes: int) -> SpeakerSpace | None:
    if SPEAKER_SPACE not in config.files:
        return None
    space = read_speaker_space(directory / SPEAKER_SPACE, classes)
    if space.dimension != config.features.mel_bins:
        raise UserError(f"{directory / SPEAKER_SPACE}: does not fit features.mel_bins; {AGAIN}")
    return space


def _read_config(directory: Path) -> BundleConfig:
    path = directory / CONFIG
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path}: not a bundle of acoustic-kd; acoustic-kd bundle writes one")
    if value.get("version") != VERSION:
        raise UserError(
            f"{path}: format {value.get('version')} of bundles, and this acoustic-kd reads "
            f"{VERSION}; install another version of acoustic-kd"
        )
    try:
        config: BundleConfig = reader(BundleConfig)(value)
        check_values({f"features.{k}": v for k, v in asdict(config.features).items()})
        count, *sums = config.train_moments
        if count < 1 or any(len(values) != config.features.mel_bins for values in sums):
            raise WrongType("does not fit features.mel_bins", "train_moments")
        if min(config.window) < 0 or config.weights[0] <= 0:
            raise WrongType("a window or weight is negative")
        if not set(NEEDED) <= set(config.files) <= {*NEEDED, *MAY_HAVE}:
            raise WrongType("lists other files than a bundle has", "files")
    except (WrongType, UserError) as error:
        raise UserError(f"{path}: {error}; {AGAIN}") from None
    return config


@dataclass(frozen=True)
class OnnxScorer:
    """A model in ONNX Runtime; see `runtime.recognizer.Scorer`.

    Attributes:
        session: an onnxruntime.InferenceSession.
    """

    session: Any
    log_prior: np.ndarray
    durations: np.ndarray
    window: tuple[int, int]

    @classmethod
    def read(
        cls,
        path: Path,
        log_prior: np.ndarray,
        durations: np.ndarray,
        window: tuple[int, int],
        threads: int = 0,
    ) -> "OnnxScorer":
        """Load a model; `threads`: of its operations, 0: one for each core."""
        runtime = onnx_runtime()
        try:
            options = runtime.SessionOptions()
            options.intra_op_num_threads = threads
            providers = ["CPUExecutionProvider"]
            session = runtime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors have no class of their own
            raise UserError(f"{path}: cannot be loaded ({first_line(error)}); {AGAIN}") from None
        return cls(session, log_prior, durations, window)

    def with_model(self, path: Path) -> "OnnxScorer":
        """Another model with the same senones and windows."""
        return self.read(path, self.log_prior, self.durations, self.window)

    def posteriors(self, features: np.ndarray) -> np.ndarray:
        """The posteriors [T, K] for normalised frames [T, D]."""
        dimension = features.shape[1]
        inputs = {
            "log_mels": features,  # normalised already, so nothing is left to do
            "mean": np.zeros(dimension, np.float32),
            "deviation": np.ones(dimension, np.float32),
            "silence": np.array(-np.inf, np.float32),
        }
        (log_posteriors,) = self.session.run(["log_posteriors"], inputs)
        probabilities: np.ndarray = np.exp(log_posteriors)
        return probabilities
