"""The pieces of the study, each in a worker process: predictions, stores, distilled models.

`load` gives a process the frames once.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from acoustic_kd.config import Config
from acoustic_kd.ensemble import mean_probabilities
from acoustic_kd.files import atomic_path, write_json
from acoustic_kd.frames import Frames, read_frames
from acoustic_kd.model import load_model, make_splicer
from acoustic_kd.precision import use_bfloat16
from acoustic_kd.processes import make_accelerator
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.soft_targets.write import Origin, blocks_of, write_shard
from acoustic_kd.stages.learn import distilled_settings
from acoustic_kd.train import Job, Trainer
from acoustic_kd.work import Work
from study.cells import Cell

BATCH = 4096  # frames predicted at once
PREDICTIONS = "predictions.npy"  # float32 [T, K], all train frames
SHARD = "shard-00000.h5"  # all of a store
MEASURED = ("dev", "test")

_frames: dict[str, Frames] = {}


def load(folder: Path) -> None:
    """Read the frames that every model of this process is trained and measured on."""
    for split in ("train", *MEASURED):
        _frames[split] = read_frames(folder / split)


def measure_members(config: Config, members: list[Path], work: Work) -> None:
    """Frame accuracy of each member and of the ensemble, as the stage `decode` measures it."""
    models = [_model(member) for member in members]
    with work.making():
        result = {
            "members": [accuracies(config, [model]) for model in models],
            "ensemble": accuracies(config, models),
        }
        write_json(work.directory / "result.json", result)


def predict(config: Config, members: list[Path], temperature: float, work: Work) -> None:
    """Write the mean of the members' predictions for all train frames."""
    frames, settings = _frames["train"], config.soft_targets
    models = [_model(member) for member in members]
    windows, low = _windows(config, models[0], frames)
    with work.making(), atomic_path(work.directory / PREDICTIONS) as temporary:
        shape = len(frames), frames.classes.count
        out = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        for numbers in torch.arange(len(frames)).split(BATCH):
            batch = windows(numbers.to(windows.first.device))
            mean = mean_probabilities(
                models, batch, temperature, low, settings.mean, settings.weights
            )
            out[numbers.numpy()] = mean.cpu().numpy()
        out.flush()


def store(predictions: Path, origin: Origin, cell: Cell, keep: bool, work: Work) -> None:
    """Write a cell's store, which measures what it keeps.

    Args:
        keep: whether the shard stays for training; else its manifest entry alone does.
    """
    table = np.load(predictions / PREDICTIONS, mmap_mode="r")
    blocks = (torch.from_numpy(np.array(table[n.numpy()])) for n in blocks_of(len(table)))
    path = work.directory / SHARD
    with work.making():
        write_shard(path, _frames["train"], blocks, origin, cell.encoding)
        if not keep:
            path.unlink()


def distil(config: Config, soft: Path, cell: Cell, seed: int, work: Work) -> None:
    """Train one distilled model, as the stage `distill` does, and measure it."""
    frames = _frames["train"]
    targets = read_soft_targets(soft, frames, cell.temperature, cell.encoding)
    model, train = distilled_settings(config)
    hard = config.distill.hard_weight
    # The study has its own line a model.
    job = Job(work.name, seed, model, train, hard, work.digest, report=train.epochs + 1)
    with work.making():
        trainer = Trainer(job, work.directory, frames, _frames["dev"], targets, make_accelerator())
        history = trainer.run()
        speeds = sorted(epoch["frames_per_second"] for epoch in history)
        result = accuracies(config, [_model(work.directory)])
        result |= {"epochs": len(history), "frames_per_second": speeds[len(speeds) // 2]}
        write_json(work.directory / "result.json", result)


def accuracies(config: Config, models: list[nn.Module]) -> dict[str, float]:
    """Frame accuracy in percent, by split, of a model or of several together."""
    found = {}
    for split in MEASURED:
        frames, right = _frames[split], 0
        windows, low = _windows(config, models[0], frames)
        for numbers in torch.arange(len(frames)).split(BATCH):
            batch = windows(numbers.to(windows.first.device))
            best = mean_probabilities(models, batch, 1.0, low).argmax(-1).cpu()
            right += int((best == frames.targets[numbers]).sum())
        found[split] = 100 * right / len(frames)
    return found


def _model(directory: Path) -> nn.Module:
    return load_model(directory)[0].to(make_accelerator().device)


def _windows(config: Config, model: nn.Module, frames: Frames) -> tuple[nn.Module, bool]:
    """The windows of some frames, where the model is, and whether it multiplies in bfloat16."""
    device = next(model.parameters()).device
    low = use_bfloat16(config.train.bfloat16, device)
    return make_splicer(config.model, frames.features, frames.offsets, low).to(device), low
