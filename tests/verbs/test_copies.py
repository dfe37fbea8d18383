"""Copies of train, from which only distilled models and their control learn."""

import json

import pytest
import torch
from tiny_recipe import TinyRecipe

from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.features.fbank import original_id
from acoustic_kd.features.frames import read_frames
from acoustic_kd.verbs.inspect import inspect

WARPS = "features.transfer_vtlp_warps=[0.9,1.1]"
MODELS = ("distilled/01", "distilled/control")


@pytest.fixture(scope="module")
def finished(finished_recipe, tmp_path_factory):
    copy = finished_recipe.copy(tmp_path_factory.mktemp("copies") / "exp")
    recipe = TinyRecipe(copy.directory, (*copy.settings, WARPS))
    for stage in STAGES:
        assert recipe(stage) == 0
    return recipe


def mtimes(recipe, stage):
    files = (recipe.directory / stage).rglob("*.*")
    return sorted((path.name, path.stat().st_mtime_ns) for path in files)


def weights(recipe, model):
    return (recipe.directory / model / "model.safetensors").read_bytes()


def test_they_are_in_copies_and_soft_targets_and_nowhere_else(finished):
    train = read_frames(finished.directory / "frames" / "train")
    copies = read_frames(finished.directory / "copies" / "train")
    assert sorted(copies.ids) == sorted(
        f"{name}#warp{warp}" for name in train.ids for warp in ("0.9", "1.1")
    )
    labels = dict(zip(train.ids, split(train), strict=True))
    for name, own in zip(copies.ids, split(copies), strict=True):
        assert own == labels[original_id(name)]
    _, found, problems = inspect(finished.directory / "soft_targets", verify=True)
    assert not problems and ("frames", f"{3 * len(train):,}") in found
    assert sorted(path.name for path in (finished.directory / "copies").iterdir()) == [
        *("done.json", "started.json", "train")
    ]


def split(frames):
    return [
        frames.labels[first:stop].tolist()
        for first, stop in zip(frames.offsets[:-1], frames.offsets[1:], strict=True)
    ]


@pytest.mark.parametrize(
    "more",
    [
        ("features.normalise=global", "corpus.untranscribed_share=0.5"),
        ("features.normalise=utterance", "features.vtlp_warps=[1,1.2]"),
    ],
    ids=str,
)
def test_a_copy_is_what_train_warps_makes_of_its_original(finished, tmp_path, more):
    own, warps = (
        finished.settings[:-1],
        "[1,1.2,0.9,1.1]" if "train" in str(more) else "[1,0.9,1.1]",
    )
    here = TinyRecipe(tmp_path / "copies", (*own, *more, WARPS))
    other = TinyRecipe(tmp_path / "trained", (*own, *more, f"features.vtlp_warps={warps}"))
    for stage in ("corpus", "features", "align", "senones", "frames"):
        assert here(stage) == other(stage) == 0
    assert here("copies") == 0
    stores = sorted(path.name for path in (here.directory / "copies").iterdir() if path.is_dir())
    assert stores == ["train", *(["untranscribed"] if "untranscribed" in str(more) else [])]
    for store in stores:
        expected = read_frames(other.directory / "frames" / store)
        expected = {name: expected.features[span] for name, span in expected.spans()}
        copies = read_frames(here.directory / "copies" / store)
        assert {name.partition("#")[2] for name in copies.ids} == {"warp0.9", "warp1.1"}
        for name, span in copies.spans():
            assert torch.equal(copies.features[span], expected[name])


def test_copies_that_were_killed_half_way_are_made_anew(finished, tmp_path):
    recipe = finished.copy(tmp_path / "exp")
    shards = sorted((recipe.directory / "copies" / "train").glob("*.h5"))
    before = [shard.read_bytes() for shard in shards]
    (recipe.directory / "copies" / "done.json").unlink()
    shards[-1].unlink()
    assert recipe.killed(shards[-1], 0, "copies")
    assert recipe("copies") == 0
    assert [shard.read_bytes() for shard in shards] == before
    assert not (recipe.directory / "copies" / "unnormalised").exists()


def test_members_stay_and_the_others_learn_from_them(finished, finished_recipe):
    for stage in ("features", "frames", "members"):
        assert mtimes(finished, stage) == mtimes(finished_recipe, stage)
    for model in MODELS:
        assert weights(finished, model) != weights(finished_recipe, model)


@pytest.mark.parametrize("model", MODELS)
def test_an_epoch_has_one_copy_of_each_utterance(finished, model):
    train = read_frames(finished.directory / "frames" / "train")
    description = json.loads((finished.directory / model / "model.json").read_text())
    rows = (finished.directory / model / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 2 and description["chunks"] == 1
    results = json.loads((finished.directory / "results.json").read_text())
    assert results["transfer_set"]["frames"] == 3 * len(train)


def test_running_everything_again_changes_nothing(finished, capfd):
    finished.changes_nothing_again(capfd)


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_run_goes_on_to_the_same_bits(finished, tmp_path, model):
    recipe = finished.copy(tmp_path / "exp")
    folder = recipe.directory / model
    before = weights(recipe, model)
    for path in folder.iterdir():
        path.unlink()
    assert recipe.killed(folder / "checkpoint.safetensors", 3, "distill")
    assert recipe("distill") == 0
    assert weights(recipe, model) == before


def test_a_copy_without_soft_targets_is_named(finished, tmp_path, capfd):
    recipe = finished.copy(tmp_path / "exp")
    for path in (recipe.directory / "soft_targets").glob("shard-copies-train-00000.*"):
        path.unlink()
    capfd.readouterr()
    assert recipe("distill", "distill.hard_weight=0.3") == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert "soft_targets" in error
