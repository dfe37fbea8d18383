"""The whole experiment on small pretended digits: what it makes, redoes and refuses."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digits import ROWS, make_digits, make_mnist, run_here, times, written
from dying import killed_at
from scripts import REPOSITORY

from acoustic_kd.cli import main
from acoustic_kd.features.frames import read_frames
from acoustic_kd.mnist import experiment as experiment
from acoustic_kd.mnist import train_net as net
from acoustic_kd.mnist.data import MD5
from acoustic_kd.mnist.experiment import hold_out, plan, run_experiment, write_frames
from acoustic_kd.mnist.variants import Variant, read_rows
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json
from acoustic_kd.system.steps import Step

COMMAND = "recipes/mnist.sh"


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, Variant]:
    path = tmp_path_factory.mktemp("rows") / "rows.yaml"
    path.write_text(ROWS)
    return read_rows(path, full=True)


def run_on(mnist, rows, directory, dev=False, jobs=1, tasks=None):
    """The experiment on other digits; without `tasks` in processes of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "read_mnist", lambda data_dir, cache: mnist)
        if tasks is not None:
            patch.setattr(experiment, "run_tasks", tasks)
            patch.setattr(net, "_frames", {})
        return run_experiment(rows, directory, None, dev, jobs, COMMAND)


def run(rows, directory, dev=False, mnist=None, tasks=run_here):
    """The experiment in this process."""
    return run_on(mnist or make_mnist(), rows, directory, dev, tasks=tasks)


def in_json(results):
    """As they are read back: JSON has no tuples."""
    return json.loads(json.dumps(results))


@pytest.fixture(scope="module")
def finished(rows, tmp_path_factory) -> Path:
    """The experiment, done by two processes; work on copies of it."""
    directory = tmp_path_factory.mktemp("experiment") / "exp"
    returned = run_on(make_mnist(), rows, directory, jobs=2)
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
    for one in results["nets"]:
        assert one.pop("frames_per_second") > 0
    return results


def weights(directory: Path) -> dict[str, bytes]:
    found = sorted((directory / "runs").rglob("model.safetensors"))
    return {str(path.parent.relative_to(directory)): path.read_bytes() for path in found}


def nets_of(results, row):
    return [one for one in results["nets"] if one["row"] == row]


NETS = {"teacher": 2, "hard": 2, "distilled": 6, "no-threes": 1, "arithmetic": 1, "geometric": 1}


# --- what is made -------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_hold_every_net_with_all_test_images_counted(finished, rows):
    results = read_json(finished / "results.json")
    assert results["corpus"] == "mnist" and results["source"] == "pretended digits"
    assert results["comparable"] is False and results["measured_on"] == "test"
    assert results["images"] == {"train": 600, "test": 200} and results["command"] == COMMAND
    assert results["minutes"] > 0
    assert {row: len(nets_of(results, row)) for row in rows} == NETS
    assert len(results["nets"]) == sum(NETS.values())
    for one in results["nets"]:
        row = rows[one["row"]]
        tables = [one["confusion"], *(c["confusion"] for c in one.get("corrected", {}).values())]
        for table in tables:
            assert np.shape(table) == (10, 10) and np.sum(table, axis=1).tolist() == [20] * 10
        assert one["errors"] == 200 - np.trace(one["confusion"])
        assert one["parameters"] == 785 * row.width + (row.width + 1) * (row.width + 10)
        for key in ("experiment", "title", "paper", "layers", "width", "epochs"):
            assert one[key] == getattr(row, key)
        assert (one["digits"], one["correct"]) == (list(row.digits), list(row.correct))
        assert one["train_loss"] > 0 and one["frames_per_second"] > 0
        assert ("corrected" in one) == (one["row"] == "no-threes")


@pytest.mark.slow
def test_the_nets_have_learnt(finished):
    results = results_of(finished)
    assert max(one["errors"] for one in nets_of(results, "teacher")) < 30  # by chance: 180
    assert max(one["errors"] for one in nets_of(results, "distilled")) < 120
    # It has met threes in the soft targets alone: its bias is against them, not its knowledge.
    (one,) = nets_of(results, "no-threes")
    tuned = one["corrected"]["test"]
    assert tuned["shift"] > 0 and tuned["confusion"][3][3] > one["confusion"][3][3] + 3
    assert np.trace(tuned["confusion"]) > np.trace(one["confusion"])


@pytest.mark.slow
def test_net_n_learns_from_teacher_n_and_an_ensemble_from_all(finished):
    results = results_of(finished)
    assert {one["teacher"] for row in ("teacher", "hard") for one in nets_of(results, row)} == {
        None
    }
    for temperature in (2.0, 5.5):
        found = [
            (one["seed"], one["teacher"])
            for one in nets_of(results, "distilled")
            if one["temperature"] == temperature
        ]
        assert found == [(1, "teacher-01"), (2, "teacher-02"), (3, "teacher-01")]
    for mean in ("arithmetic", "geometric"):
        assert [one["teacher"] for one in nets_of(results, mean)] == [f"teacher-01+02-{mean}"]
    folders = {
        str(path.parent.relative_to(finished / "soft_targets"))
        for path in finished.rglob("soft_targets/**/shard-*.h5")
    }
    assert folders == {
        *("teacher-01/T2", "teacher-01/T5.5", "teacher-02/T2", "teacher-02/T5.5"),
        *("teacher-01+02-arithmetic/T2", "teacher-01+02-geometric/T2"),
    }


@pytest.mark.slow
def test_all_nets_are_different_nets(finished):
    found = weights(finished)
    assert len(found) == len(set(found.values())) == sum(NETS.values())


@pytest.mark.slow
def test_frames_are_the_images_between_0_and_1(finished):
    mnist = make_mnist()
    for split in ("train", "test"):
        frames, digits = read_frames(finished / "frames" / split), getattr(mnist, split)
        np.testing.assert_allclose(frames.features.float(), digits.images / 255, atol=3e-4)
        assert frames.targets.tolist() == digits.labels.tolist()
        assert frames.ids[:2] == [f"{split}-00000", f"{split}-00001"] and len(frames.ids) == len(
            digits
        )


@pytest.mark.slow
def test_no_temporary_file_and_no_checkpoint_is_left(finished):
    names = [path.name for path in finished.rglob("*")]
    assert not [n for n in names if n.startswith(".") or n.startswith("checkpoint")]


@pytest.mark.slow
def test_one_process_gives_the_bits_of_two(finished, rows, tmp_path):
    run_on(make_mnist(), rows, tmp_path / "exp", jobs=1)
    assert results_of(tmp_path / "exp") == results_of(finished)
    assert weights(tmp_path / "exp") == weights(finished)


# --- what is redone -----------------------------------------------------------------------------


@pytest.mark.slow
def test_running_it_again_trains_nothing(spoilt, rows, capfd):
    before, expected = times(spoilt), read_json(spoilt / "results.json")
    assert in_json(run(rows, spoilt)) == expected  # speeds and all: they are those of the training
    after = times(spoilt)
    del before["results.json"], after["results.json"]
    assert after == before
    out = capfd.readouterr().out
    assert out.count(" errors (current)\n") == out.count("\n") == sum(NETS.values())
    errors = nets_of(expected, "hard")[1]["errors"]
    assert f"  hard/02: {errors} errors (current)\n" in out


def all_of(directory: Path, *patterns: str) -> set[str]:
    """The pieces of work under some folders."""
    done = [path for pattern in patterns for path in directory.glob(f"{pattern}/**/done.json")]
    return {str(path.parent.relative_to(directory)) for path in done}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "redone"),
    [
        ("hard", ["runs/hard"]),
        ("distilled", ["runs/distilled"]),
        (
            "teacher",
            ["runs/teacher", "soft_targets"]
            + [f"runs/{row}" for row in ("distilled", "no-threes", "arithmetic", "geometric")],
        ),
    ],
)
def test_a_changed_row_is_trained_again_with_what_learns_from_it(spoilt, rows, name, redone):
    before, results = times(spoilt), results_of(spoilt)
    changed = replace(rows[name], epochs=rows[name].epochs + 1)
    run(rows | {name: changed}, spoilt)
    assert written(before, times(spoilt)) == all_of(spoilt, *redone)
    now = results_of(spoilt)
    again = {folder.split("/")[1] for folder in redone if folder.startswith("runs/")}
    for row in rows:
        assert (nets_of(now, row) == nets_of(results, row)) == (row not in again)
    assert {one["epochs"] for one in nets_of(now, name)} == {changed.epochs}


@pytest.mark.slow
def test_what_only_names_a_row_retrains_nothing_and_is_reported(spoilt, rows):
    before = times(spoilt)
    changed = replace(rows["hard"], title="other", paper=1.0, experiment=4)
    run(rows | {"hard": changed}, spoilt)
    assert written(before, times(spoilt)) == set()
    for one in nets_of(results_of(spoilt), "hard"):
        assert (one["title"], one["paper"], one["experiment"]) == ("other", 1.0, 4)


@pytest.mark.slow
def test_more_seeds_and_temperatures_train_only_those(spoilt, rows):
    before = times(spoilt)
    more = {
        "hard": replace(rows["hard"], seeds=3),
        "no-threes": replace(rows["no-threes"], temperatures=(5.5, 9.0)),
    }
    run(rows | more, spoilt)
    assert written(before, times(spoilt)) == {
        *("runs/hard/03", "soft_targets/teacher-01/T9", "runs/no-threes/T9/01")
    }


@pytest.mark.slow
def test_fewer_rows_are_reported_without_the_rest(spoilt, rows):
    before = times(spoilt)
    results = run({"hard": replace(rows["hard"], seeds=1)}, spoilt)
    assert [(one["row"], one["seed"]) for one in results["nets"]] == [("hard", 1)]
    assert written(before, times(spoilt)) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost",
    [
        ["runs/hard/01/done.json", "runs/hard/01/result.json"],
        ["runs/teacher/02/model.safetensors"],
        ["runs/distilled/T2/03/result.json"],
        ["soft_targets/teacher-02/T5.5/shard-00000.h5"],
        ["frames/test/shard-00000.h5"],
    ],
)
def test_what_was_lost_is_made_again_to_the_same_bits_and_nothing_else(spoilt, rows, lost):
    before, results, nets = times(spoilt), results_of(spoilt), weights(spoilt)
    for name in lost:
        (spoilt / name).unlink()
    run(rows, spoilt)
    folder = lost[0].rpartition("/")[0].removesuffix("/test")
    assert written(before, times(spoilt)) == {folder}
    assert results_of(spoilt) == results and weights(spoilt) == nets


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(finished, rows, tmp_path):
    directory = tmp_path / "exp"
    with killed_at(160):  # two teachers and one hard net are done, another is under way
        run(rows, directory)
    before = times(directory)
    done = all_of(directory, "runs")
    assert len(done) == 3 and not (directory / "results.json").exists()
    run(rows, directory)
    assert not written(before, times(directory)) & done
    assert results_of(directory) == results_of(finished) and weights(directory) == weights(finished)


@pytest.mark.slow
def test_other_images_make_everything_anew(spoilt, rows):
    before = times(spoilt)
    few = {"hard": rows["hard"]}
    run(few, spoilt, mnist=make_mnist(test_seed=5))
    assert written(before, times(spoilt)) == {"frames", "runs/hard/01", "runs/hard/02"}


# --- while settings are chosen ------------------------------------------------------------------


def test_what_is_held_out_are_the_last_train_images():
    mnist = make_mnist()
    held = hold_out(mnist)
    assert (len(held.train), len(held.test)) == (480, 120)
    both = [np.concatenate([held.train.images, held.test.images]), mnist.train.images]
    np.testing.assert_array_equal(*both)
    assert [*held.train.labels, *held.test.labels] == mnist.train.labels.tolist()
    assert (held.source, held.comparable) == (mnist.source, mnist.comparable)


def test_of_all_of_mnist_ten_thousand_are_held_out():
    images, labels = np.zeros((60_000, 1), np.uint8), np.arange(60_000)
    mnist = make_mnist()
    held = hold_out(replace(mnist, train=replace(mnist.train, images=images, labels=labels)))
    assert held.train.labels.tolist() == list(range(50_000))
    assert held.test.labels.tolist() == list(range(50_000, 60_000))


def test_dev_never_sees_the_test_images(tmp_path, rows):
    few = {"hard": rows["hard"]}
    results = run(few, tmp_path / "exp", dev=True)
    assert results["measured_on"] == "dev" and results["images"] == {"train": 480, "test": 120}
    assert [np.sum(one["confusion"]) for one in results["nets"]] == [120, 120]
    before = times(tmp_path / "exp")
    # Were they anywhere, then other ones would change something.
    again = run(few, tmp_path / "exp", dev=True, mnist=make_mnist(test_seed=5))
    assert again == results
    assert written(before, times(tmp_path / "exp")) == set()
    images = read_frames(tmp_path / "exp" / "frames" / "test").features
    expected = make_mnist().train.images[-120:] / 255
    np.testing.assert_allclose(images.float(), expected, atol=3e-4)


# --- the order of the work ----------------------------------------------------------------------


def frames_work(directory: Path) -> Step:
    return Step("frames", directory / "frames", {}, {})


@pytest.mark.parametrize("full", [False, True])
def test_every_task_comes_after_those_it_needs(tmp_path, full):
    rows = read_rows(REPOSITORY / "recipes" / "conf" / "mnist.yaml", full)
    backwards = dict(reversed(rows.items()))  # students stand before their teachers
    for some in (rows, backwards):
        tasks, works = plan(some, tmp_path, frames_work(tmp_path))
        done: set[str] = set()
        for task in tasks:
            assert task.cost > 0 and task.name not in done
            assert done.issuperset(task.needs), task
            done.add(task.name)
        assert {run.name for run in works} <= done
        folders = [work.directory for work in works.values()]
        assert len(set(folders)) == len({work.digest for work in works.values()}) == len(works)
    assert list(tmp_path.iterdir()) == []


def test_what_shapes_a_net_changes_its_digest_and_nothing_else_does(tmp_path, rows):
    def digests(rows):
        _, works = plan(rows, tmp_path, frames_work(tmp_path))
        return {run.name: work.digest for run, work in works.items()}

    before = digests(rows)
    for change in (
        *({"layers": 1}, {"width": 17}, {"dropout": 0.5}, {"input_dropout": 0.5}),
        *({"max_norm": 9.0}, {"jitter": 2}, {"epochs": 9}, {"batch_frames": 9}),
        *({"learning_rate": 9.0}, {"hard_weight": 9.0}, {"digits": (1,)}, {"correct": (1,)}),
    ):
        after = digests(rows | {"distilled": replace(rows["distilled"], **change)})
        assert {name for name in before if after[name] != before[name]} == {
            name for name in before if name.startswith("distilled/")
        }, change
    for change in ({"title": "other"}, {"paper": 1.0}, {"experiment": 9}):
        changed = {name: replace(row, **change) for name, row in rows.items()}
        assert digests(changed) == before
    for change in ({"members": 1}, {"mean": "geometric"}):
        after = digests(rows | {"arithmetic": replace(rows["arithmetic"], **change)})
        assert {name for name in before if after[name] != before[name]} == {"arithmetic/T2/01"}


def test_frames_are_written_once_for_the_same_images(tmp_path):
    mnist = make_mnist()
    first = write_frames(mnist, tmp_path)
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
def refusal(capfd):
    """refusal(argument, …) → the one line of a command that must end with status 2."""

    def command(*arguments):
        try:
            status = main(["mnist", *map(str, arguments)])
        except SystemExit as end:
            status = end.code
        out, error = capfd.readouterr()
        assert (status, out) == (2, ""), error
        assert error.startswith("acoustic-kd mnist: error: ") and "Traceback" not in error
        assert error.endswith("\n") and error.count("\n") == 1
        return error

    return command


@pytest.fixture
def settings(tmp_path) -> Path:
    (tmp_path / "rows.yaml").write_text(ROWS)
    return tmp_path / "rows.yaml"


def test_wrong_arguments_are_refused_in_one_line(refusal, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nofile: there is no such file; the package has settings for" in refusal(
        "--config", "nofile"
    )
    start = ("--config", settings)
    assert "--jobs is -1; it must be 0 (one a core) or more" in refusal(*start, "--jobs", "-1")
    assert "argument --jobs: invalid int value: 'two'" in refusal(*start, "--jobs", "two")
    assert "argument --config: expected one argument" in refusal("--config")
    settings.write_text(ROWS.replace("width: 24", "widht: 24"))
    error = refusal(*start)
    assert f"{settings}: unknown setting 'rows.teacher.widht'; did you mean" in error
    assert list(tmp_path.iterdir()) == [settings]


def test_without_settings_those_of_the_recipe_are_read(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = ("--exp-dir", tmp_path / "exp", "--data-dir")
    assert f"{tmp_path}: train-images-idx3-ubyte.gz is missing" in refusal(*start, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_of_the_results_names_rows_of_ones_own(refusal, settings, monkeypatch):
    def fails(*arguments):
        raise UserError(arguments[-1])

    monkeypatch.setattr(experiment, "run_experiment", fails)
    monkeypatch.chdir(settings.parent)
    assert refusal("--full").endswith(": recipes/mnist.sh --full\n")
    assert refusal("--config", settings).endswith(": recipes/mnist.sh --config rows.yaml\n")


def test_a_damaged_file_of_images_is_named_and_nothing_is_made(refusal, settings, tmp_path):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in MD5:
        (folder / name).write_bytes(gzip.compress(b"junk"))
    start = ("--config", settings, "--exp-dir", tmp_path / "exp", "--data-dir")
    for given in (folder, folder.parent):
        error = refusal(*start, given)
        assert f"{folder / 'train-images-idx3-ubyte.gz'}: md5 is " in error
    assert not (tmp_path / "exp").exists()


def test_a_place_that_cannot_be_written_is_named(refusal, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "read_mnist", lambda data_dir, cache: make_mnist())
    (tmp_path / "exp").write_text("a file where the experiment's folder should go")
    error = refusal("--config", settings, "--exp-dir", tmp_path / "exp")
    assert str(tmp_path / "exp") in error


# --- real digits --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tiny_net_reads_real_digits(shared_data, tmp_path):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    rows = {"hard": Variant(seeds=1, width=30, epochs=1)}
    results = run_experiment(rows, tmp_path / "exp", shared_data, False, 1, COMMAND)
    assert results["comparable"] and results["images"] == {"train": 60_000, "test": 10_000}
    (one,) = results["nets"]
    assert 300 < one["errors"] < 1500
    sizes = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.sum(one["confusion"], axis=1).tolist() == sizes
    assert list(tmp_path.iterdir()) == [tmp_path / "exp"]
