"""Copies of train, from which only distilled models and their control learn."""

import json

import pytest
import torch
from tiny_recipe import TinyRecipe
from variants import TO_FRAMES

from acoustic_kd.features.fbank import original_id
from acoustic_kd.features.frames import read_frames
from acoustic_kd.verbs.inspect import inspect

WARPS = "features.transfer_vtlp_warps=[0.9,1.1]"
MODELS = ("distilled/01", "distilled/control")


@pytest.fixture(scope="module")
def finished(variant):
    return variant("copies")


def weights(recipe, model):
    return (recipe.directory / model / "model.safetensors").read_bytes()


def test_they_are_in_copies_and_soft_targets_and_nowhere_else(finished):
    train = read_frames(finished.directory / "frames" / "train")
    copies = read_frames(finished.directory / "copies" / "train")
    assert sorted(copies.ids) == sorted(
        f"{name}#warp{warp}" for name in train.ids for warp in ("0.9", "1.1")
    )
    labels = {name: train.labels[span].tolist() for name, span in train.spans()}
    for name, span in copies.spans():
        assert copies.labels[span].tolist() == labels[original_id(name)]
    _, found, problems = inspect(finished.directory / "soft_targets", verify=True)
    assert not problems and ("frames", f"{3 * len(train):,}") in found
    names = {path.name for path in (finished.directory / "copies").iterdir()}
    assert names == {"done.json", "started.json", "train"}


@pytest.mark.parametrize(
    ("more", "warps"),
    [
        (("features.normalise=global", "corpus.untranscribed_share=0.5"), "[1,0.9,1.1]"),
        (("features.normalise=utterance", "features.vtlp_warps=[1,1.2]"), "[1,1.2,0.9,1.1]"),
    ],
    ids=["untranscribed", "beside copies for members"],
)
def test_a_copy_is_what_vtlp_makes_of_its_original(finished_recipe, tmp_path, more, warps):
    """Whatever it is normalised by, and beside copies that the members train on."""
    settings = (*finished_recipe.settings, "align.method=flat", "align.iterations=1", *more)
    here = TinyRecipe(tmp_path / "copies", (*settings, WARPS)).run([*TO_FRAMES, "copies"])
    trained = here.copy(tmp_path / "trained")
    trained.settings = (*settings, f"features.vtlp_warps={warps}")
    trained.run(TO_FRAMES)
    stores = sorted(path.name for path in (here.directory / "copies").iterdir() if path.is_dir())
    assert stores == ["train", *(["untranscribed"] if "untranscribed" in str(more) else [])]
    for store in stores:
        expected = read_frames(trained.directory / "frames" / store)
        expected = {name: expected.features[span] for name, span in expected.spans()}
        copies = read_frames(here.directory / "copies" / store)
        assert {name.partition("#")[2] for name in copies.ids} == {"warp0.9", "warp1.1"}
        for name, span in copies.spans():
            assert torch.equal(copies.features[span], expected[name])


def test_members_stay_and_the_others_learn_from_them(finished, finished_recipe):
    after = finished.files()
    for name, file in finished_recipe.files().items():
        assert after[name] == file or not name.startswith(("features", "frames", "members")), name
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
