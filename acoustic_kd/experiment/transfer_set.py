"""The transfer set: the speech that the distilled model learns from, transcribed or not.

Train is transcribed. A corpus may hold a split without transcripts beside it; it goes through
features and soft targets, and is in no other stage. docs/corpora.md
"""

from collections.abc import Iterable
from pathlib import Path

from acoustic_kd.corpora.utterances import SPLITS, UNTRANSCRIBED
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.features.frames import count_frames, shard_paths
from acoustic_kd.settings import Config
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.system.errors import UserError

TRAINING_SPLITS = ("train", UNTRANSCRIBED)  # the splits that a model may be trained on


def all_splits(experiment: Experiment) -> tuple[str, ...]:
    """The splits of the experiment's corpus; UNTRANSCRIBED is the last, if there is one."""
    files = experiment.done("corpus").get("files", {})
    return (*SPLITS, UNTRANSCRIBED) if f"{UNTRANSCRIBED}.jsonl" in files else SPLITS


def chosen_splits(config: Config, splits: tuple[str, ...]) -> tuple[str, ...]:
    """Those that `distill.transfer_set` asks for, of the splits that a corpus has."""
    wanted = {"transcribed": ("train",), "untranscribed": (UNTRANSCRIBED,), "all": TRAINING_SPLITS}
    chosen = tuple(s for s in wanted[config.distill.transfer_set] if s in splits)
    if not chosen:
        raise UserError(
            f"setting 'distill.transfer_set' is {config.distill.transfer_set}, but corpus "
            f"'{config.corpus.name}' has no speech without transcripts; give some with "
            "corpus.untranscribed=DIR, or take transcripts away with corpus.untranscribed_share"
        )
    return chosen


def transfer_shards(experiment: Experiment) -> list[Path]:
    """The frame shards of the transfer set."""
    return _shards(experiment, chosen_splits(experiment.config, all_splits(experiment)))


def control_shards(experiment: Experiment) -> list[Path]:
    """The frame shards that the control learns from: what is transcribed, and its copies."""
    return _shards(experiment, ("train",))


def _shards(experiment: Experiment, splits: Iterable[str]) -> list[Path]:
    """The frame shards of some splits, and of their copies."""
    return [path for store in _stores(experiment, splits).values() for path in shard_paths(store)]


def _stores(experiment: Experiment, splits: Iterable[str]) -> dict[str, Path]:
    """The stores of some splits' frames, and of their copies, by name."""
    splits = list(splits)
    stores = {split: experiment.path("frames") / split for split in splits}
    if experiment.config.features.transfer_vtlp_warps:
        stores |= {f"copies-{split}": experiment.path("copies") / split for split in splits}
    return stores


def soft_target_shards(experiment: Experiment) -> list[tuple[Path, Path]]:
    """Every frame shard that soft targets are made for, and where they go.

    Those of all that may be a transfer set are one store: `shard-00000.h5` for that shard of train,
    `shard-untranscribed-00000.h5` for that of speech without transcripts, and
    `shard-copies-SPLIT-00000.h5` for those of their copies.
    """
    out = experiment.path("soft-targets")
    learnt = [split for split in all_splits(experiment) if split in TRAINING_SPLITS]
    return [
        (
            path,
            out / path.name.replace("shard-", "shard-" if name == "train" else f"shard-{name}-"),
        )
        for name, store in _stores(experiment, learnt).items()
        for path in shard_paths(store)
    ]


def transfer_frames(experiment: Experiment) -> dict[str, int]:
    """How many frames the transfer set has, and how many of them have no transcript."""
    shards = transfer_shards(experiment)
    untranscribed = [path for path in shards if path.parent.name == UNTRANSCRIBED]
    return {"frames": count_frames(shards), "untranscribed": count_frames(untranscribed)}


def encoding_of(config: Config) -> Encoding:
    """How the soft targets are stored."""
    soft = config.soft_targets
    return Encoding(soft.encoding, soft.kept_classes, soft.kept_mass, soft.bits, soft.seed)
