"""The whole experiment on small pretended digits: what it makes, redoes and refuses."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digits import VARIANTS, make_digits, make_mnist, run_here, times, written
from kills import killed_at
from scripts import REPOSITORY

from acoustic_kd.features.frames import read_frames
from acoustic_kd.mnist import experiment as experiment
from acoustic_kd.mnist.data import MD5, Digits
from acoustic_kd.mnist.experiment import hold_out, plan, run_experiment, write_frames
from acoustic_kd.mnist.variants import Variant, read_variants
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json
from acoustic_kd.system.steps import Step

COMMAND = "recipes/mnist.sh"


@pytest.fixture(scope="module")
def variants(tmp_path_factory) -> dict[str, Variant]:
    path = tmp_path_factory.mktemp("settings") / "variants.yaml"
    path.write_text(VARIANTS)
    return read_variants(path, full=True)


def run(variants, directory, dev=False, mnist=None, jobs=1, tasks=run_here):
    """The experiment on pretended digits, in this process unless `tasks` starts others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "read_mnist", lambda data_dir, cache: mnist or make_mnist())
        patch.setattr(experiment, "run_tasks", tasks)
        return run_experiment(variants, directory, None, dev, jobs, COMMAND)


def in_json(results):
    """As they are read back: JSON has no tuples."""
    return json.loads(json.dumps(results))


@pytest.fixture(scope="module")
def finished(variants, tmp_path_factory) -> Path:
    """The experiment, done by two processes; work on copies of it."""
    directory = tmp_path_factory.mktemp("experiment") / "exp"
    returned = run(variants, directory, jobs=2, tasks=experiment.run_tasks)
    assert read_json(directory / "results.json") == in_json(returned)
    return directory


@pytest.fixture
def spoilt(finished, tmp_path) -> Path:
    """A copy of the finished experiment that may be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "exp"))


def results_of(directory: Path) -> dict:
    """Without what no two runs agree on."""
    results = read_json(directory / "results.json")
    assert results.pop("minutes") >= 0
    for net in results["nets"]:
        assert net.pop("frames_per_second") > 0
    return results


def weights(directory: Path) -> dict[str, bytes]:
    found = sorted((directory / "runs").rglob("model.safetensors"))
    return {str(path.parent.relative_to(directory)): path.read_bytes() for path in found}


def nets_of(results, variant):
    return [net for net in results["nets"] if net["row"] == variant]


NETS = {"teacher": 2, "hard": 2, "distilled": 6, "no-threes": 1, "arithmetic": 1, "geometric": 1}


# --- what is made -------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_hold_every_net_with_all_test_images_counted(finished, variants):
    results = read_json(finished / "results.json")
    assert results["corpus"] == "mnist" and results["source"] == "pretended digits"
    assert results["comparable"] is False and results["measured_on"] == "test"
    assert results["images"] == {"train": 600, "test": 200} and results["command"] == COMMAND
    assert results["minutes"] > 0
    assert {variant: len(nets_of(results, variant)) for variant in variants} == NETS
    assert len(results["nets"]) == sum(NETS.values()) == len(set(weights(finished).values()))
    names = [path.name for path in finished.rglob("*")]
    assert not [name for name in names if name.startswith((".", "checkpoint"))]
    for net in results["nets"]:
        variant = variants[net["row"]]
        tables = [net["confusion"], *(c["confusion"] for c in net.get("corrected", {}).values())]
        for table in tables:
            assert np.shape(table) == (10, 10) and np.sum(table, axis=1).tolist() == [20] * 10
        assert net["errors"] == 200 - np.trace(net["confusion"])
        assert net["parameters"] == 785 * variant.width + (variant.width + 1) * (variant.width + 10)
        for key in ("experiment", "title", "paper", "layers", "width", "epochs"):
            assert net[key] == getattr(variant, key)
        assert (net["digits"], net["correct"]) == (list(variant.digits), list(variant.correct))
        assert net["train_loss"] > 0 and net["frames_per_second"] > 0
        assert ("corrected" in net) == (net["row"] == "no-threes")


@pytest.mark.slow
def test_the_nets_have_learnt(finished):
    results = results_of(finished)
    assert max(net["errors"] for net in nets_of(results, "teacher")) < 30  # by chance: 180
    assert max(net["errors"] for net in nets_of(results, "distilled")) < 120
    # It has met threes in the soft targets alone: its bias is against them, not its knowledge.
    (net,) = nets_of(results, "no-threes")
    tuned = net["corrected"]["test"]
    assert tuned["shift"] > 0 and tuned["confusion"][3][3] > net["confusion"][3][3] + 3
    assert np.trace(tuned["confusion"]) > np.trace(net["confusion"])


@pytest.mark.slow
def test_net_n_learns_from_teacher_n_and_an_ensemble_from_all(finished, variants):
    results = results_of(finished)
    assert {name: [net["teacher"] for net in nets_of(results, name)] for name in variants} == {
        "teacher": [None, None],
        "hard": [None, None],
        "distilled": 2 * ["teacher-01", "teacher-02", "teacher-01"],
        "no-threes": ["teacher-01"],
        "arithmetic": ["teacher-01+02-arithmetic"],
        "geometric": ["teacher-01+02-geometric"],
    }
    folders = {
        str(path.parent.relative_to(finished / "soft_targets"))
        for path in finished.rglob("soft_targets/**/shard-*.h5")
    }
    assert folders == {
        *("teacher-01/T2", "teacher-01/T5.5", "teacher-02/T2", "teacher-02/T5.5"),
        *("teacher-01+02-arithmetic/T2", "teacher-01+02-geometric/T2"),
    }


# --- what is redone -----------------------------------------------------------------------------


@pytest.mark.slow
def test_running_it_again_trains_nothing_and_reports_the_present_names(spoilt, variants, capfd):
    before, expected = times(spoilt), read_json(spoilt / "results.json")
    names = {"title": "other", "paper": 1.0, "experiment": 4}
    for net in nets_of(expected, "hard"):
        net |= names
    # Speeds and all: they are those of the training.
    assert in_json(run(variants | {"hard": replace(variants["hard"], **names)}, spoilt)) == expected
    out = capfd.readouterr().out
    assert out.count(" errors (up to date)\n") == out.count("\n") == sum(NETS.values())
    errors = nets_of(expected, "hard")[1]["errors"]
    assert f"  hard/02: {errors} errors (up to date)\n" in out
    results = run({"hard": replace(variants["hard"], seeds=1)}, spoilt)
    assert [(net["row"], net["seed"]) for net in results["nets"]] == [("hard", 1)]
    after = times(spoilt)
    del before["results.json"], after["results.json"]
    assert after == before


def all_of(directory: Path, *patterns: str) -> set[str]:
    """The pieces of work under some folders."""
    done = [path for pattern in patterns for path in directory.glob(f"{pattern}/**/done.json")]
    return {str(path.parent.relative_to(directory)) for path in done}


@pytest.mark.slow
def test_a_changed_teacher_is_trained_again_with_what_learns_from_it(spoilt, variants):
    before, results = times(spoilt), results_of(spoilt)
    changed = replace(variants["teacher"], epochs=6)
    run(variants | {"teacher": changed}, spoilt)
    again = ("teacher", "distilled", "no-threes", "arithmetic", "geometric")
    folders = ["soft_targets", *(f"runs/{name}" for name in again)]
    assert written(before, times(spoilt)) == all_of(spoilt, *folders)
    now = results_of(spoilt)
    for variant in variants:
        assert (nets_of(now, variant) == nets_of(results, variant)) == (variant not in again)
    assert {net["epochs"] for net in nets_of(now, "teacher")} == {6}


@pytest.mark.slow
def test_what_was_lost_is_made_again_to_the_same_bits_and_nothing_else(spoilt, variants):
    before, results, nets = times(spoilt), results_of(spoilt), weights(spoilt)
    lost = {
        "runs/hard/01": ("done.json", "result.json"),
        "runs/teacher/02": ("model.safetensors",),
        "soft_targets/teacher-02/T5.5": ("shard-00000.h5",),
    }
    for folder, names in lost.items():
        for name in names:
            (spoilt / folder / name).unlink()
    run(variants, spoilt)
    assert written(before, times(spoilt)) == set(lost)
    assert results_of(spoilt) == results and weights(spoilt) == nets


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_bits_of_one_by_two_processes(finished, variants, tmp_path):
    directory = tmp_path / "exp"
    with killed_at(160):  # two teachers and one hard net are done, another is under way
        run(variants, directory)
    before = times(directory)
    done = all_of(directory, "runs")
    assert len(done) == 3 and not (directory / "results.json").exists()
    run(variants, directory)
    assert not written(before, times(directory)) & done
    assert results_of(directory) == results_of(finished) and weights(directory) == weights(finished)


# --- while settings are chosen ------------------------------------------------------------------


def test_what_is_held_out_are_the_last_train_images():
    numbers = np.arange(60_000)
    mnist = replace(make_mnist(), train=Digits(numbers[:, None], numbers))
    held = hold_out(mnist)
    for part, expected in ((held.train, range(50_000)), (held.test, range(50_000, 60_000))):
        assert part.images[:, 0].tolist() == part.labels.tolist() == list(expected)
    assert (held.source, held.comparable) == (mnist.source, mnist.comparable)


def test_dev_never_sees_the_test_images(tmp_path, variants):
    few = {"hard": variants["hard"]}
    results = run(few, tmp_path / "exp", dev=True)
    assert results["measured_on"] == "dev" and results["images"] == {"train": 480, "test": 120}
    assert [np.sum(net["confusion"]) for net in results["nets"]] == [120, 120]
    before = times(tmp_path / "exp")
    # Were they anywhere, then other ones would change something.
    again = run(few, tmp_path / "exp", dev=True, mnist=make_mnist(test_seed=5))
    assert again == results
    assert written(before, times(tmp_path / "exp")) == set()
    images = read_frames(tmp_path / "exp" / "frames" / "test").features
    expected = make_mnist().train.images[-120:] / 255
    np.testing.assert_allclose(images.float(), expected, atol=3e-4)


# --- the order of the work ----------------------------------------------------------------------


def frames_step(directory: Path) -> Step:
    return Step("frames", directory / "frames", {}, {})


def test_every_task_comes_after_those_it_needs(tmp_path):
    variants = read_variants(REPOSITORY / "recipes" / "conf" / "mnist.yaml", full=True)
    backwards = dict(reversed(variants.items()))  # students stand before their teachers
    for some in (variants, backwards):
        tasks, steps = plan(some, tmp_path, frames_step(tmp_path))
        done: set[str] = set()
        for task in tasks:
            assert task.cost > 0 and task.name not in done
            assert done.issuperset(task.needs), task
            done.add(task.name)
        assert {run.name for run in steps} <= done
        folders = [step.directory for step in steps.values()]
        assert len(set(folders)) == len({step.digest for step in steps.values()}) == len(steps)
    assert list(tmp_path.iterdir()) == []


def test_what_shapes_a_net_changes_its_digest_and_nothing_else_does(tmp_path, variants):
    def digests(variants):
        _, steps = plan(variants, tmp_path, frames_step(tmp_path))
        return {run.name: step.digest for run, step in steps.items()}

    def changed_by(name, change):
        after = digests(variants | {name: replace(variants[name], **change)})
        return {net for net in before if after[net] != before[net]}

    before = digests(variants)
    for change in (
        *({"layers": 1}, {"width": 17}, {"dropout": 0.5}, {"input_dropout": 0.5}),
        *({"max_norm": 9.0}, {"jitter": 2}, {"epochs": 9}, {"batch_frames": 9}),
        *({"learning_rate": 9.0}, {"hard_weight": 9.0}, {"digits": (1,)}, {"correct": (1,)}),
    ):
        distilled = {name for name in before if name.startswith("distilled/")}
        assert changed_by("distilled", change) == distilled, change
    for change in ({"title": "other"}, {"paper": 1.0}, {"experiment": 9}):
        assert changed_by("teacher", change) == changed_by("distilled", change) == set()
    for change in ({"seeds": 4}, {"temperatures": (2.0, 5.5, 9.0)}):
        assert changed_by("distilled", change) == set()
    for change in ({"members": 1}, {"mean": "geometric"}):
        assert changed_by("arithmetic", change) == {"arithmetic/T2/01"}


def test_frames_are_the_images_between_0_and_1_and_are_written_once(tmp_path):
    mnist = make_mnist()
    first = write_frames(mnist, tmp_path)
    for split, digits in (("train", mnist.train), ("test", mnist.test)):
        frames = read_frames(tmp_path / "frames" / split)
        np.testing.assert_allclose(frames.features.float(), digits.images / 255, atol=3e-4)
        assert frames.targets.tolist() == digits.labels.tolist()
        assert frames.ids == [f"{split}-{number:05d}" for number in range(len(digits))]
    before = times(tmp_path)
    assert write_frames(mnist, tmp_path).digest == first.digest and times(tmp_path) == before
    for changed in (
        replace(mnist, test=make_digits(200, 7)),
        replace(mnist, train=replace(mnist.train, labels=mnist.train.labels[::-1].copy())),
        replace(mnist, source="others"),
    ):
        assert write_frames(changed, tmp_path).digest != first.digest


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def refusal(command_refusal, tmp_path, monkeypatch):
    """refusal(argument, …) → the one line of a command that must end with status 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(VARIANTS)
    (tmp_path / "misspelt.yaml").write_text(VARIANTS.replace("width: 24", "widht: 24"))
    (tmp_path / "damaged" / "mnist").mkdir(parents=True)
    for name in MD5:
        (tmp_path / "damaged" / "mnist" / name).write_bytes(gzip.compress(b"junk"))
    before = sorted(tmp_path.iterdir())

    def refused(*arguments):
        error = command_refusal("mnist", *arguments)
        assert sorted(tmp_path.iterdir()) == before
        return error

    return refused


START = "--config settings.yaml --exp-dir exp"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--config nofile", "nofile: there is no such file; the package has settings for"),
        (f"{START} --jobs -1", "--jobs is -1; it must be 0 (one per core) or more"),
        ("--config misspelt.yaml", "unknown setting 'variants.teacher.widht'; did you mean"),
        ("--exp-dir exp --data-dir .", "train-images-idx3-ubyte.gz is missing"),
        (f"{START} --data-dir damaged", "damaged/mnist/train-images-idx3-ubyte.gz: md5 is "),
    ],
)
def test_refusals(refusal, arguments, message):
    assert message in refusal(*arguments.split())


def test_a_directory_that_cannot_be_written_is_named(refusal, monkeypatch):
    monkeypatch.setattr(experiment, "read_mnist", lambda data_dir, cache: make_mnist())
    directory = "settings.yaml"  # a file
    assert directory in refusal("--config", "settings.yaml", "--exp-dir", directory)


@pytest.mark.parametrize("arguments", ["--full", "--config settings.yaml"])
def test_the_command_of_the_results_names_the_users_settings(refusal, monkeypatch, arguments):
    def fail(*arguments):
        raise UserError(arguments[-1])

    monkeypatch.setattr(experiment, "run_experiment", fail)
    assert refusal(*arguments.split()).endswith(f": recipes/mnist.sh {arguments}\n")


# --- real digits --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tiny_net_reads_real_digits(shared_data, tmp_path):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    variants = {"hard": Variant(seeds=1, width=30, epochs=1)}
    results = run_experiment(variants, tmp_path / "exp", shared_data, False, 1, COMMAND)
    assert results["comparable"] and results["images"] == {"train": 60_000, "test": 10_000}
    (net,) = results["nets"]
    assert 300 < net["errors"] < 1500
    sizes = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.sum(net["confusion"], axis=1).tolist() == sizes
    assert list(tmp_path.iterdir()) == [tmp_path / "exp"]
