"""The transfer set: the speech that the distilled model trains on, transcribed or not.

Train is transcribed. A corpus may have one more split, without transcripts; the stages features,
frames and soft-targets read it, and no other does. docs/corpora.md
"""

from collections.abc import Iterable
from pathlib import Path

from acoustic_kd.corpora.utterances import ALL_SPLITS, SPLITS, UNTRANSCRIBED
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.features.copies import Copy, train_copies, transfer_copies
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import count_frames
from acoustic_kd.settings import Config
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.system.errors import UserError

TRANSFER = "transfer-"  # before a split: the store of its copies for distilled models alone
TRAINING_SPLITS = ("train", UNTRANSCRIBED)  # the splits that a model may be trained on


def all_splits(experiment: Experiment) -> tuple[str, ...]:
    """The splits of the experiment's corpus; UNTRANSCRIBED is the last, if it has one."""
    files = experiment.done("corpus").get("files", {})
    return ALL_SPLITS if f"{UNTRANSCRIBED}.jsonl" in files else SPLITS


def chosen_splits(config: Config, splits: tuple[str, ...]) -> tuple[str, ...]:
    """The splits of a corpus that `distill.transfer_set` selects."""
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
    """The frame shards that the control trains on: the transcribed ones, and their copies."""
    return _shards(experiment, ("train",))


def member_shards(experiment: Experiment) -> list[Path]:
    """The frame shards that members train on: the transcribed ones, and the copies for members."""
    stores = _stores(experiment, ("train",))
    return [p for n, s in stores.items() if not n.startswith(TRANSFER) for p in shard_paths(s)]


def copies_by_store(config: Config) -> dict[str, list[Copy]]:
    """The copies that the stage `copies` makes, by the prefix of their stores' names."""
    copies = {"": train_copies(config.features), TRANSFER: transfer_copies(config.features)}
    return {prefix: of_store for prefix, of_store in copies.items() if of_store}


def copies_of_utterance(config: Config) -> int:
    """How many copies of an utterance there are for distilled models, with the utterance itself."""
    return 1 + sum(map(len, copies_by_store(config).values()))


def _shards(experiment: Experiment, splits: Iterable[str]) -> list[Path]:
    """The frame shards of some splits, and of their copies."""
    return [path for store in _stores(experiment, splits).values() for path in shard_paths(store)]


def _stores(experiment: Experiment, splits: Iterable[str]) -> dict[str, Path]:
    """The stores of some splits' frames, and of their copies, by name."""
    splits = list(splits)
    stores = {split: experiment.path("frames") / split for split in splits}
    for prefix in copies_by_store(experiment.config):
        for split in splits:
            name = f"{prefix or 'copies-'}{split}"
            stores[name] = experiment.path("copies") / f"{prefix}{split}"
    return stores


def soft_target_shards(experiment: Experiment) -> list[tuple[Path, Path]]:
    """Every frame shard that gets soft targets, and the path of these.

    The soft targets of all splits that can be a transfer set are one store: `shard-00000.h5` for
    this shard of train, `shard-untranscribed-00000.h5` for one of speech without transcripts,
    `shard-copies-SPLIT-00000.h5` and `shard-transfer-SPLIT-00000.h5` for those of a split's copies.
    """
    out = experiment.path("soft-targets")
    splits = [split for split in all_splits(experiment) if split in TRAINING_SPLITS]
    return [
        (path, out / path.name.replace("shard-", "shard-" if name == "train" else f"shard-{name}-"))
        for name, store in _stores(experiment, splits).items()
        for path in shard_paths(store)
    ]


def transfer_frames(experiment: Experiment) -> dict[str, int]:
    """The number of frames of the transfer set, and of those without a transcript."""
    shards = transfer_shards(experiment)
    untranscribed = [path for path in shards if path.parent.name.endswith(UNTRANSCRIBED)]
    return {"frames": count_frames(shards), "untranscribed": count_frames(untranscribed)}


def encoding_of(config: Config) -> Encoding:
    """The encoding of the soft targets."""
    soft = config.soft_targets
    return Encoding(soft.encoding, soft.kept_classes, soft.kept_mass, soft.bits, soft.seed)
