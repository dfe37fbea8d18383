#!/usr/bin/env python3
"""Train members, a control and a distilled model for each row of a study, with several seeds.

A study is a YAML file: settings that all rows share, and for each row the settings that it changes.
EXP receives the models, the table study.md and the chart study.svg. What rows have in common, such
as members, is made once. A study that chooses settings measures dev alone; `columns` may also have
frame accuracies of train and test, and word error rates of test, which choose nothing. Run the same
command again to resume an interrupted study.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.decoding.search import SearchSettings
from acoustic_kd.decoding.workers import DecodeFunction, decoder_pool
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import (
    System,
    control_directory,
    distilled_directories,
    member_directories,
    read_specialists,
    systems,
)
from acoustic_kd.experiment.stages import STAGES, run_stage
from acoustic_kd.experiment.training_jobs import distilled_models, distilled_training
from acoustic_kd.features.frames import Frames, read_frames
from acoustic_kd.settings import load_config, settings_file
from acoustic_kd.soft_targets.predictions import BLOCK_FRAMES
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import (
    exclusive_lock,
    json_sha256,
    read_json,
    read_jsonl,
    write_json,
    write_text,
)
from acoustic_kd.system.parallel import Task, cores, run_tasks, torch_threads
from acoustic_kd.system.steps import Step
from acoustic_kd.system.yaml_dataclasses import read_yaml
from acoustic_kd.training.batches import Copies
from acoustic_kd.training.ensemble import Mean
from acoustic_kd.training.ensemble_predictions import Ensemble
from acoustic_kd.training.precision import use_bfloat16
from acoustic_kd.training.windows import make_splicer
from acoustic_kd.verbs import decode
from study_table import MEASURES, SYSTEMS, T95, around_section, chart, table, write_section

PROGRAM = "tools/study.py"
SEEDS = range(2, max(T95) + 1)
DATA_STAGES = ("corpus", "features", "align", "senones", "frames", "copies")
TRAIN_ACCURACY = "train.json"  # in the directory of a model


@dataclass(frozen=True)
class Study:
    """A study's YAML file.

    Attributes:
        title: a description of what all rows share.
        config: name of the package's settings, or a file.
        settings: `group.key` → value, of all rows.
        seeds: number of experiments of each row.
        rows: factor → name of a row → the settings that it changes.
    """

    title: str
    config: str
    settings: dict[str, Any]
    seeds: int
    rows: dict[str, dict[str, dict[str, Any] | None]]


@dataclass(frozen=True)
class Comparison(Study):
    """A study of members, ensemble, control and distilled model.

    Attributes:
        columns: of the table, such as `distilled wer`: one of SYSTEMS and one of MEASURES.
    """

    columns: tuple[str, ...] = tuple(f"{system} dev" for system in SYSTEMS)


StudyKind = TypeVar("StudyKind", bound=Study)


def read_study(path: Path, kind: type[StudyKind] = Study, seeds: range = SEEDS) -> StudyKind:
    """Read and check a study.

    Args:
        kind: the class of such studies.
        seeds: the possible numbers of seeds.
    """
    values = read_yaml(path)
    names = [field.name for field in fields(kind)]
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not isinstance(values, dict) or not needed <= set(values) <= set(names):
        raise UserError(f"{path}: a study has {', '.join(names)} and nothing else")
    study = kind(**values)
    if type(study.seeds) is not int or study.seeds not in seeds:
        limits = f"{seeds[0]} to {seeds[-1]}"
        raise UserError(f"{path}: seeds is {study.seeds}; it must be a number from {limits}")
    for name in ("title", "config"):
        if not isinstance(value := getattr(study, name), str):
            raise UserError(f"{path}: {name} must be text, it is {value!r}")
    parts: dict[str, Any] = {"settings": study.settings, "rows": study.rows}
    for factor, rows in study.rows.items() if isinstance(study.rows, dict) else ():
        parts[f"rows of {factor}"] = rows
        for row, values in rows.items() if isinstance(rows, dict) else ():
            parts[f"row '{row}'"] = {} if values is None else values
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise UserError(f"{path}: {name} must be a mapping, it is {part!r}")
    return study


def read_comparison(path: Path) -> Comparison:
    """Read and check a study whose rows have members, ensemble, control and distilled model."""
    study = read_study(path, Comparison)
    known = [f"{system} {measure}" for measure in MEASURES for system in SYSTEMS]
    known.remove("ensemble train")
    columns = study.columns if isinstance(study.columns, list | tuple) else [study.columns]
    if wrong := [column for column in columns if column not in known]:
        raise UserError(f"{path}: columns has {wrong[0]!r}; it may have {', '.join(known)}")
    if not any(column.startswith("distilled") for column in columns):
        raise UserError(f"{path}: columns has no figure of the distilled model; name one")
    return study


def main(arguments: list[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    options = study_parser(PROGRAM, __doc__).parse_args(arguments)
    return exit_status(PROGRAM, lambda: run_study(options))


def study_parser(program: str, description: str | None) -> Parser:
    """The command line of a tool that runs studies."""
    parser = Parser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml")
    parser.add_argument("--exp-dir", type=Path, metavar="EXP", help="default: exp/study-NAME")
    parser.add_argument("--data-dir", metavar="DIR", help="directory of the corpus")
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="processes (default: one per core)"
    )
    parser.add_argument(
        "--docs",
        type=Path,
        metavar="FILE",
        help="also write the table between FILE's markers (and the chart, if the study "
        "has one, into pictures/ beside it)",
    )
    return parser


def check_options(options: argparse.Namespace) -> tuple[str, Path]:
    """Check the options before hours of training; returns the study's name and EXP."""
    name = options.study.stem
    if options.jobs < 0:
        raise UserError(f"--jobs is {options.jobs}; it must be 0 (one per core) or more")
    if options.docs:
        around_section(options.docs, name)
    return name, options.exp_dir or Path("exp") / f"study-{name}"


def command_of(program: str, options: argparse.Namespace) -> str:
    """The command that makes the table, without the folders of this machine."""
    words = [program, str(options.study)] + (["--data-dir", "DIR"] if options.data_dir else [])
    return shlex.join(words)


def run_study(options: argparse.Namespace) -> None:
    """Make all rows; write and print the table."""
    study = read_comparison(options.study)
    name, out = check_options(options)
    with exclusive_lock(out):
        experiments = {
            (factor, row): [
                make_experiment(study, settings or {}, seed, out, options.data_dir)
                for seed in range(study.seeds)
            ]
            for factor, rows in study.rows.items()
            for row, settings in rows.items()
        }
        everything = [experiment for row in experiments.values() for experiment in row]
        make_all(everything, options.jobs)
        measure_all(everything, study.columns, options.jobs)
        rows = [
            {"factor": factor, "name": row} | figures(of_row, study.columns)
            for (factor, row), of_row in experiments.items()
        ]
        results = {"title": study.title, "seeds": study.seeds, "columns": study.columns}
        results |= {"rows": rows}
        text, picture = table(results, command_of(PROGRAM, options)), chart(results)
        write_json(out / "study.json", results)
        write_text(out / "study.md", text)
        write_text(out / "study.svg", picture)
    print(text)
    if options.docs:
        write_section(options.docs, name, text)
        write_text(options.docs.parent / "pictures" / f"study-{name}.svg", picture)


def make_experiment(
    study: Study, row: dict[str, Any], seed: int, out: Path, data_dir: str | None
) -> Experiment:
    """The experiment of a row with one seed."""
    seeds = {"train.seed": 10_000 * seed, "train.share_seed": seed}
    experiment = experiment_of(study, row | seeds, out, data_dir)
    if not experiment.config.distill.hard_baseline:
        raise UserError(
            "setting 'distill.hard_baseline' is False; each row of a study has a control"
        )
    return experiment


def experiment_of(study: Study, row: dict[str, Any], out: Path, data_dir: str | None) -> Experiment:
    """The experiment of a row's settings; its stages are links to directories in EXP/shared."""
    settings = {**study.settings, **row}
    if data_dir is not None:
        settings["corpus.data_dir"] = data_dir
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
    config, device = experiment.config, torch.device("cpu")
    low = use_bfloat16(config.train.bfloat16, device)
    numbers = torch.arange(len(frames)) if chosen is None else chosen.nonzero()[:, 0]
    splicer = make_splicer(config.model, frames.features, frames.offsets, low)
    blocks = numbers.split(BLOCK_FRAMES)
    predictions = Ensemble(system.directories, Mean(1.0), device, low).predictions(splicer, blocks)
    specialists = read_specialists(experiment, device, low) if system.specialists else None
    if specialists is not None:
        predictions = map(partial(specialists.refine, splicer=splicer), predictions, blocks)
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
        paths = [experiment.path("decode") / s.name / "measurement.json" for s in found]
        return fmean(_of_test(read_json(path), measure) for path in paths)
    if name in ("members", "ensemble") and measure == "dev":
        return float(read_json(experiment.path("train") / "dev.json")[name])
    read = train_accuracy if measure == "train" else dev_accuracy
    return fmean(read(system.directories[0]) for system in found)


def kind_of(name: str) -> str:
    """The kind of the systems of a column."""
    return "baseline" if name == "members" else name


def _of_test(measurement: dict[str, Any], measure: str) -> float:
    if measure == "wer":
        return float(measurement["wer"]["test"]["percent"])
    right, frames = np.sum(list(measurement["frames"]["test"].values()), axis=0)
    return float(100 * right / frames)


def train_accuracy(directory: Path) -> float:
    """Frame accuracy of a model, in percent, on the utterances that it has learnt from."""
    return float(read_json(directory / TRAIN_ACCURACY)["train"])


def dev_accuracy(directory: Path) -> float:
    """Frame accuracy on dev, in percent, of the weights that a model kept."""
    best = read_json(directory / "model.json")["best_dev_frame_accuracy"]
    return best or read_jsonl(directory / "metrics.jsonl")[-1]["dev_frame_accuracy"]


if __name__ == "__main__":
    sys.exit(main())
