"""The whole experiment: write the frames, train the nets after their teachers, write results."""

import hashlib
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from acoustic_kd.features.frame_sequence import Classes, FrameSequence
from acoustic_kd.features.frames import write_store
from acoustic_kd.mnist import train_net
from acoustic_kd.mnist.data import SIDE, Digits, Mnist, read_mnist
from acoustic_kd.mnist.results import errors_of
from acoustic_kd.mnist.variants import DIGITS, Teacher, Variant, VariantRun, runs_of, teacher_of
from acoustic_kd.system.files import exclusive_lock, json_sha256, read_json, write_json
from acoustic_kd.system.parallel import Task, progress, run_tasks
from acoustic_kd.system.records import read_done, verify_files
from acoustic_kd.system.steps import Step

CLASSES = Classes(DIGITS, json_sha256([str(digit) for digit in range(DIGITS)]))
SHARD_IMAGES = 20_000
MAX_HELD_OUT = 10_000  # train images that replace the test images while settings are chosen
REPORTED_EPOCHS = 10  # of each net, on the terminal
# Settings that name a variant, count its nets or give the paper's figures; they shape no net.
NOT_SHAPING = {
    *("experiment", "title", "paper", "seeds"),
    *("temperatures", "members", "mean", "teacher"),
}


def run_experiment(
    variants: dict[str, Variant],
    directory: Path,
    data_dir: Path | None,
    dev: bool,
    jobs: int,
    command: str,
) -> dict[str, Any]:
    """Train every net that is out of date; returns the results, also in DIR/results.json.

    Args:
        dev: hold out the last train images and measure on them instead of the test images.
        jobs: nets trained at once, each on one core (0: one a core).
        command: makes the experiment again; for the report.
    """
    mnist = read_mnist(data_dir, directory.parent / "mnist-data")
    if dev:
        mnist = hold_out(mnist)
    with exclusive_lock(directory):
        frames = write_frames(mnist, directory)
        verify_files(frames.directory)
        steps = _train(variants, directory, frames, jobs)
    done = [read_done(step.directory) or {} for step in steps.values()]
    results = {
        "corpus": "mnist",
        "source": mnist.source,
        "comparable": mnist.comparable,
        "measured_on": "dev" if dev else "test",
        "images": {"train": len(mnist.train), "test": len(mnist.test)},
        "command": command,
        "minutes": sum(record.get("seconds", 0.0) for record in done) / 60,
        "nets": [_net_results(run, variants, steps[run]) for run in steps],
    }
    write_json(directory / "results.json", results)
    return results


def _train(
    variants: dict[str, Variant], directory: Path, frames: Step, jobs: int
) -> dict[VariantRun, Step]:
    """Train every net that is out of date; prints the errors of each as it is done."""
    tasks, steps = plan(variants, directory, frames)
    names = {run.name: run for run in steps}
    bar = progress((), "all nets", round(sum(task.cost for task in tasks)), unit="TFLOP")
    for task, seconds in run_tasks(tasks, jobs, partial(train_net.load, frames.directory)):
        bar.update(round(task.cost))
        if task.name in names:
            (errors,) = errors_of([_result(steps[names[task.name]])])
            took = "up to date" if not seconds else f"{seconds:.0f} s"
            print(f"  {task.name}: {errors} errors ({took})", flush=True)
    bar.close()
    return steps


class _Corrected(TypedDict):
    shift: float
    confusion: list[list[int]]


class _MoreResult(TypedDict, total=False):
    corrected: dict[str, _Corrected]


class _Result(_MoreResult):
    """The content of `result.json` of a net."""

    confusion: list[list[int]]
    frames_per_second: float
    parameters: int
    train_loss: float


def _result(step: Step) -> dict[str, Any]:
    verify_files(step.directory, ("result.json",))
    result: dict[str, Any] = read_json(step.directory / "result.json", _Result, "figures of a net")
    return result


def _net_results(run: VariantRun, variants: dict[str, Variant], step: Step) -> dict[str, Any]:
    """The entry of one net in `results.json` (docs/results.md)."""
    result, teacher = _result(step), teacher_of(run, variants)
    settings = asdict(run.settings)
    kept = ("experiment", "title", "paper", "layers", "width", "epochs", "digits", "correct")
    return {
        "row": run.variant,
        "seed": run.seed,
        "temperature": run.temperature,
        "teacher": None if teacher is None else teacher.name,
        **{key: settings[key] for key in kept},
        "errors": errors_of([result])[0],
        **result,
    }


def hold_out(mnist: Mnist) -> Mnist:
    """Put the last train images in the place of the test images, to choose settings on."""
    count = min(MAX_HELD_OUT, len(mnist.train) // 5)
    first, last = (
        Digits(mnist.train.images[part], mnist.train.labels[part])
        for part in (slice(None, -count), slice(-count, None))
    )
    return replace(mnist, train=first, test=last)


def write_frames(mnist: Mnist, directory: Path) -> Step:
    """Write the frame stores `train` and `test`, pixels 0 … 1; an image is an utterance."""
    splits = {"train": mnist.train, "test": mnist.test}
    inputs = {
        f"{split}.{part}": hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        for split, digits in splits.items()
        for part, array in (("images", digits.images), ("labels", digits.labels))
    }
    step = Step("frames", directory / "frames", {"source": mnist.source}, inputs)
    if step.is_current():
        return step
    with step.run():
        for split, digits in splits.items():
            utterances = (
                FrameSequence(f"{split}-{number:05d}", image[None] / np.float32(255), label[None])
                for number, (image, label) in enumerate(
                    zip(digits.images, digits.labels, strict=True)
                )
            )
            write_store(step.directory / split, utterances, CLASSES, SHARD_IMAGES)
    return step


def plan(
    variants: dict[str, Variant], directory: Path, frames: Step
) -> tuple[list[Task], dict[VariantRun, Step]]:
    """All tasks, each after the tasks that it needs, and the step of each net."""
    tasks: list[Task] = []
    steps: dict[VariantRun, Step] = {}

    def train(run: VariantRun, soft: Step | None = None, needs: tuple[str, ...] = ()) -> None:
        inputs = {"frames": frames.digest}
        if soft is not None:
            inputs["soft-targets"] = soft.digest
        steps[run] = Step(run.name, directory / "runs" / run.name, _settings(run), inputs)
        report = max(1, run.settings.epochs // REPORTED_EPOCHS)
        arguments = (run, steps[run], soft and soft.directory, report)
        tasks.append(Task(run.name, train_net.train_net, arguments, needs, cost(run.settings)))

    learners: dict[Teacher, list[tuple[VariantRun, float]]] = {}
    for run in runs_of(variants):
        teacher = teacher_of(run, variants)
        if teacher is None or run.temperature is None:
            train(run)
        else:
            learners.setdefault(teacher, []).append((run, run.temperature))
    by_name = {run.name: step for run, step in steps.items()}
    for teacher, runs in learners.items():
        members = [by_name[f"{teacher.variant}/{seed:02d}"] for seed in teacher.seeds]
        temperatures = sorted({temperature for _, temperature in runs})
        soft = _soft_steps(teacher, members, temperatures, directory)
        tasks.append(_soft_task(teacher, members, soft, variants))
        for run, temperature in runs:
            train(run, soft[temperature], (teacher.name,))
    return tasks, {run: steps[run] for run in runs_of(variants)}


def _settings(run: VariantRun) -> dict[str, Any]:
    shaping = {k: v for k, v in asdict(run.settings).items() if k not in NOT_SHAPING}
    shaping |= {"row": run.variant, "temperature": run.temperature, "seed": run.seed}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in shaping.items()}


def _soft_steps(
    teacher: Teacher, members: list[Step], temperatures: list[float], directory: Path
) -> dict[float, Step]:
    inputs = {member.name: member.digest for member in members}
    return {
        t: Step(
            f"soft targets of {teacher.name}",
            directory / "soft_targets" / teacher.name / f"T{t:g}",
            {"temperature": t, "mean": teacher.mean},
            inputs,
            own_checks="shard-*.h5",
        )
        for t in temperatures
    }


def _soft_task(
    teacher: Teacher, members: list[Step], steps: dict[float, Step], variants: dict[str, Variant]
) -> Task:
    needs = tuple(member.name for member in members)
    variant = variants[teacher.variant]
    # A third of an epoch: the forward pass alone.
    tflop = len(members) * cost(variant) / variant.epochs / 3
    arguments = (teacher, members, steps)
    return Task(teacher.name, train_net.write_soft_targets, arguments, needs, tflop)


def cost(variant: Variant) -> float:
    """About how many 10^12 multiplications and additions the training on 60,000 images takes."""
    sizes = [SIDE**2, *variant.layers * [variant.width], DIGITS]
    weights = sum(a * b for a, b in pairwise(sizes))
    share = len(variant.digits) / DIGITS
    return 6 * weights * 60_000 * variant.epochs * share / 1e12
