"""The figures of a study: frame accuracies and word error rates of its experiments."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.decoding.search import SearchSettings
from acoustic_kd.decoding.workers import DecodeFunction, decoder_pool
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import (
    System,
    control_directory,
    distilled_directories,
    member_directories,
    read_ensemble,
    systems,
)
from acoustic_kd.experiment.training_jobs import distilled_training
from acoustic_kd.features.frames import Frames, read_frames
from acoustic_kd.reports.stored import read_measurement
from acoustic_kd.soft_targets.predictions import BLOCK_FRAMES
from acoustic_kd.system.files import read_json, read_jsonl, write_json
from acoustic_kd.system.parallel import Task, cores
from acoustic_kd.system.steps import Step
from acoustic_kd.training.batches import Copies
from acoustic_kd.verbs import decode
from study_experiments import link_to_shared, make_data, run_in_workers

TRAIN_ACCURACY = "train.json"  # in the directory of a model


def measure_all(experiments: Sequence[Experiment], columns: Sequence[str], jobs: int) -> None:
    """Measure the systems of all experiments, as far as the columns of the table need it."""
    pairs = [column.split() for column in columns]
    measures = {measure for _, measure in pairs}
    if "dev" in measures:
        measure_ensembles(experiments, jobs)
    if "train" in measures:
        measure_train(experiments, jobs)
    decoded = {kind_of(system) for system, measure in pairs if measure in ("test", "wer")}
    if decoded:
        make_data(experiments, ["graph"])
        found = [(e, system) for e in experiments for system in systems(e)]
        decode_all([Decoding.of(e, s) for e, s in found if s.kind in decoded], jobs)


def measure_ensembles(experiments: Sequence[Experiment], jobs: int) -> None:
    """Write the dev frame accuracies of all ensembles and their members."""
    shared = {experiment.path("train").resolve(): experiment for experiment in experiments}
    run_in_workers(
        [
            Task(path.name, measure_ensemble, (experiment, path / "dev.json"))
            for path, experiment in shared.items()
            if not (path / "dev.json").exists()
        ],
        jobs,
    )


def measure_ensemble(experiment: Experiment, file: Path) -> str:
    """Write frame accuracies on dev of the ensemble and of the members, in percent.

    Returns:
        A line for the terminal.
    """
    dev = read_frames(experiment.path("frames") / "dev")
    found = {
        system.name: frame_accuracy(experiment, system, dev)
        for system in systems(experiment)
        if system.kind in ("baseline", "ensemble")
    }
    ensemble = found.pop("ensemble")
    write_json(file, {"ensemble": ensemble, "members": fmean(found.values())})
    return f"ensemble of {experiment.directory.name}"


def measure_train(experiments: Sequence[Experiment], jobs: int) -> None:
    """Write each model's frame accuracy on the utterances of train that it has learnt from."""
    due: dict[Path, Task] = {}
    for experiment in experiments:
        members, distilled = experiment.config.train, distilled_training(experiment.config)
        models = dict.fromkeys(member_directories(experiment), members)
        models |= dict.fromkeys(distilled_directories(experiment), distilled)
        if control := control_directory(experiment):
            models[control] = distilled
        for directory, train in models.items():
            file = directory.resolve() / TRAIN_ACCURACY
            if not file.exists():
                arguments = (experiment, file, train.share, train.share_seed)
                due[file] = Task(file.parent.name, measure_learnt, arguments)
    run_in_workers(list(due.values()), jobs)


def measure_learnt(experiment: Experiment, file: Path, share: float, seed: int) -> str:
    """Write the frame accuracy of a model, whose directory `file` is in, on a share of train."""
    train = read_frames(experiment.path("frames") / "train")
    lengths = np.diff(train.offsets)
    chosen = Copies(lengths, lengths, np.arange(len(lengths)), train.ids).of_share(share, seed)
    learnt = None if chosen is None else torch.from_numpy(np.repeat(chosen.learnt, lengths))
    system = System(file.parent.name, "baseline", (file.parent,))
    write_json(file, {"train": frame_accuracy(experiment, system, train, learnt)})
    return f"train accuracy of {file.parent.name}"


def frame_accuracy(
    experiment: Experiment, system: System, frames: Frames, chosen: Tensor | None = None
) -> float:
    """Frame accuracy of a system, in percent.

    Args:
        chosen: bool [T], the frames that count; None: all.
    """
    numbers = torch.arange(len(frames)) if chosen is None else chosen.nonzero()[:, 0]
    ensemble = read_ensemble(experiment, system)
    predictions = ensemble.predictions(frames, numbers.split(BLOCK_FRAMES))
    predicted = torch.cat([block.argmax(-1) for block in predictions])
    return 100 * float((predicted == frames.labels[numbers]).double().mean())


@dataclass(frozen=True)
class Decoding:
    """A system to decode.

    Attributes:
        step: the record of its measurement.
        measure: decodes with a pool of processes; returns a line for the terminal.
    """

    experiment: Experiment
    step: Step
    measure: Callable[[DecodeFunction], str]

    @classmethod
    def of(cls, experiment: Experiment, system: System) -> "Decoding":
        """Of a system of an experiment, on dev and test."""
        step = decode.step_of(experiment, system)

        def measure(pool: DecodeFunction) -> str:
            decode.measure(experiment, system, pool, step.directory)
            return f"{system.name} of {experiment.directory.name}"

        return cls(experiment, step, measure)


def decode_all(decodings: Iterable[Decoding], jobs: int) -> None:
    """Measure the systems that are not measured yet; those with the same graph share a pool."""
    due: dict[tuple[Path, SearchSettings], dict[Path, Decoding]] = {}
    for work in decodings:
        step, experiment = work.step, work.experiment
        place = link_to_shared(step.directory, experiment, f"decode-{step.digest[:16]}")
        if not step.is_current():
            pool = experiment.path("graph").resolve(), SearchSettings.of(experiment.config.decode)
            due.setdefault(pool, {})[place] = work
    total, number = sum(map(len, due.values())), 0
    for (graph, limits), group in due.items():
        experiment = next(iter(group.values())).experiment
        experiment.verify("graph")
        processes = jobs or experiment.config.decode.jobs or cores()
        with decoder_pool(graph, limits, processes) as pool:
            for work in group.values():
                with work.step.run():
                    line = work.measure(pool)
                number += 1
                print(f"{number}/{total} {line}", flush=True)


def figures(experiments: Sequence[Experiment], columns: Iterable[str]) -> dict[str, Any]:
    """The figures of a row: of each column one value per seed, in percent; the number of epochs."""
    directory = distilled_directories(experiments[-1])[0]
    return {column: [figure(e, *column.split()) for e in experiments] for column in columns} | {
        "epochs": len(read_jsonl(directory / "metrics.jsonl"))
    }


def figure(experiment: Experiment, name: str, measure: str) -> float:
    """A figure of the members (their mean), the ensemble, the control or the distilled model."""
    found = [system for system in systems(experiment) if system.kind == kind_of(name)]
    if measure in ("test", "wer"):
        measured = [read_measurement(experiment.path("decode") / s.name) for s in found]
        if measure == "wer":
            return fmean(m.wer["test"]["percent"] for m in measured)
        return fmean(m.accuracy("test") for m in measured)
    if name in ("members", "ensemble") and measure == "dev":
        return float(read_json(experiment.path("train") / "dev.json")[name])
    directories = [system.directories[0] for system in found]
    if measure == "train":
        return fmean(read_json(directory / TRAIN_ACCURACY)["train"] for directory in directories)
    return fmean(map(dev_accuracy, directories))


def kind_of(name: str) -> str:
    """The kind of the systems of a column."""
    return "baseline" if name == "members" else name


def dev_accuracy(directory: Path) -> float:
    """Frame accuracy on dev, in percent, of the weights that a model kept."""
    best = read_json(directory / "model.json")["best_dev_frame_accuracy"]
    return best or read_jsonl(directory / "metrics.jsonl")[-1]["dev_frame_accuracy"]
