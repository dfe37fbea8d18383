"""The experiments of a study: what rows have in common is made once, in EXP/shared."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.stages import STAGES, run_stage
from acoustic_kd.experiment.training_jobs import distilled_models
from acoustic_kd.settings import load_config, settings_file
from acoustic_kd.system.files import json_sha256
from acoustic_kd.system.parallel import Task, cores, run_tasks, torch_threads
from study_file import Study

DATA_STAGES = ("corpus", "features", "align", "senones", "frames", "copies")


def experiment_of(study: Study, row: dict[str, Any], out: Path) -> Experiment:
    """The experiment of a row's settings; its stages are links to directories in EXP/shared."""
    settings = study.settings | row
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
    overrides = [f"{key}={text}" for key, text in texts.items()]
    config = load_config(settings_file(Path(study.config)), overrides)
    return Experiment(config, out / "rows" / json_sha256(overrides)[:16], STAGES)


def make_all(experiments: Sequence[Experiment], jobs: int) -> None:
    """Make what is missing of all experiments; what has the same digest is made once."""
    make_data(experiments, DATA_STAGES)
    make_stage("train", experiments, jobs)
    make_stage("soft-targets", experiments, jobs)
    train_distilled_models(experiments, jobs)


def make_data(experiments: Iterable[Experiment], stages: Sequence[str]) -> None:
    """Make the output of some stages that is missing, on all cores."""
    for experiment in experiments:
        for stage in stages:
            share_stage(experiment, stage)
            if not experiment.step(stage).is_current():
                print(f"{stage}:", flush=True)
                run_stage(experiment, stage)


def make_stage(stage: str, experiments: Sequence[Experiment], jobs: int) -> None:
    """Train the members or write the soft targets of all experiments; a member is one task."""
    shared = {share_stage(experiment, stage): experiment for experiment in experiments}
    tasks = []
    for path, experiment in shared.items():
        parts = experiment.config.train.members if stage == "train" else 1
        if not experiment.step(stage).is_current():
            tasks += [
                Task(f"{path.name} {part}", make_part, (experiment, stage, part, parts))
                for part in range(parts)
            ]
    run_in_workers(tasks, jobs)
    for experiment in shared.values():
        run_stage(experiment, stage)  # marks a stage that was made in parts as done


def train_distilled_models(experiments: Sequence[Experiment], jobs: int) -> None:
    """Train the distilled models and controls of all experiments."""
    tasks: dict[Path, Task] = {}
    for experiment in experiments:
        models = distilled_models(experiment)
        for number, model in enumerate(models):
            name = f"model-{model.step.digest[:16]}"
            path = link_to_shared(model.step.directory, experiment, name)
            if not model.step.is_current():
                tasks[path] = Task(name, make_part, (experiment, "distill", number, len(models)))
    run_in_workers(list(tasks.values()), jobs)


def share_stage(experiment: Experiment, stage: str) -> Path:
    """Link a stage's directory to the one that rows of the same digest share; returns that."""
    step = experiment.step(stage)
    return link_to_shared(step.directory, experiment, f"{stage}-{step.digest[:16]}")


def link_to_shared(directory: Path, experiment: Experiment, name: str) -> Path:
    """Make a directory of an experiment a link to EXP/shared/NAME; returns the latter."""
    target = experiment.directory.parent.parent / "shared" / name
    target.mkdir(parents=True, exist_ok=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.resolve() != target.resolve():
        directory.unlink(missing_ok=True)
        directory.symlink_to(os.path.relpath(target, directory.parent))
    return target.resolve()


def run_in_workers(tasks: list[Task], jobs: int) -> None:
    """Run tasks, each on one core: in worker processes, or in this process if there is one job."""
    if (jobs or cores()) > 1:
        results = run_tasks(tasks, jobs)
    else:
        results = ((task, task.function(*task.arguments)) for task in tasks)
    with torch_threads(1):
        for number, (_, line) in enumerate(results, start=1):
            print(f"{number}/{len(tasks)} {line}", flush=True)


def make_part(experiment: Experiment, stage: str, part: int, parts: int) -> str:
    """Make one part of a stage; returns a line for the terminal."""
    share = (part, parts) if parts > 1 else None
    run_stage(replace(experiment, share=share), stage)
    return f"{stage} {part + 1}/{parts} of {experiment.directory.name}"
