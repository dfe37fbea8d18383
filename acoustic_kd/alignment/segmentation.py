"""The segmentation of an utterance into HMM states: what every aligner returns."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import jsonl_rows, write_jsonl

STATES = 3  # HMM states of every phone


class AlignmentFailure(Exception):
    """One utterance cannot be aligned; the text says why."""


def check_transcript(words: Sequence[str], lexicon: Lexicon) -> None:
    """Raise an AlignmentFailure for a transcript that no aligner can do anything with."""
    unknown = [word for word in words if word not in lexicon]
    if unknown:
        raise AlignmentFailure(f"word '{unknown[0]}' is not in the lexicon")
    if not words:
        raise AlignmentFailure("the transcript is empty")


@dataclass(frozen=True)
class Segmentation:
    """Phones of one utterance, in time order, and how long each of their states lasts.

    Attributes:
        id: the utterance.
        phones: N phones, silence included.
        durations: int64 [N, 3], frames of 10 ms spent in each state.
    """

    id: str
    phones: tuple[str, ...]
    durations: np.ndarray

    def __len__(self) -> int:
        """Frames in all."""
        return int(self.durations.sum())

    def resized_to(self, frames: int) -> "Segmentation":
        """The same segmentation over exactly `frames` frames: cut, or its last state drawn out.

        Front ends disagree by a frame or two about where an utterance ends.
        """
        ends = np.minimum(np.cumsum(self.durations), frames)
        ends[-1] = frames
        durations = np.diff(ends, prepend=0).reshape(-1, STATES)
        return Segmentation(self.id, self.phones, durations)


def write_segmentations(path: Path, segmentations: list[Segmentation]) -> None:
    """Write one JSON object an utterance: id, phones (one string), durations [N][3]."""
    write_jsonl(
        path,
        (
            {"id": s.id, "phones": " ".join(s.phones), "durations": s.durations.tolist()}
            for s in segmentations
        ),
    )


def read_segmentations(path: Path) -> list[Segmentation]:
    """Read what `write_segmentations` wrote.

    Raises:
        UserError: the file is missing, or a line is malformed (it is named).
    """
    segmentations = []
    for number, row in enumerate(jsonl_rows(path), start=1):
        try:
            phones = tuple(map(sys.intern, row["phones"].split()))  # millions of a few dozen
            durations = np.asarray(row["durations"], np.int64).reshape(len(phones), STATES)
            if not phones or (durations < 0).any():
                raise ValueError
            segmentations.append(Segmentation(row["id"], phones, durations))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}:{number}: not a segmentation of an utterance") from None
    return segmentations
