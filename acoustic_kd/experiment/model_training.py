"""Trains the models of a stage: one after another, or side by side in worker processes."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial

from accelerate import Accelerator

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.features.frames import Frames
from acoustic_kd.system.files import exclusive_lock
from acoustic_kd.system.parallel import Task, cores, run_tasks, torch_threads
from acoustic_kd.system.signals import Stopped, raise_on_sigterm
from acoustic_kd.system.steps import Step
from acoustic_kd.training.chunks import ShardedData
from acoustic_kd.training.processes import (
    done_and_due,
    make_accelerator,
    report_lost_processes,
    wait,
)
from acoustic_kd.training.schedule import TrainingRun
from acoustic_kd.training.trainer import Trainer

Data = tuple[ShardedData, Frames]  # training data, dev frames


@dataclass(frozen=True)
class Model:
    """A model of a stage.

    Attributes:
        training_run: what the trainer needs.
        step: the record of everything that shapes the model.
        read: reads its data. A worker process receives it, so it must pickle.
    """

    training_run: TrainingRun
    step: Step
    read: Callable[[], Data]


def train_models(experiment: Experiment, models: Sequence[Model]) -> None:
    """Train the models of a stage that belong to this run and are out of date.

    Raises:
        Stopped: this process was asked to end; checkpoints are saved.
    """
    accelerator = make_accelerator()
    models = experiment.share_of(models)
    due = _select_due(models, accelerator)
    workers = count_workers(len(models), accelerator)
    if workers == 1:
        _train_in_turn(due, accelerator)
        return
    # Sums of floating-point numbers depend on the number of threads. A resumed run must end with
    # the same bits, so the number of threads must not depend on how many models are due.
    threads = cores() // workers
    if len(due) > 1:
        tasks = [Task(m.training_run.name, _train_in_worker, (m, workers, threads)) for m in due]
        for _ in run_tasks(tasks, min(workers, len(due))):
            pass
    else:
        with torch_threads(threads):
            _train_in_turn(due, accelerator, workers)


def count_workers(models: int, accelerator: Accelerator) -> int:
    """The number of models of a stage to train at the same time.

    Small nets gain little from a second thread. So on CPUs each model has its own process, as far
    as there are cores.

    Args:
        models: number of models of the stage that belong to this run.
    """
    if accelerator.num_processes > 1 or accelerator.device.type != "cpu":
        return 1
    if multiprocessing.parent_process() is not None:  # a worker process has one core
        return 1
    return min(cores(), models)


def _select_due(models: Sequence[Model], accelerator: Accelerator) -> list[Model]:
    """The models that are out of date; prints the names of the others."""
    with report_lost_processes(accelerator, "models"):
        done, due = done_and_due(accelerator, models, lambda model: model.step.is_current())
    for model in done if accelerator.is_main_process else ():
        print(f"  {model.training_run.name}: up to date", flush=True)
    return due


def _train_in_turn(due: Sequence[Model], accelerator: Accelerator, sharers: int = 1) -> None:
    """Train models one after another; the index and the dev frames that consecutive models share
    are read once.
    """
    read_once = lru_cache(maxsize=1)(lambda read: read())
    for model in due:
        _train(model, accelerator, partial(read_once, model.read), sharers)


def _train_in_worker(model: Model, sharers: int, threads: int) -> None:
    """Train a model in a worker process; SIGTERM makes it save, and ends the process."""
    try:
        with raise_on_sigterm(), torch_threads(threads):
            _train(model, make_accelerator(), model.read, sharers)
    except Stopped:
        # The checkpoint is saved. A broken pool ends its processes and waits for them.
        os._exit(1)


def _train(model: Model, accelerator: Accelerator, read: Callable[[], Data], sharers: int) -> None:
    """Train one model.

    Args:
        sharers: processes that train at the same time and share the free memory.
    """
    training_run, step, main = model.training_run, model.step, accelerator.is_main_process
    # Runs with --shard may work in the stage's directory together, but never on the same model.
    with exclusive_lock(step.directory) if main else nullcontext():
        data, dev = read()
        with step.run(main):
            wait(accelerator, training_run.name)
            Trainer(
                training_run, step.directory, data, dev, accelerator=accelerator, sharers=sharers
            ).run(keep_checkpoint=True)
