"""The frames of a split, normalised over speakers, utterances or all frames."""

from collections.abc import Hashable, Iterator
from pathlib import Path

import numpy as np

from acoustic_kd.corpora.load import has_features
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.outputs import read_split, stored_frames
from acoustic_kd.features.copies import copy_mark, original_id
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.normalise import UNKNOWN_LEVEL, gather_moments, group_of, loudest_levels


def normalised(experiment: Experiment, split: str) -> Iterator[Frames]:
    """The frames of a split, normalised over each group of `features.normalise`."""
    for source in {split, "train"} if experiment.config.features.normalise == "global" else {split}:
        experiment.verify("features", f"{source}/*")
    return Normaliser(experiment, experiment.path("features"), split).frames()


def with_frames(
    experiment: Experiment, split: str, utterances: list[Utterance]
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """The utterances that have features, each with its normalised frames [T, D]."""
    by_id = {utterance.id: utterance for utterance in utterances}
    for frames in normalised(experiment, split):
        if frames.id in by_id:
            yield by_id[frames.id], frames.features


class Normaliser:
    """Normalises the frames of the store `features`/`split` over each group.

    Global moments are those of `features`/train; others are those of the speaker or utterance.

    Attributes:
        moments: (group, mark of a copy) → its moments; a copy sounds like another speaker.
    """

    def __init__(self, experiment: Experiment, features: Path, split: str) -> None:
        method = experiment.config.features.normalise
        source = "train" if method == "global" else split
        self._features, self._split = features, split
        self._group = method
        # A speaker's recordings are compared with each other, because one of them may be silent.
        self._voice = "speaker" if method == "global" else method
        self._speakers: dict[str, dict[str, str]] = {}
        self._loudest: dict[str, dict[Hashable, float]] = {}
        for part in {source, split}:
            self._speakers[part] = {u.id: u.speaker for u in read_split(experiment, part)}
            stored = (
                () if has_features(experiment.config.corpus) else stored_frames(features / part)
            )
            pairs = ((self._key(self._voice, part, u.id), u.features) for u in stored)
            self._loudest[part] = loudest_levels(pairs)
        self.moments = gather_moments(
            (self._key(self._group, source, u.id), u.features, level)
            for u, level in self._with_levels(source)
        )

    def _key(self, method: str, part: str, name: str) -> tuple[str, str]:
        return group_of(method, name, self._speakers[part][original_id(name)]), copy_mark(name)

    def _with_levels(self, part: str) -> Iterator[tuple[Frames, float]]:
        """The utterances of a store, with the level of the speaker's loudest frame."""
        for u in stored_frames(self._features / part):
            level = self._loudest[part].get(self._key(self._voice, part, u.id), UNKNOWN_LEVEL)
            yield u, level

    def frames(self) -> Iterator[Frames]:
        """The normalised utterances of the store."""
        for u, level in self._with_levels(self._split):
            moments = self.moments[self._key(self._group, self._split, u.id)]
            yield Frames(u.id, moments.normalise(u.features, level), None)
