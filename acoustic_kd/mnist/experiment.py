"""The whole experiment: images to frames, nets trained in the order of their teachers, results."""

import hashlib
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.features.frames import Classes, FrameSequence, write_store
from acoustic_kd.mnist import train_net as net
from acoustic_kd.mnist.data import SIDE, Digits, Mnist, read_mnist
from acoustic_kd.mnist.variants import DIGITS, Run, Teacher, Variant, runs_of, teacher_of
from acoustic_kd.system.files import exclusive_lock, json_sha256, read_json, write_json
from acoustic_kd.system.parallel import Task, progress, run_tasks
from acoustic_kd.system.steps import Step, read_done

CLASSES = Classes(DIGITS, json_sha256([str(digit) for digit in range(DIGITS)]))
SHARD_IMAGES = 20_000
HELD_OUT = 10_000  # train images that stand in for the test images while settings are chosen
REPORTED_EPOCHS = 10
# What names a row, counts its nets or says how they are judged does not shape a net.
NOT_SHAPING = {
    "experiment",
    "title",
    "paper",
    "seeds",
    "temperatures",
    "members",
    "mean",
    "teacher",
}


def run_experiment(
    rows: dict[str, Variant],
    directory: Path,
    data_dir: Path | None,
    dev: bool,
    jobs: int,
    command: str,
) -> dict[str, Any]:
    """Train every net that is not current; returns the results, also in DIR/results.json.

    Args:
        dev: hold out the last train images and measure on them instead of the test images.
        jobs: nets trained at once, each on one core (0: one a core).
        command: what makes the experiment, for its report.

    Raises:
        UserError: the images are damaged, or a net cannot be trained.
    """
    mnist = read_mnist(data_dir, directory.parent / "mnist-data")
    if dev:
        mnist = hold_out(mnist)
    with exclusive_lock(directory):
        works = _train(rows, directory, write_frames(mnist, directory), jobs)
    done = [read_done(work.directory) or {} for work in works.values()]
    results = {
        "corpus": "mnist",
        "source": mnist.source,
        "comparable": mnist.comparable,
        "measured_on": "dev" if dev else "test",
        "images": {"train": len(mnist.train), "test": len(mnist.test)},
        "command": command,
        "minutes": sum(record["seconds"] for record in done) / 60,
        "nets": [_net(run, rows, works[run]) for run in works],
    }
    write_json(directory / "results.json", results)
    return results


def _train(rows: dict[str, Variant], directory: Path, frames: Step, jobs: int) -> dict[Run, Step]:
    """Train every net that is not current; says of each, as it is done, how it errs."""
    tasks, works = plan(rows, directory, frames)
    names = {run.name: run for run in works}
    bar = progress((), "all nets", round(sum(task.cost for task in tasks)), unit="TFLOP")
    for task, seconds in run_tasks(tasks, jobs, net.load, (frames.directory,)):
        bar.update(round(task.cost))
        if task.name in names:
            errors = count_errors(_result(works[names[task.name]])["confusion"])
            took = "current" if not seconds else f"{seconds:.0f} s"
            print(f"  {task.name}: {errors} errors ({took})", flush=True)
    bar.close()
    return works


def _result(work: Step) -> dict[str, Any]:
    return read_json(work.directory / "result.json")


def _net(run: Run, rows: dict[str, Variant], work: Step) -> dict[str, Any]:
    """What `results.json` says of one net (docs/results.md)."""
    result, teacher = _result(work), teacher_of(run, rows)
    settings = asdict(run.settings)
    kept = ("experiment", "title", "paper", "layers", "width", "epochs", "digits", "correct")
    return {
        "row": run.row,
        "seed": run.seed,
        "temperature": run.temperature,
        "teacher": None if teacher is None else teacher.name,
        **{key: settings[key] for key in kept},
        "errors": count_errors(result["confusion"]),
        **result,
    }


def count_errors(confusion: list[list[int]]) -> int:
    """Images taken for another class than theirs, of a matrix [K][K]."""
    counts = np.array(confusion)
    return int(counts.sum() - counts.trace())


def hold_out(mnist: Mnist) -> Mnist:
    """The last train images in the place of the test images, to choose settings on."""
    count = min(HELD_OUT, len(mnist.train) // 5)
    first, last = (
        Digits(mnist.train.images[part], mnist.train.labels[part])
        for part in (slice(None, -count), slice(-count, None))
    )
    return replace(mnist, train=first, test=last)


def write_frames(mnist: Mnist, directory: Path) -> Step:
    """The images as frame stores `train` and `test`, pixels 0 … 1; an image is an utterance."""
    splits = {"train": mnist.train, "test": mnist.test}
    inputs = {
        f"{split}.{part}": hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        for split, digits in splits.items()
        for part, array in (("images", digits.images), ("labels", digits.labels))
    }
    work = Step("frames", directory / "frames", {"source": mnist.source}, inputs)
    if work.is_current():
        return work
    with work.run():
        for split, digits in splits.items():
            utterances = (
                FrameSequence(f"{split}-{number:05d}", image[None] / np.float32(255), label[None])
                for number, (image, label) in enumerate(
                    zip(digits.images, digits.labels, strict=True)
                )
            )
            write_store(work.directory / split, utterances, CLASSES, SHARD_IMAGES)
    return work


def plan(
    rows: dict[str, Variant], directory: Path, frames: Step
) -> tuple[list[Task], dict[Run, Step]]:
    """All tasks, each after those it needs, and the work of each net."""
    tasks: list[Task] = []
    works: dict[Run, Step] = {}

    def train(run: Run, soft: Step | None = None, needs: tuple[str, ...] = ()) -> None:
        inputs = {"frames": frames.digest}
        if soft is not None:
            inputs["soft-targets"] = soft.digest
        works[run] = Step(run.name, directory / "runs" / run.name, _settings(run), inputs)
        report = max(1, run.settings.epochs // REPORTED_EPOCHS)
        arguments = (run, works[run], soft and soft.directory, report)
        tasks.append(Task(run.name, net.train_net, arguments, needs, cost(run.settings)))

    learners: dict[Teacher, list[tuple[Run, float]]] = {}
    for run in runs_of(rows):
        teacher = teacher_of(run, rows)
        if teacher is None or run.temperature is None:
            train(run)
        else:
            learners.setdefault(teacher, []).append((run, run.temperature))
    by_name = {run.name: work for run, work in works.items()}
    for teacher, runs in learners.items():
        members = [by_name[f"{teacher.row}/{seed:02d}"] for seed in teacher.seeds]
        temperatures = sorted({temperature for _, temperature in runs})
        soft = _soft_works(teacher, members, temperatures, directory)
        tasks.append(_soft_task(teacher, members, soft, rows))
        for run, temperature in runs:
            train(run, soft[temperature], (teacher.name,))
    return tasks, {run: works[run] for run in runs_of(rows)}


def _settings(run: Run) -> dict[str, Any]:
    shaping = {k: v for k, v in asdict(run.settings).items() if k not in NOT_SHAPING}
    shaping |= {"row": run.row, "temperature": run.temperature, "seed": run.seed}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in shaping.items()}


def _soft_works(
    teacher: Teacher, members: list[Step], temperatures: list[float], directory: Path
) -> dict[float, Step]:
    inputs = {member.name: member.digest for member in members}
    return {
        t: Step(
            f"soft targets of {teacher.name}",
            directory / "soft_targets" / teacher.name / f"T{t:g}",
            {"temperature": t, "mean": teacher.mean},
            inputs,
        )
        for t in temperatures
    }


def _soft_task(
    teacher: Teacher, members: list[Step], works: dict[float, Step], rows: dict[str, Variant]
) -> Task:
    needs = tuple(member.name for member in members)
    one = cost(rows[teacher.row]) / rows[teacher.row].epochs / 3  # forward alone
    arguments = (teacher, members, works)
    return Task(teacher.name, net.write_soft_targets, arguments, needs, one * len(members))


def cost(row: Variant) -> float:
    """10^12 multiplications and additions that training a net takes, about: of 60,000 images."""
    sizes = [SIDE**2, *row.layers * [row.width], DIGITS]
    weights = sum(a * b for a, b in pairwise(sizes))
    share = len(row.digits) / DIGITS
    return 6 * weights * 60_000 * row.epochs * share / 1e12
