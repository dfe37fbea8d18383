"""`--shard i/n`: the jobs of an array, each with its share of the shards or models."""

import re
import shutil

import pytest
from forked import Program

from acoustic_kd.launch import main as launch
from acoustic_kd.system.files import exclusive_lock, shared_lock
from acoustic_kd.system.steps import read_done


@pytest.fixture
def recipe(finished_recipe, tmp_path):
    """A copy of the finished experiment whose soft targets are gone."""
    recipe = finished_recipe.copy(tmp_path / "exp")
    for path in folder_of(recipe).iterdir():
        path.unlink()
    return recipe


def folder_of(recipe):
    return recipe.directory / "soft_targets"


def shards(recipe):
    return {path.name: path.read_bytes() for path in folder_of(recipe).glob("shard-*")}


def job(recipe, share, *more):
    return recipe("soft-targets", f"--shard={share}", *more)


def test_each_job_makes_its_share_and_a_run_without_one_ends_the_stage(
    recipe, finished_recipe, capfd
):
    whole = shards(finished_recipe)
    count = len(whole) // 2
    for share in (2, 0, 1):
        assert job(recipe, f"{share}/3") == 0
        names = [f"shard-{n:05d}.h5" for n in range(share, count, 3)]
        out = capfd.readouterr().out
        assert out.count("kept classes hold") == len(names) and "done in" in out
        assert all(f"  {name}: " in out and name in shards(recipe) for name in names)
        assert read_done(folder_of(recipe)) is None
        if share != 1:
            there = len(shards(recipe)) // 2
            assert f"{there} of {count} shards are finished; {count - there} are missing" in out
        assert recipe("distill", "distill.hard_weight=0.3") == 2
        assert "'soft-targets' is not done yet" in capfd.readouterr().err
    assert f"{count} of {count} shards are finished; finish with soft-targets, no --shard" in out
    assert shards(recipe) == whole
    assert recipe("soft-targets") == 0
    assert capfd.readouterr().out.count("already written") == count
    assert shards(recipe) == whole
    for stage in ("soft-targets", "distill"):
        assert recipe(stage) == 0
        assert capfd.readouterr().out == "  up to date\n"
    assert job(recipe, "1/3") == 0
    assert capfd.readouterr().out == "  up to date\n"


def test_jobs_run_beside_one_another_and_beside_nothing_else(recipe, capfd, refusal):
    def another():
        return shared_lock(recipe.directory, folder_of(recipe), lambda alone: None)

    assert job(recipe, "0/3") == 0  # which says what is being made
    half_written = folder_of(recipe) / ".shard-00002.h5.17.tmp"
    with another():
        half_written.write_text("ha")
        assert job(recipe, "1/3") == 0 and half_written.exists()
        before = shards(recipe)
        error = refusal(recipe, "soft-targets", "--shard=1/3", "soft_targets.temperature=7")
        assert "other runs work here with other settings" in error
        for stage, more in (("soft-targets", ()), ("train", ("train.epochs=1",))):
            assert "another run works here" in refusal(recipe, stage, *more)
        assert shards(recipe) == before
    with exclusive_lock(recipe.directory):
        assert "another run works here" in refusal(recipe, "soft-targets", "--shard=2/3")
    assert job(recipe, "2/3", "soft_targets.temperature=7") == 0  # alone: it clears the others
    assert not half_written.exists() and 0 < len(shards(recipe)) < len(before)


def test_little_memory_changes_no_byte_and_too_little_is_refused(
    recipe, finished_recipe, capfd, refusal
):
    error = refusal(recipe, "soft-targets", "soft_targets.memory_gb=1e-6")
    assert "setting 'soft_targets.memory_gb' is 1e-06; " in error
    assert not shards(recipe)
    needed = 1.01 * float(re.search(r"raise it to (\S+)", error)[1])
    assert recipe("soft-targets", f"soft_targets.memory_gb={needed}") == 0
    out = capfd.readouterr().out
    assert out.count("one member at a time in memory, for 1 blocks each") == 1
    assert shards(recipe) == shards(finished_recipe)
    assert recipe("distill") == 0  # the setting is not part of what they are


def test_systems_are_decoded_side_by_side(finished_recipe, tmp_path, capfd):
    recipe = finished_recipe.copy(tmp_path / "exp")
    folder = recipe.directory / "decode"
    whole = {path.parent.name: path.read_bytes() for path in folder.glob("*/test.txt")}
    assert len(whole) == 5  # two members, the control, the ensemble, a distilled model
    records = {path.parent.name: path.read_bytes() for path in folder.glob("*/done.json")}
    for name in ("", *whole):
        (folder / name / "done.json").unlink()
    assert recipe("decode", "--shard=4/5") == 0 and read_done(folder) is None
    said = capfd.readouterr().out
    assert "  distilled-01: test frame" in said and "member" not in said and "ensemble" not in said
    assert {path.parent.name for path in folder.glob("*/done.json")} == {"distilled-01"}
    for name in ("member-01", "ensemble"):
        (folder / name / "done.json").write_bytes(records[name])
    assert recipe("decode") == 0
    assert "  distilled-01: up to date" in capfd.readouterr().out and read_done(folder)
    again = {path.parent.name: path.read_bytes() for path in folder.glob("*/test.txt")}
    assert again == whole


@pytest.mark.parametrize("stage", ["train", "distill"])
def test_jobs_share_the_models_out_and_make_the_same_bits(finished_recipe, tmp_path, capfd, stage):
    recipe = finished_recipe.copy(tmp_path / "exp")
    folder = recipe.directory / {"train": "members", "distill": "distilled"}[stage]
    models = {path.name: weights(path) for path in folder.glob("[0-9]*")}
    more = ("distill.models=2",) if stage == "distill" else ()
    shutil.rmtree(folder)
    for share, name in (("1/2", "02"), ("0/2", "01")):
        assert recipe(stage, f"--shard={share}", *more) == 0
        assert weights(folder / name) == models.get(name, weights(folder / name))
        assert read_done(folder) is None
    assert (folder / "02").is_dir()
    capfd.readouterr()
    assert recipe(stage, *more) == 0
    models = 3 if stage == "distill" else 2  # the control among them
    assert capfd.readouterr().out.count(": up to date\n") == models
    assert read_done(folder) is not None


def test_two_jobs_never_train_the_same_model(finished_recipe, tmp_path, refusal):
    recipe = finished_recipe.copy(tmp_path / "exp")
    members = recipe.directory / "members"
    (members / "done.json").unlink()
    (members / "01" / "done.json").unlink()
    with shared_lock(recipe.directory, members, lambda alone: None), exclusive_lock(members / "01"):
        error = refusal(recipe, "train", "--shard=0/2")
    assert f"{members / '01'}: another run works here" in error


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["top-p", "sampled", "dense"])
def test_every_encoding_can_be_distilled_from(recipe, capfd, name):
    settings = ("soft_targets.bits=8", "soft_targets.mean=geometric", "soft_targets.weights=[1,2]")
    more = (*settings, f"soft_targets.encoding={name}", "distill.epochs=1")
    assert recipe("soft-targets", *more) == 0 and recipe("distill", *more) == 0
    assert "distilled 1: epoch 1, loss " in capfd.readouterr().out


@pytest.mark.slow
def test_jobs_and_processes_at_once_give_the_same_bytes(recipe, finished_recipe):
    """Two jobs of an array at the same time, one of them on two processes."""
    _, *arguments = recipe.arguments("soft-targets")
    folder = recipe.directory.parent
    second = ["2", "soft-targets", "--shard=1/2", *arguments]
    jobs = [
        Program(folder / "first", "soft-targets", "--shard=0/2", *arguments),
        Program(folder / "second", second, function=launch),
    ]
    assert [job.end() for job in jobs] == [(0, ""), (0, "")]
    assert shards(recipe) == shards(finished_recipe)
