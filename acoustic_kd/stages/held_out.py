"""Folds of train's speakers, each of which some members do not learn from.

So soft targets are cross-fitted: what a member predicts of an utterance is no memory of the
utterance's labels (Dao, Kamath, Syrgkanis, Mackey, *Knowledge Distillation as Semiparametric
Inference*, 2021, arXiv 2104.09732). docs/transfer-set.md
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.corpora.manifest import read_manifest, shuffled_speakers
from acoustic_kd.errors import UserError
from acoustic_kd.features import original_id
from acoustic_kd.frames import Frames, read_index
from acoustic_kd.order import deal
from acoustic_kd.stages.experiment import Experiment

HELD_OUT = ("soft_targets.held_out",)  # the setting that shapes members


@dataclass(frozen=True)
class Folds:
    """The folds.

    Attributes:
        count: F, how many there are.
        numbers: utterance of train, copies left out → its fold, from 0 on.
    """

    count: int
    numbers: Mapping[str, int]

    def fold_of(self, utterance: str) -> int | None:
        """The fold of an utterance, or of a copy's original; None: no member learns from it."""
        return self.numbers.get(original_id(utterance))

    def held_out(self, member: int) -> int:
        """The fold that a member does not learn from; the first member is number 1."""
        return (member - 1) % self.count

    def weights(self, frames: Frames, given: Sequence[float] | None, members: int) -> Tensor:
        """float32 [T, M], the weights of the members for each frame: 0 for those that learnt it.

        Args:
            given: the weights of the M members in the mean; None: equal.
        """
        own = torch.ones(members) if given is None else torch.tensor(given, dtype=torch.float32)
        held_out = torch.tensor([self.held_out(member) for member in range(1, members + 1)])
        # No member has learnt from an utterance without a fold.
        rows = {fold: own * (held_out == fold) for fold in range(self.count)} | {None: own}
        table = torch.stack([rows[self.fold_of(name)] for name in frames.ids])
        return table.repeat_interleave(torch.from_numpy(np.diff(frames.offsets)), 0)


def read_folds(experiment: Experiment) -> Folds | None:
    """The folds that `soft_targets.held_out` asks for; None where it asks for none.

    They depend on the frames of each speaker and on `corpus.seed` alone, and differ by the frames
    of one speaker at most.

    Raises:
        UserError: train has fewer speakers than that.
    """
    config = experiment.config
    count = config.soft_targets.held_out
    if count is None:
        return None
    manifest = experiment.path("corpus") / "train.jsonl"
    speakers = {utterance.id: utterance.speaker for utterance in read_manifest(manifest)}
    lengths = read_index(experiment.path("frames") / "train").lengths
    frames: Counter[str] = Counter()
    for name, length in lengths.items():
        frames[speakers[original_id(name)]] += length
    if count > len(frames):
        raise UserError(
            f"setting 'soft_targets.held_out' is {count}; it must be at most the number of "
            f"speakers in train, {len(frames)}"
        )
    order = shuffled_speakers(frames, config.corpus.seed)
    dealt = deal(np.arange(len(order)), np.array([frames[speaker] for speaker in order]), count)
    fold = {order[place]: number for number, places in enumerate(dealt) for place in places}
    originals = map(original_id, lengths)
    return Folds(count, {name: fold[speakers[name]] for name in originals})
