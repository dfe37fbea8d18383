"""The small model of a flat start as it lies on disk, and utterances aligned with it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from acoustic_kd.decoding.align import Transcripts
from acoustic_kd.errors import UserError
from acoustic_kd.files import atomic_path
from acoustic_kd.flat_start.gaussians import Mixtures, log_likelihoods
from acoustic_kd.flat_start.outliers import score_path
from acoustic_kd.lexicon import SILENCE

BEAM = 500.0  # nats; where utterances are long, many times as fast as dropping nothing


@dataclass(frozen=True)
class Round:
    """Where a round of training has led.

    Attributes:
        mixtures: the model, fitted to the last alignment.
        durations: float64 [K], mean frames in a state at a visit. They change when the number of
            Gaussians does and at the end: graphs that have them serve for several rounds.
        scores: float64 [U], of each utterance in the last alignment, as `score_path`.
        history: of each round its number, Gaussians a state, log-likelihood a frame, and how many
            utterances it did not learn from.
        finished: whether the gain has stopped, or there are to be no more rounds.
    """

    mixtures: Mixtures
    durations: np.ndarray
    scores: np.ndarray
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    def write(self, path: Path) -> None:
        """Write it as safetensors, whole or not at all."""
        model = self.mixtures
        tensors = {
            "weights": model.weights,
            "means": model.means,
            "variances": model.variances,
            "durations": self.durations,
            "scores": self.scores,
        }
        tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        # One note, since safetensors writes several in any order.
        notes = {"round": json.dumps({"history": self.history, "finished": self.finished})}
        try:
            with atomic_path(path) as temporary:
                save_file(tensors, temporary, notes)
        except SafetensorError as error:  # a full disk, for one
            raise UserError(f"{path}: cannot be written ({error})") from None


def read_round(path: Path) -> Round:
    """Read what `Round.write` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "np") as file:
            notes = json.loads(file.metadata()["round"])
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Round(
            Mixtures(found["weights"], found["means"], found["variances"]),
            found["durations"],
            found["scores"],
            notes["history"],
            notes["finished"],
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the stage again") from None


class FlatAligner:
    """Aligns utterances with mixtures of Gaussians, one of each of the transcripts' senones."""

    def __init__(self, mixtures: Mixtures, transcripts: Transcripts) -> None:
        self.mixtures, self.transcripts = mixtures, transcripts
        self.silent = np.array([leaf.phone == SILENCE for leaf in transcripts.inventory.leaves])

    def align(
        self, words: list[str], frames: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Align one utterance.

        Args:
            words: its transcript.
            frames: its cepstra [T, D].

        Returns:
            The state of every frame, int32 [T]; components [T, G, K]; log-likelihoods [T, K].

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the frames.
        """
        self.transcripts.check(words, len(frames))
        components = self.mixtures.components(frames)
        loglikes = log_likelihoods(components)
        return self.transcripts.path(words, loglikes, BEAM), components, loglikes

    def score(self, path: np.ndarray, loglikes: np.ndarray) -> float:
        """How well an utterance fits its alignment: see `score_path`."""
        return score_path(loglikes, path, self.silent)
