"""The soft-targets stage: the ensemble's tempered predictions, or those of external models."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import posterior_sources
from acoustic_kd.experiment.models import ensemble_system, read_ensemble
from acoustic_kd.experiment.transfer_set import encoding_of, soft_target_shards
from acoustic_kd.features.copies import original_id
from acoustic_kd.features.frames import frame_index, read_frames, read_index
from acoustic_kd.kaldi.archives import Table
from acoustic_kd.kaldi.objects import POSTERIOR, Sparse
from acoustic_kd.kaldi.posteriors import frames_as_here, log_posteriors
from acoustic_kd.settings import Config
from acoustic_kd.soft_targets.manifest import Entry, is_finished
from acoustic_kd.soft_targets.predictions import in_blocks
from acoustic_kd.soft_targets.write import Provenance, blocks_of, write_shard
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import prefetch
from acoustic_kd.training.ensemble import Mean, mean_of
from acoustic_kd.training.processes import (
    done_and_due,
    make_accelerator,
    report_lost_processes,
    shared_numbers,
)


def _write_external(config: Config, todo: Iterable[tuple[Path, Path]]) -> None:
    """`write_soft_targets` with the mean of the external models' tempered posteriors."""
    settings = config.soft_targets
    tables = [Table(given, POSTERIOR) for given in settings.external_posteriors]
    members = tuple(posterior_sources(config).values())
    provenance = Provenance(settings.temperature, members, settings.mean, settings.weights)
    for shard, target in todo:
        index = read_index([shard])
        lengths = dict(zip(index.ids, np.diff(index.offsets).tolist(), strict=True))
        blocks = in_blocks(_predictions(config, tables, lengths, index.classes.count))
        frames = frame_index(lengths, index.classes)
        entry = write_shard(target, frames, blocks, provenance, encoding_of(config))
        _report_written(target, len(frames), entry)
    for table in tables:
        table.close()


def _predictions(
    config: Config, tables: list[Table], lengths: Mapping[str, int], classes: int
) -> Iterator[Tensor]:
    """The mean [T, K] of the tables, of utterance after utterance.

    A copy at another vocal tract length has the predictions of its original.
    """
    soft = config.soft_targets
    for name, length in lengths.items():
        logits = (_logits(config, table, original_id(name), length, classes) for table in tables)
        yield mean_of(map(torch.from_numpy, logits), soft.temperature, soft.mean, soft.weights)


def _logits(config: Config, table: Table, name: str, length: int, classes: int) -> np.ndarray:
    where = f"{table.given} (utterance '{name}')"
    if name not in table:
        raise UserError(
            f"{table.given}: utterance '{name}' is missing; write posteriors of the whole transfer "
            "set, with the utterance ids of this corpus"
        )
    stored = table[name]
    if isinstance(stored, Sparse) and config.soft_targets.mean == "geometric":
        raise UserError(
            f"{where}: classes that a sparse posterior lacks have probability 0, and the geometric "
            "mean with 0 is 0; set soft_targets.mean=arithmetic, or give dense matrices"
        )
    rows = frames_as_here(stored, length, config.align.snip_edges, where)
    return log_posteriors(rows, classes, where)


def run(experiment: Experiment) -> None:
    """Average the members' tempered predictions for every frame that can be in a transfer set."""
    accelerator = make_accelerator()
    shards = soft_target_shards(experiment)
    share = experiment.share_of(shards)
    with report_lost_processes(accelerator, "soft targets"):
        done, todo = done_and_due(accelerator, share, lambda pair: is_finished(pair[1]))
        for _, target in done if accelerator.is_main_process else ():
            print(f"  {target.name}: already written")
        own = (todo[number] for number in shared_numbers(accelerator, len(todo)))
        write_soft_targets(experiment, own, accelerator.device)
        accelerator.wait_for_everyone()
    missing = [target.name for _, target in shards if not is_finished(target)]
    if experiment.share is None and missing:
        raise UserError(
            f"{experiment.path('soft-targets')}: {len(missing)} of {len(shards)} shards are "
            f"missing, such as {missing[0]}; run soft-targets again"
        )
    if experiment.share is not None and accelerator.is_main_process:
        more = f"{len(missing)} are missing" if missing else "finish with soft-targets, no --shard"
        print(f"  {len(shards) - len(missing)} of {len(shards)} shards are finished; {more}")


def write_soft_targets(
    experiment: Experiment, todo: Iterable[tuple[Path, Path]], device: torch.device
) -> None:
    """Write shards of soft targets.

    Args:
        todo: frame shards, and the paths of their soft targets.
        device: of the members.
    """
    config, settings = experiment.config, experiment.config.soft_targets
    if settings.external_posteriors:
        return _write_external(config, todo)
    mean = Mean(settings.temperature, settings.mean, settings.weights)
    system = ensemble_system(experiment)
    ensemble = read_ensemble(experiment, system, device, mean, settings.memory_gb)
    provenance = Provenance(settings.temperature, ensemble.digests, settings.mean, settings.weights)
    already_reported = False
    # The next shard is read while the ensemble predicts this one.
    for target, frames in prefetch((target, read_frames([shard])) for shard, target in todo):
        predictions = ensemble.predictions(frames, blocks_of(len(frames)))
        entry = write_shard(target, frames, predictions, provenance, encoding_of(config))
        if ensemble.plan and not (ensemble.plan.all_on_device or already_reported):
            already_reported = True
            print(f"  one member at a time in memory, for {ensemble.plan.blocks} blocks each")
        _report_written(target, len(frames), entry)


def _report_written(target: Path, frames: int, entry: Entry) -> None:
    print(
        f"  {target.name}: {frames} frames of {entry.bytes / frames:.1f} bytes, the "
        f"kept classes hold {100 * entry.measured['kept_mass']:.1f} % of the mass",
        flush=True,
    )
