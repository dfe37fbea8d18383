"""Soft targets from posteriors that models outside have made: `soft_targets.posteriors`.

docs/kaldi.md
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.config import Config
from acoustic_kd.ensemble import mean_of
from acoustic_kd.errors import UserError
from acoustic_kd.features import original_id
from acoustic_kd.files import digest, ends_mark
from acoustic_kd.frames import outline, read_index
from acoustic_kd.kaldi.lengths import fitted
from acoustic_kd.kaldi.objects import POSTERIOR, Sparse
from acoustic_kd.kaldi.posteriors import log_posteriors
from acoustic_kd.kaldi.tables import Table, files_of
from acoustic_kd.soft_targets.manifest import Entry
from acoustic_kd.soft_targets.write import Origin, reblocked, write_shard
from acoustic_kd.stages.transfer import encoding_of


def posterior_sources(config: Config) -> dict[str, str]:
    """What is known of each model's archives without reading them whole, if there are any.

    Raises:
        UserError: they are not there.
    """
    given = enumerate(config.soft_targets.posteriors, start=1)
    return {f"posteriors {number}": _mark(archives) for number, archives in given}


def _mark(given: str) -> str:
    return digest([ends_mark(path) for path in files_of(given)])


def write_outside(
    config: Config, todo: list[tuple[Path, Path]]
) -> Iterator[tuple[Path, int, Entry]]:
    """Write some shards of soft targets: the mean of the outside models' tempered posteriors.

    Args:
        todo: each one's frame shard and where it goes.

    Yields:
        Where one has gone, its frames and its manifest entry.

    Raises:
        UserError: an archive lacks an utterance, has other frames or classes, or no posteriors.
    """
    settings = config.soft_targets
    tables = [Table(given, POSTERIOR) for given in settings.posteriors]
    members = tuple(map(_mark, settings.posteriors))
    origin = Origin(settings.temperature, members, settings.mean, settings.weights)
    for shard, target in todo:
        index = read_index([shard])
        lengths = dict(zip(index.ids, np.diff(index.offsets).tolist(), strict=True))
        predictions = _predictions(config, tables, lengths, index.classes.count)
        blocks = reblocked(lengths, predictions, index.classes.count, target.parent)
        frames = outline(lengths, index.classes)
        yield target, len(frames), write_shard(target, frames, blocks, origin, encoding_of(config))
    for table in tables:
        table.close()


def _predictions(
    config: Config, tables: list[Table], lengths: Mapping[str, int], classes: int
) -> Iterator[Tensor]:
    """The mean [T, K] of the tables, of utterance after utterance.

    A copy at another vocal tract length is predicted as its original is.
    """
    soft = config.soft_targets
    for name, length in lengths.items():
        logits = (_logits(config, table, original_id(name), length, classes) for table in tables)
        yield mean_of(map(torch.from_numpy, logits), soft.temperature, soft.mean, soft.weights)


def _logits(config: Config, table: Table, name: str, length: int, classes: int) -> np.ndarray:
    where = f"{table.given} (utterance '{name}')"
    if name not in table:
        raise UserError(
            f"{table.given}: utterance '{name}' is not in it; write posteriors of the whole "
            "transfer set, under the ids that it has here"
        )
    found = table[name]
    if isinstance(found, Sparse) and config.soft_targets.mean == "geometric":
        raise UserError(
            f"{where}: classes that a sparse posterior does not name have probability 0, which no "
            "geometric mean is taken of; give soft_targets.mean=arithmetic, or whole matrices"
        )
    found = fitted(found, length, config.align.snip_edges, where)
    return log_posteriors(found, classes, where)
