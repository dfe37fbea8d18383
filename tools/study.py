#!/usr/bin/env python3
"""Train members, a control and a distilled model for each row of a study, over several seeds.

A study is a YAML file: settings that all rows share, and for each row what it changes. Rows share
what they have in common, such as the members. All that is made is in EXP, the table in study.md and
the chart in study.svg there. A study measures dev alone, to choose settings; measure only the
chosen settings on test. A study that was interrupted continues: run the same command again.
"""

import argparse
import json
import os
import shlex
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import (
    control_directory,
    distilled_directories,
    member_directories,
)
from acoustic_kd.experiment.stages import STAGES, run_stage
from acoustic_kd.experiment.training_jobs import distilled_models
from acoustic_kd.features.frames import read_frames
from acoustic_kd.settings import load_config, settings_file
from acoustic_kd.soft_targets.write import blocks_of
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import (
    exclusive_lock,
    json_sha256,
    read_json,
    read_jsonl,
    write_json,
    write_text,
)
from acoustic_kd.system.parallel import Task, run_tasks
from acoustic_kd.system.steps import read_done
from acoustic_kd.system.yaml_dataclasses import read_yaml
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.ensemble_predictions import Ensemble
from acoustic_kd.training.model import make_splicer, use_bfloat16
from study_table import T95, around_section, chart, table, write_section

PROGRAM = "tools/study.py"
DATA = ("corpus", "features", "align", "senones", "frames", "copies")


@dataclass(frozen=True)
class Study:
    """A study, as its YAML file has it.

    Attributes:
        title: what all rows share, in words.
        config: settings of the package by name, or a file.
        settings: `group.key` → value, of all rows.
        seeds: how many experiments each row has.
        rows: factor → name of a row → what the row changes.
    """

    title: str
    config: str
    settings: dict[str, Any]
    seeds: int
    rows: dict[str, dict[str, dict[str, Any]]]


def read_study(path: Path) -> Study:
    """Read a study.

    Raises:
        UserError: the file is not a study.
    """
    values = read_yaml(path)
    names = [field.name for field in fields(Study)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise UserError(f"{path}: a study has {', '.join(names)} and nothing else")
    study = Study(**values)
    if not isinstance(study.seeds, int) or not 2 <= study.seeds <= max(T95):
        raise UserError(f"{path}: seeds is {study.seeds}; it must be a number from 2 to {max(T95)}")
    parts = {"settings": study.settings, "rows": study.rows}
    if isinstance(study.rows, dict):
        parts |= {f"rows of {factor}": rows for factor, rows in study.rows.items()}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise UserError(f"{path}: {name} must be a mapping, it is {part!r}")
    return study


def main(arguments: list[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml")
    parser.add_argument("--exp-dir", type=Path, metavar="DIR", help="default: exp/study-NAME")
    parser.add_argument("--data-dir", metavar="DIR", help="where the corpus is")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="default: one a core")
    parser.add_argument(
        "--docs",
        type=Path,
        metavar="FILE",
        help="also write the table between FILE's markers and the chart into pictures/ beside it",
    )
    options = parser.parse_args(arguments)
    return exit_status(PROGRAM, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    study = read_study(options.study)
    if options.jobs < 0:
        raise UserError(f"--jobs is {options.jobs}; it must be 0 (one a core) or more")
    if options.docs:
        around_section(options.docs, options.study.stem)  # before hours of training
    out = options.exp_dir or Path("exp") / f"study-{options.study.stem}"
    with exclusive_lock(out):
        runs = {
            (factor, name): [
                _experiment(study, settings or {}, seed, out, options.data_dir)
                for seed in range(study.seeds)
            ]
            for factor, rows in study.rows.items()
            for name, settings in rows.items()
        }
        make([one for group in runs.values() for one in group], options.jobs)
        rows = [
            {"factor": factor, "name": name, **figures(group)}
            for (factor, name), group in runs.items()
        ]
        results = {"title": study.title, "seeds": study.seeds, "rows": rows}
        words = [PROGRAM, str(options.study)] + (["--data-dir", "DIR"] if options.data_dir else [])
        text = table(results, shlex.join(words))
        write_json(out / "study.json", results)
        write_text(out / "study.md", text)
        write_text(out / "study.svg", chart(results))
    print(text)
    if options.docs:
        write_section(options.docs, options.study.stem, text)
        pictures = options.docs.parent / "pictures"
        pictures.mkdir(exist_ok=True)
        write_text(pictures / f"study-{options.study.stem}.svg", chart(results))


def _experiment(
    study: Study, row: dict[str, Any], seed: int, out: Path, data: str | None
) -> Experiment:
    """A row with one seed: an experiment whose stages are links to what rows share."""
    settings = {**study.settings, **row, "train.seed": 10_000 * seed}
    if data is not None:
        settings["corpus.data_dir"] = data
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    config = load_config(settings_file(Path(study.config)), overrides)
    if not config.distill.hard_baseline:
        raise UserError(
            "setting 'distill.hard_baseline' is False; each row of a study has a control"
        )
    return Experiment(config, out / "rows" / json_sha256(overrides)[:16], STAGES)


def make(experiments: list[Experiment], jobs: int) -> None:
    """Make what is missing of all experiments; what has the same digest is made once."""
    for experiment in experiments:
        for stage in DATA:
            _share(experiment, stage)
            if not experiment.step(stage).is_current():
                print(f"{stage}:", flush=True)
                run_stage(experiment, stage)
    for stage, parts in (
        ("train", lambda one: one.config.train.members),
        ("soft-targets", lambda one: 1),
    ):
        seen: dict[Path, Experiment] = {}
        for experiment in experiments:
            seen.setdefault(_share(experiment, stage), experiment)
        tasks = [
            Task(f"{path.name} {part}", _part, (one, stage, part, parts(one)))
            for path, one in seen.items()
            if not one.work(stage).is_current()
            for part in range(parts(one))
        ]
        _in_workers(tasks, jobs)
        for one in seen.values():
            run_stage(one, stage)
    models: dict[Path, Task] = {}
    for experiment in experiments:
        of_stage = distilled_models(experiment)
        for number, model in enumerate(of_stage):
            work = model.step
            place = _link(work.directory, experiment, f"model-{work.digest[:16]}")
            if not work.is_current():
                models.setdefault(
                    place, Task(place.name, _part, (experiment, "distill", number, len(of_stage)))
                )
    _in_workers(list(models.values()), jobs)
    ensembles = {}
    for experiment in experiments:
        file = experiment.path("train").resolve() / "dev.json"
        if not file.exists():
            ensembles[file] = Task(str(file), measure_ensemble, (experiment, file))
    _in_workers(list(ensembles.values()), jobs)


def _share(experiment: Experiment, stage: str) -> Path:
    """Let a stage's folder be a link to what all rows with its digest share; returns that."""
    work = experiment.step(stage)
    return _link(work.directory, experiment, f"{stage}-{work.digest[:16]}")


def _link(folder: Path, experiment: Experiment, name: str) -> Path:
    target = experiment.directory.parent.parent / "shared" / name
    target.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.is_symlink():
        folder.symlink_to(os.path.relpath(target, folder.parent))
    elif folder.resolve() != target.resolve():
        folder.unlink()
        folder.symlink_to(os.path.relpath(target, folder.parent))
    return target.resolve()


def _in_workers(tasks: list[Task], jobs: int) -> None:
    for number, (task, line) in enumerate(run_tasks(tasks, jobs), start=1):
        print(f"{number}/{len(tasks)} {line or task.name}", flush=True)


def _part(experiment: Experiment, stage: str, part: int, parts: int) -> str:
    """Make one part of a stage, in a worker process."""
    share = (part, parts) if parts > 1 else None
    run_stage(replace(experiment, share=share), stage)
    return f"{stage} {part + 1}/{parts} of {experiment.directory.name}"


def measure_ensemble(experiment: Experiment, file: Path) -> str:
    """Write the dev frame accuracy of the ensemble, in percent, into `file`."""
    config, dev = experiment.config, read_frames(experiment.path("frames") / "dev")
    device = torch.device("cpu")
    low = use_bfloat16(config.train.bfloat16, device)
    ensemble = Ensemble(member_directories(experiment), Mean(1.0), device, low)
    windows = make_splicer(config.model, dev.features, dev.offsets, low)
    right, first = 0, 0
    for block in ensemble.predictions(windows, blocks_of(len(dev))):
        right += int((block.argmax(-1) == dev.labels[first : first + len(block)]).sum())
        first += len(block)
    write_json(file, {"dev": 100 * right / len(dev)})
    return f"ensemble of {experiment.directory.name}"


def figures(experiments: list[Experiment]) -> dict[str, Any]:
    """The figures of a row: of each, one value a seed."""
    found: dict[str, Any] = {"members": [], "ensemble": [], "control": [], "distilled": []}
    found |= {"seconds": [], "bytes": [], "teacher_seconds": [], "epochs": 0}
    for experiment in experiments:
        models = member_directories(experiment)
        found["members"].append(sum(map(dev_accuracy, models)) / len(models))
        found["ensemble"].append(read_json(experiment.path("train") / "dev.json")["dev"])
        control, distilled = control_directory(experiment), distilled_directories(experiment)[0]
        found["control"].append(dev_accuracy(control))
        found["distilled"].append(dev_accuracy(distilled))
        found["seconds"].append(read_done(distilled)["seconds"])
        soft = experiment.path("soft-targets")
        made = read_done(soft)["seconds"] + read_done(experiment.path("copies"))["seconds"]
        found["teacher_seconds"].append(made)
        found["bytes"].append(sum(path.stat().st_size for path in soft.glob("*.h5")))
    found["epochs"] = len(read_jsonl(distilled / "metrics.jsonl"))
    return found


def dev_accuracy(directory: Path) -> float:
    """Frame accuracy on dev, percent, of the weights that a model kept."""
    best = read_json(directory / "model.json")["best_dev_frame_accuracy"]
    return best or read_jsonl(directory / "metrics.jsonl")[-1]["dev_frame_accuracy"]


if __name__ == "__main__":
    sys.exit(main())
