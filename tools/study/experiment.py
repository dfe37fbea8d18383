"""The whole study: what is current is passed over, the rest is done in worker processes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acoustic_kd.errors import UserError
from acoustic_kd.files import only_one, read_json, write_json
from acoustic_kd.frames import read_frames, shard_paths
from acoustic_kd.parallel import Task, run_tasks
from acoustic_kd.soft_targets.manifest import is_finished, read_entry
from acoustic_kd.soft_targets.write import Origin
from acoustic_kd.stages.experiment import Experiment, select
from acoustic_kd.stages.learn import member_directories
from acoustic_kd.work import Work, read_done
from study import net
from study.cells import Cell, read_cells
from study.noise import compare

FOLDER = "study"
COSTS = {net.predict: 2.0, net.distil: 20.0}  # about, where a store is 1: for the order of work


@dataclass(frozen=True)
class Works:
    """All pieces of the study.

    Attributes:
        reference: frame accuracy of the members and the ensemble.
        predictions: by temperature.
        stores: by cell.
        models: by cell that is trained on, one a seed.
    """

    reference: Work
    predictions: dict[float, Work]
    stores: dict[Cell, Work]
    models: dict[Cell, list[Work]]

    def all(self) -> list[Work]:
        """Every piece."""
        models = [work for works in self.models.values() for work in works]
        return [self.reference, *self.predictions.values(), *self.stores.values(), *models]


def run_study(
    experiment: Experiment,
    cells_path: Path,
    seeds: int,
    jobs: int,
    only_store: bool,
    commands: list[str],
) -> dict[str, Any]:
    """Do what is not current; returns the results, also in EXP/study.json.

    Args:
        seeds: distilled models a cell.
        jobs: worker processes, each on one core (0: one a core).
        only_store: train none.
        commands: what makes the study, to stand beside its results.

    Raises:
        UserError: the members are not trained, or not with these settings.
    """
    experiment.done("train")
    first = read_frames(shard_paths(experiment.path("frames") / "train")[:1])
    if not 1 < seeds <= 1000:
        raise UserError(
            f"--seeds is {seeds}; it must be 2 to 1000: their differences are the noise"
        )
    if jobs < 0:
        raise UserError(f"--jobs is {jobs}; it must be 0 (one a core) or more")
    chosen = read_cells(cells_path, experiment.config, first.classes.count)
    cells = {cell: train and not only_store for cell, train in chosen.items()}
    works = plan(experiment, cells, seeds)
    with only_one(experiment.directory):
        tasks = tasks_of(experiment, works)
        models = {work.name: work for group in works.models.values() for work in group}
        print(f"  {len(tasks)} pieces of {len(works.all())} to do", flush=True)
        for task, _ in run_tasks(tasks, jobs, net.load, (experiment.path("frames"),)):
            print(f"  {_line(task, works, models)}", flush=True)
        results = gather(experiment, cells, works, first.classes.count, commands)
        write_json(experiment.directory / "study.json", results)
    return results


def plan(experiment: Experiment, cells: dict[Cell, bool], seeds: int) -> Works:
    """The pieces of work, each of which knows whether it is current."""
    config, folder = experiment.config, experiment.directory / FOLDER
    inputs = {name: experiment.done(name)["digest"] for name in ("frames", "train")}
    mean = {"mean": config.soft_targets.mean, "weights": _weights(experiment)}
    reference = Work("members", folder / "members", {}, inputs)
    predictions, stores, models = {}, {}, {}
    for cell, trained in cells.items():
        kind = {"temperature": cell.temperature} | mean
        name = f"T{cell.temperature:g}"
        if cell.temperature not in predictions:
            work = Work(f"predictions {name}", folder / "predictions" / name, kind, inputs)
            predictions[cell.temperature] = work
        kind |= asdict(cell.encoding) | {"format": experiment.stages["soft-targets"].format}
        above = {"predictions": predictions[cell.temperature].digest}
        stores[cell] = Work(f"store {cell.name}", folder / "stores" / cell.name, kind, above)
        if trained:
            store, numbers = stores[cell], range(1, seeds + 1)
            models[cell] = [_model_work(experiment, cell, store, number) for number in numbers]
    return Works(reference, predictions, stores, models)


def _model_work(experiment: Experiment, cell: Cell, store: Work, number: int) -> Work:
    config = experiment.config
    settings = select(config, ("model", "train", "distill")) | {"train.seed": _seed(config, number)}
    del settings["train.members"], settings["distill.models"]
    directory = experiment.directory / FOLDER / "models" / cell.name / f"{number:02d}"
    return Work(f"{cell.name} seed {number}", directory, settings, {"soft-targets": store.digest})


def _seed(config: Any, number: int) -> int:
    """That of the stage `distill`'s model of this number: no member's."""
    return config.train.seed + 1000 + number - 1


def _weights(experiment: Experiment) -> list[float] | None:
    weights = experiment.config.soft_targets.weights
    return None if weights is None else list(weights)


def tasks_of(experiment: Experiment, works: Works) -> list[Task]:
    """What is to be done, each piece after those it needs."""
    config, settings = experiment.config, experiment.config.soft_targets
    members = member_directories(experiment)
    digests = tuple(read_done(member)["digest"] for member in members)
    tasks: list[Task] = []

    def add(work: Work, function: Callable[..., None], *arguments: Any, needs: str = "") -> None:
        names = tuple(task.name for task in tasks if task.name == needs)
        tasks.append(Task(work.name, function, (*arguments, work), names, COSTS.get(function, 1.0)))

    missing = {
        cell: [work for work in group if not work.is_current()]
        for cell, group in works.models.items()
    }
    wanted = {
        cell: work
        for cell, work in works.stores.items()
        if not work.is_current()
        or (missing.get(cell) and not is_finished(work.directory / net.SHARD))
    }
    if not works.reference.is_current():
        add(works.reference, net.measure_members, config, members)
    for temperature, work in works.predictions.items():
        if temperature in {cell.temperature for cell in wanted} and not work.is_current():
            add(work, net.predict, config, members, temperature)
    for cell, work in wanted.items():
        above = works.predictions[cell.temperature]
        origin = Origin(cell.temperature, digests, settings.mean, settings.weights)
        keep = cell in works.models
        add(work, net.store, above.directory, origin, cell, keep, needs=above.name)
    for cell, group in missing.items():
        soft = works.stores[cell]
        for work in group:
            seed = work.settings["train.seed"]
            add(work, net.distil, config, soft.directory, cell, seed, needs=soft.name)
    return tasks


def _line(task: Task, works: Works, models: dict[str, Work]) -> str:
    """What the terminal says of a piece of work that is done."""
    if task.name not in models:
        return f"{task.name}: done"
    directory = models[task.name].directory
    result, seconds = read_json(directory / "result.json"), read_done(directory)["seconds"]
    return f"{task.name}: dev frame accuracy {result['dev']:.2f} % ({seconds:.0f} s)"


def gather(
    experiment: Experiment, cells: dict[Cell, bool], works: Works, count: int, commands: list[str]
) -> dict[str, Any]:
    """What `study.json` holds."""
    reference = read_json(works.reference.directory / "result.json")
    rows = []
    for cell in cells:
        entry = read_entry(works.stores[cell].directory / net.SHARD)
        frames, size = entry.header.frames, entry.bytes / entry.header.frames
        row = {"name": cell.name, "temperature": cell.temperature, "encoding": str(cell.encoding)}
        row |= {"settings": asdict(cell.encoding), "bytes_per_frame": size}
        row |= {"measured": entry.measured}
        if cell in works.models:
            models = works.models[cell]
            row["models"] = [read_json(work.directory / "result.json") for work in models]
        rows.append(row)
    compare(rows, reference)
    return {
        "name": experiment.directory.name,
        "corpus": experiment.config.corpus.name,
        "commands": commands,
        "classes": count,
        "train_frames": frames,
        "reference": reference,
        "minutes": sum(read_done(work.directory)["seconds"] for work in works.all()) / 60,
        "cells": rows,
    }
