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
from acoustic_kd.training.processes import make_accelerator, wait
from acoustic_kd.training.trainer import Trainer, TrainingRun

Data = tuple[ShardedData, Frames]  # what is learnt from, dev frames


@dataclass(frozen=True)
class Model:
    """A model of a stage.

    Attributes:
        work: the record of what shapes it.
        read: reads what it is trained on. A worker process receives it, so it must pickle.
    """

    job: TrainingRun
    work: Step
    read: Callable[[], Data]


def train_models(experiment: Experiment, models: Sequence[Model]) -> None:
    """Train the models of a stage that this run has to make and that are not current.

    Args:
        models: all models of the stage.

    Raises:
        UserError: a training fails, or a worker process died.
        Stopped: this process was asked to end; checkpoints are saved.
    """
    accelerator = make_accelerator()
    own = experiment.share_of(models)
    due = _due(own, accelerator)
    workers = count_workers(len(own), accelerator)
    if workers == 1:
        _train_here(due, accelerator)
        return
    # Sums of floating-point numbers depend on the number of threads. A run that goes on must end
    # with the same bits, so the number of threads must not depend on how many models are due.
    threads = cores() // workers
    if len(due) > 1:
        tasks = [Task(m.job.name, _train_in_worker, (m, workers, threads)) for m in due]
        for _ in run_tasks(tasks, min(workers, len(due))):
            pass
    else:
        with torch_threads(threads):
            _train_here(due, accelerator, workers)


def count_workers(models: int, accelerator: Accelerator) -> int:
    """How many models of a stage are trained at the same time.

    Small nets gain little from a second thread. So on CPUs each model has a process of its own, as
    far as there are cores.

    Args:
        models: of the stage that this run makes.
    """
    if accelerator.num_processes > 1 or accelerator.device.type != "cpu":
        return 1
    if multiprocessing.parent_process() is not None:  # a worker process has one core
        return 1
    return min(cores(), models)


def _due(models: Sequence[Model], accelerator: Accelerator) -> list[Model]:
    """The models that are not current; says which ones are."""
    due = []
    for model in models:
        if not model.work.is_current():
            due.append(model)
        elif accelerator.is_main_process:
            print(f"  {model.job.name}: up to date", flush=True)
    wait(accelerator, "models")  # no process may look after another has begun
    return due


def _train_here(due: Sequence[Model], accelerator: Accelerator, sharers: int = 1) -> None:
    """Train models one after another; data that consecutive models share are read once."""
    data = lru_cache(maxsize=1)(lambda read: read())
    for model in due:
        _train(model, accelerator, partial(data, model.read), sharers)


def _train_in_worker(model: Model, sharers: int, threads: int) -> None:
    """Train a model in a worker process; SIGTERM makes it save, and ends the process."""
    try:
        with raise_on_sigterm(), torch_threads(threads):
            _train(model, make_accelerator(), model.read, sharers)
    except Stopped:
        # All is saved. A pool that breaks asks its processes to end, and waits until they have.
        os._exit(1)


def _train(model: Model, accelerator: Accelerator, read: Callable[[], Data], sharers: int) -> None:
    """Train one model.

    Args:
        read: gives what is trained on.
        sharers: processes that train at the same time and share the free memory.
    """
    job, work, main = model.job, model.work, accelerator.is_main_process
    # Runs with shares are at work in the stage's directory together, but never on the same model.
    with exclusive_lock(work.directory) if main else nullcontext():
        stored, dev = read()
        with work.run(main):
            wait(accelerator, job.name)
            trainer = Trainer(job, work.directory, stored, dev, None, accelerator, sharers=sharers)
            trainer.run()
