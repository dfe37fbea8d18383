"""The segmentation of an utterance into HMM states: what every aligner returns."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.features.audio import AudioError
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import AGAIN, jsonl_rows, write_jsonl
from acoustic_kd.system.parallel import map_ordered

NO_TRANSCRIPT = "it has no transcript (such speech belongs in a split 'untranscribed')"

Alignment = TypeVar("Alignment")
# From an utterance, its words and data that its frames come from; may raise AlignmentFailure.
AlignUtterance = Callable[[Utterance, list[str], Any], Alignment]


class AlignmentFailure(Exception):
    """One utterance cannot be aligned; the text says why."""


def check_transcript(words: Sequence[str], lexicon: Lexicon) -> None:
    """Raise an AlignmentFailure for a transcript with unknown words or without words."""
    unknown = [word for word in words if word not in lexicon]
    if unknown:
        raise AlignmentFailure(f"word '{unknown[0]}' is not in the lexicon")
    if not words:
        raise AlignmentFailure("the transcript is empty")


@dataclass(frozen=True)
class Segmentation:
    """Phones of one utterance, in time order, and how long each of their states lasts.

    Attributes:
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
        """The same segmentation over exactly `frames` frames: cut, or its last state extended.

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


class _Row(TypedDict):
    id: str
    phones: str
    durations: list  # of integers, looked at by NumPy: there are millions


def read_segmentations(path: Path) -> list[Segmentation]:
    """Read what `write_segmentations` wrote."""
    what, segmentations = "a segmentation of an utterance", []
    for where, row in jsonl_rows(path, _Row, what):
        phones = tuple(map(sys.intern, row["phones"].split()))  # millions of a few dozen
        try:
            durations = np.asarray(row["durations"]).reshape(len(phones), STATES)
            if not phones or durations.dtype != np.int64 or (durations < 0).any():
                raise ValueError
        except ValueError:
            raise UserError(f"{where}: not {what}; {AGAIN}") from None
        segmentations.append(Segmentation(row["id"], phones, durations))
    return segmentations


def align_all(
    state: Callable[[], AlignUtterance[Alignment]],
    split: str,
    items: Iterable[tuple[Utterance, Any]],
    total: int,
) -> Iterator[tuple[str, Alignment | str]]:
    """Align the utterances of a split in several processes.

    Args:
        state: importable; makes the function that aligns, once in each process.
        split: for the progress bar.
        items: utterances, each with the data that the function aligns.
        total: about how many utterances.

    Yields:
        The id of each utterance, with its alignment or the reason why there is none.
    """
    return map_ordered(_align_one, items, f"align {split}", total, state=state)


def _align_one(
    align: AlignUtterance[Alignment], item: tuple[Utterance, Any]
) -> tuple[str, Alignment | str]:
    utterance, data = item
    if utterance.text is None:
        return utterance.id, NO_TRANSCRIPT
    try:
        return utterance.id, align(utterance, utterance.text.split(), data)
    except (AudioError, AlignmentFailure) as error:
        return utterance.id, str(error)
