"""Files of an experiment: their names, and how later stages read them."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.alignment.segmentation import Segmentation, read_segmentations
from acoustic_kd.alignment.senones import SenoneInventory, read_inventory
from acoustic_kd.corpora.utterances import Exclusion, Utterance, check_excluded, read_manifest
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import read_utterances
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_jsonl

INVENTORY = Path("senones", "inventory.json")  # in the directory of an experiment
# In the directory of the frames stage; the last two with `frames.speaker_cepstra`.
STATISTICS, SPEAKER_SPACE, TRANSFORMS = "statistics.json", "speaker_space.json", "transforms.json"
LEXICON = "lexicon.txt"  # in those of the corpus stage and the graph stage

UNLABELLED = Classes(0, "")


def graph_lexicon_path(experiment: Experiment) -> Path:
    """The file of the pronunciations of the words, or pieces, that the graph recognises."""
    experiment.verify("graph", LEXICON)
    experiment.verify("corpus", LEXICON)
    path = experiment.path("graph") / LEXICON
    return path if path.is_file() else experiment.path("corpus") / LEXICON


def read_split(experiment: Experiment, split: str) -> list[Utterance]:
    """The utterances of a split, as the corpus stage wrote them."""
    experiment.verify("corpus", f"{split}.jsonl")
    return read_manifest(experiment.path("corpus") / f"{split}.jsonl")


def read_aligned(experiment: Experiment, split: str) -> dict[str, Segmentation]:
    """Utterance → its segmentation, as the align stage wrote it."""
    segmentations = read_segmentations(experiment.path("align") / f"{split}.jsonl")
    return {segmentation.id: segmentation for segmentation in segmentations}


@dataclass(frozen=True)
class FrameLabels:
    """The classes of a split's frames.

    Attributes:
        classes: number and hash of the classes.
        aligned: utterance → its alignment.
        visits_of: alignment → the classes that it visits, int32 [N], and frames in each, int64.
    """

    classes: Classes
    aligned: dict[str, Any]
    visits_of: Callable[[Any], tuple[np.ndarray, np.ndarray]]

    def targets(self, name: str) -> np.ndarray:
        """The class of every frame of an utterance, int32 [T]."""
        return np.repeat(*self.visits_of(self.aligned[name]))


def inventory_of(experiment: Experiment) -> SenoneInventory:
    """The experiment's senones."""
    experiment.verify("senones", INVENTORY.name)
    return read_inventory(experiment.directory / INVENTORY)


def tree_path(experiment: Experiment, tree: int) -> Path:
    """The senones of a further decision tree (`senones.trees`)."""
    return experiment.path("senones") / f"tree-{tree}.json"


def conversion_path(experiment: Experiment, tree: int) -> Path:
    """The matrix that converts predictions of a further decision tree to the first."""
    return experiment.path("senones") / f"tree-{tree}.safetensors"


def frame_targets(experiment: Experiment, split: str) -> dict[str, np.ndarray]:
    """Utterance → senone of every frame, for aligned utterances."""
    experiment.verify("frames", f"{split}/*")
    frames = stored_frames(experiment.path("frames") / split)
    return {u.id: u.targets for u in frames if u.targets is not None}


def check_kept(
    directory: Path, split: str, kept: int, excluded: list[Exclusion], most: float
) -> None:
    """Raise a UserError if too many of a split were left out; first list them all.

    Args:
        excluded: of this and other splits.
        most: as of `check_excluded`.
    """
    try:
        check_excluded(
            split, kept, [exclusion for exclusion in excluded if exclusion.split == split], most
        )
    except UserError:
        report_exclusions(directory, excluded)
        raise


def report_exclusions(directory: Path, excluded: list[Exclusion]) -> None:
    """List excluded utterances in `excluded.jsonl` and report their number on the terminal."""
    write_jsonl(directory / "excluded.jsonl", (asdict(exclusion) for exclusion in excluded))
    if excluded:
        print(f"  {len(excluded)} utterances left out, listed in {directory / 'excluded.jsonl'}")


def stored_frames(directory: Path) -> Iterator[Frames]:
    """The utterances of a store, shard by shard."""
    for path in shard_paths(directory):
        yield from read_utterances(path)
