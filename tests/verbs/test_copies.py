"""Copies of train: for all models, and for distilled models and their control alone."""

import json

import numpy as np
import pytest
import torch
from tiny_recipe import TinyRecipe
from variants import TO_FRAMES

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.experiment.training_jobs import read_control_data, read_member_data
from acoustic_kd.experiment.transfer_set import member_shards, transfer_frames
from acoustic_kd.features.copies import original_id
from acoustic_kd.features.frames import read_frames, read_index
from acoustic_kd.settings import load_config
from acoustic_kd.verbs.inspect import inspect

TO_COPIES = [*TO_FRAMES, "copies"]
WARPS = "features.transfer_vtlp_warps=[0.9,1.1]"
MODELS = ("distilled/01", "distilled/control")


@pytest.fixture(scope="module")
def finished(variant):
    return variant("copies")


@pytest.fixture(scope="module")
def heard(finished_recipe, tmp_path_factory):
    """An experiment with copies at two warps and two tempos, which members learn from."""
    copies = ("features.vtlp_warps=[1,0.9]", "features.tempos=[1,1.25]")
    settings = (*finished_recipe.settings, "align.method=flat", "align.iterations=1", *copies)
    recipe = TinyRecipe(tmp_path_factory.mktemp("heard"), settings).run(TO_COPIES)
    return Experiment(load_config(None, list(settings)), recipe.directory, STAGES)


def weights(recipe, model):
    return (recipe.directory / model / "model.safetensors").read_bytes()


def test_they_are_in_copies_and_soft_targets_and_nowhere_else(finished):
    train = read_frames(finished.directory / "frames" / "train")
    copies = read_frames(finished.directory / "copies" / "transfer-train")
    assert sorted(copies.ids) == sorted(
        f"{name}#warp{warp}" for name in train.ids for warp in ("0.9", "1.1")
    )
    labels = {name: train.labels[span].tolist() for name, span in train.spans()}
    for name, span in copies.spans():
        assert copies.labels[span].tolist() == labels[original_id(name)]
    _, found, problems = inspect(finished.directory / "soft_targets", verify=True)
    assert not problems and ("frames", f"{3 * len(train):,}") in found
    names = {path.name for path in (finished.directory / "copies").iterdir()}
    assert names == {"done.json", "started.json", "transfer-train"}


@pytest.mark.parametrize(
    ("more", "warps"),
    [
        (("features.normalise=global", "corpus.untranscribed_share=0.5"), "[1,0.9,1.1]"),
        (("features.normalise=utterance", "features.vtlp_warps=[1,1.2]"), "[1,1.2,0.9,1.1]"),
        (("features.tempos=[1.25,1]",), "[1,0.9,1.1]"),
    ],
    ids=["untranscribed", "beside copies for members", "tempos"],
)
def test_a_copy_is_what_vtlp_makes_of_its_original(finished_recipe, tmp_path, more, warps):
    """Whatever it is normalised by, and beside copies that the members train on."""
    settings = (*finished_recipe.settings, "align.method=flat", "align.iterations=1", *more)
    here = TinyRecipe(tmp_path / "copies", (*settings, WARPS)).run(TO_COPIES)
    trained = here.copy(tmp_path / "trained")
    trained.settings = (*settings, f"features.vtlp_warps={warps}")
    trained.run(TO_COPIES)
    stores = ["train", *(["untranscribed"] if "untranscribed" in str(more) else [])]
    config = load_config(None, [*settings, WARPS])
    counted = transfer_frames(Experiment(config, here.directory, STAGES))
    share = counted["untranscribed"] / counted["frames"]
    originals = (here.directory / "frames" / name for name in stores)
    counts = [len(read_frames(folder)) for folder in originals]
    assert share == pytest.approx(sum(counts[1:]) / sum(counts), abs=1e-3)  # all have copies
    made = sorted(path.name for path in (here.directory / "copies").iterdir() if path.is_dir())
    assert [name for name in made if "transfer" in name] == [f"transfer-{name}" for name in stores]
    for store in stores:
        expected = read_frames(trained.directory / "copies" / store)
        spans = dict(expected.spans())
        if store == "train":
            targets = {name: expected.labels[span] for name, span in spans.items()}
        expected = {name: expected.features[span] for name, span in spans.items()}
        copies = read_frames(here.directory / "copies" / f"transfer-{store}")
        tempos = ("", "tempo1.25") if "tempos" in str(more) else ("",)
        marks = {f"warp{warp}{tempo}" for warp in ("0.9", "1.1") for tempo in tempos}
        assert {name.partition("#")[2] for name in copies.ids} == marks
        for name, span in copies.spans():
            assert torch.equal(copies.features[span], expected[name])
            assert store != "train" or torch.equal(copies.labels[span], targets[name])


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


# --- copies for members -------------------------------------------------------------------------


def test_there_is_a_copy_at_each_warp_and_tempo_and_of_train_alone(heard):
    marks = ("", "#warp0.9", "#warp1tempo1.25", "#warp0.9tempo1.25")
    ids = read_index(member_shards(heard)).ids
    originals = [name for name in ids if "#" not in name]
    assert sorted(ids) == sorted(name + mark for name in originals for mark in marks)
    assert {path.name for path in (heard.directory / "copies").iterdir() if path.is_dir()} == {
        "train"
    }


def test_the_targets_of_a_faster_copy_are_those_of_the_same_moments(heard):
    train = read_frames(member_shards(heard))
    labels = {name: train.labels[span].numpy() for name, span in train.spans()}
    for name, copy in labels.items():
        original = labels[original_id(name)]
        if name.endswith("tempo1.25"):
            assert len(copy) == pytest.approx(len(original) / 1.25, abs=1)
            places = np.round(np.arange(len(copy)) * 1.25).astype(int)
            original = original[np.minimum(places, len(original) - 1)]
        np.testing.assert_array_equal(copy, original)


@pytest.mark.parametrize("read", [read_member_data, read_control_data])
def test_an_epoch_has_one_copy_of_each_utterance_or_the_utterance(heard, read):
    data, dev = read(heard)
    ids = np.array(read_index(member_shards(heard)).ids)
    originals = sorted({original_id(name) for name in ids})
    drawn = [ids[data.copies.draw(1, epoch).is_drawn] for epoch in range(60)]
    assert all(sorted(map(original_id, names)) == originals for names in drawn)
    assert set(np.concatenate(drawn)) == set(ids)
    assert not any("#" in name for name in dev.ids)


def test_members_have_no_copies_of_the_transfer_set(finished):
    config = load_config(None, [*finished.settings, WARPS])
    data, _ = read_member_data(Experiment(config, finished.directory, STAGES))
    assert data.sampler(share=1.0, seed=0) is None  # every epoch has all frames
