"""Folds that members do not learn from, and soft targets of the members that have not learnt."""

import shutil
from collections import Counter

import h5py
import numpy as np
import pytest
import tiny_recipe
import torch
from tiny_recipe import TinyRecipe

from acoustic_kd.corpora.manifest import read_manifest
from acoustic_kd.features import original_id
from acoustic_kd.frames import Frames, read_frames, shard_paths
from acoustic_kd.model import load_model, make_splicer
from acoustic_kd.order import plan_epoch
from acoustic_kd.settings import load_config
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.stages import STAGES
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.held_out import Folds, read_folds
from acoustic_kd.stages.learn import read_member_data
from acoustic_kd.work import read_done

MEMBERS, FOLDS, TEMPERATURE = 3, 2, 2.0
SETTINGS = (
    "corpus.demo_train_voices=4",
    "corpus.demo_train_sentences=6",
    "corpus.untranscribed_share=0.25",
    "features.transfer_warps=[0.9]",
    f"train.members={MEMBERS}",
    "train.bfloat16=false",  # so that predictions are computed again with little rounding
    f"soft_targets.held_out={FOLDS}",
    "soft_targets.encoding=dense",
    "soft_targets.bits=16",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """From audio to soft targets, with copies and with speech without transcripts."""
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    tiny = tiny_recipe.prepare(tmp_path_factory.mktemp("held_out"))
    tiny = TinyRecipe(tiny.directory, (*tiny.settings, *SETTINGS))
    for stage in list(STAGES)[: list(STAGES).index("distill")]:
        assert tiny(stage) == 0
    return tiny


def experiment_of(recipe):
    return Experiment(load_config(None, list(recipe.settings)), recipe.directory, STAGES)


def weights(recipe, model):
    return (recipe.directory / model / "model.safetensors").read_bytes()


def members(recipe):
    return [weights(recipe, f"members/{number:02d}") for number in range(1, MEMBERS + 1)]


def test_each_speaker_is_in_one_fold_and_folds_are_balanced(recipe):
    folds = read_folds(experiment_of(recipe))
    frames = read_frames(recipe.directory / "frames" / "train")
    manifest = read_manifest(recipe.directory / "corpus" / "train.jsonl")
    speakers = {utterance.id: utterance.speaker for utterance in manifest}
    by_fold, by_speaker = Counter(), Counter()
    for name, span in frames.spans():
        by_fold[folds.fold_of(name)] += span.stop - span.start
        by_speaker[speakers[name]] += span.stop - span.start
    assert len({(speakers[name], folds.fold_of(name)) for name in frames.ids}) == 3
    assert set(by_fold) == {0, 1} and set(folds.numbers) == set(frames.ids)
    assert abs(by_fold[0] - by_fold[1]) <= max(by_speaker.values())


def test_an_epoch_has_the_frames_of_the_other_folds(recipe):
    experiment = experiment_of(recipe)
    folds = read_folds(experiment)
    frames = read_frames(recipe.directory / "frames" / "train")
    lengths = {name: span.stop - span.start for name, span in frames.spans()}
    for fold in range(FOLDS):
        data, _ = read_member_data(experiment, folds, fold)
        epoch = plan_epoch(data.sizes, 1, 128, 0, 0, 1, data.copies)
        learnt = sum(n for name, n in lengths.items() if folds.fold_of(name) != fold)
        assert 0 < epoch.frames == learnt < len(frames)


def test_the_fold_that_is_held_out_does_not_shape_a_member(recipe, tmp_path):
    """With noise in the place of the first fold, the members that do not learn from it stay."""
    before, recipe = members(recipe), recipe.copy(tmp_path / "exp")
    folds = read_folds(experiment_of(recipe))
    for path in shard_paths(recipe.directory / "frames" / "train"):
        with h5py.File(path, "a") as file:
            held = [folds.fold_of(name) == 0 for name in file["ids"].asstr()[:]]
            held = np.repeat(held, np.diff(file["offsets"][:]))
            features = file["features"][:]
            features[held] = np.random.default_rng(1).normal(size=(held.sum(), features.shape[1]))
            file["features"][:] = features
    take_away(recipe)
    assert recipe("train") == 0
    after = members(recipe)
    same = [one == other for one, other in zip(before, after, strict=True)]
    assert same == [True, False, True]


def take_away(recipe):
    """The members, so that they are trained again."""
    shutil.rmtree(recipe.directory / "members")


def test_a_killed_run_and_shares_end_with_the_same_bits(recipe, tmp_path):
    before, recipe = members(recipe), recipe.copy(tmp_path / "exp")
    take_away(recipe)
    path = recipe.directory / "members" / "01" / "checkpoint.safetensors"
    assert recipe.killed(path, 2, "train", "--shard", "0/2")
    for share in ("1/2", "0/2"):
        assert recipe("train", "--shard", share) == 0
    assert members(recipe) == before


@pytest.mark.parametrize(
    ("mean", "given"), [("arithmetic", None), ("geometric", None), ("arithmetic", (1.0, 2.0, 4.0))]
)
def test_soft_targets_are_the_mean_over_the_members_that_have_not_learnt(
    recipe, tmp_path, mean, given
):
    """Of train and its copies by fold, of speech without transcripts over all members."""
    if (mean, given) != ("arithmetic", None):
        recipe = recipe.copy(tmp_path / "exp")
        more = [f"soft_targets.mean={mean}", f"soft_targets.weights={list(given or (1, 1, 1))}"]
        assert recipe("soft-targets", *more) == 0
    folds = read_folds(experiment_of(recipe))
    models = [load_model(recipe.directory / "members" / f"{n:02d}")[0] for n in (1, 2, 3)]
    stores = "frames/train", "copies/train", "frames/untranscribed", "copies/untranscribed"
    for store in stores:
        found = read_frames(recipe.directory / store)
        targets = read_soft_targets(recipe.directory / "soft_targets", found, TEMPERATURE)
        logits = [model_logits(model, recipe, found) / TEMPERATURE for model in models]
        for name, span in found.spans():
            fold = None if "untranscribed" in store else folds.numbers[original_id(name)]
            those = {0: (0, 2), 1: (1,), None: (0, 1, 2)}[fold]
            own = torch.tensor([(given or (1.0, 1.0, 1.0))[m] for m in those])
            parts = torch.stack([logits[m][span] for m in those])
            parts = parts.softmax(-1) if mean == "arithmetic" else parts
            expected = (own[:, None, None] * parts).sum(0) / own.sum()
            expected = expected if mean == "arithmetic" else expected.softmax(-1)
            _, probabilities = targets.batch(torch.arange(span.start, span.stop))
            torch.testing.assert_close(probabilities, expected, rtol=1e-3, atol=1e-5)


@torch.inference_mode()
def model_logits(model, recipe, frames: Frames):
    config = load_config(None, list(recipe.settings)).model
    windows = make_splicer(config, frames.features, frames.offsets, False)
    return model(windows(torch.arange(len(frames))))


def test_a_change_makes_members_and_soft_targets_again_and_not_the_control(
    finished_recipe, tmp_path, capfd
):
    recipe = finished_recipe.copy(tmp_path / "exp")
    recorded = read_done(recipe.directory / "members")["settings"]
    assert "soft_targets.held_out" not in recorded
    models = ("members/01", "members/02", "distilled/01", "distilled/control")
    before = [weights(recipe, model) for model in models]
    soft = recipe.directory / "soft_targets"
    stores = [read_done(soft)["digest"]]
    for stage in ("train", "soft-targets", "distill"):
        assert recipe(stage, "soft_targets.held_out=2") == 0
    assert "  control: current\n" in capfd.readouterr().out
    after = [weights(recipe, model) for model in models]
    same = [one == other for one, other in zip(before, after, strict=True)]
    assert same == [False, False, False, True]
    stores.append(read_done(soft)["digest"])
    assert stores[0] != stores[1]


HELD_OUT = "soft_targets.held_out"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([f"{HELD_OUT}=1"], f"'{HELD_OUT}' is 1; it must be 2 or more"),
        ([f"{HELD_OUT}=3"], f"'{HELD_OUT}' is 3; it must be at most train.members (2)"),
        (
            [f"{HELD_OUT}=3", "train.members=3"],
            f"'{HELD_OUT}' is 3; it must be at most the number of speakers in train, 2",
        ),
        (
            [f"{HELD_OUT}=2", "soft_targets.posteriors=[a.ark,b.ark]"],
            f"'{HELD_OUT}' is 2; it must be null where soft_targets.posteriors",
        ),
        (
            [f"{HELD_OUT}=2", "soft_targets.weights=[1,0]"],
            "'soft_targets.weights' is [1.0, 0.0]; it must be above 0 for a member of these: 2;",
        ),
    ],
)
def test_what_cannot_be_held_out(finished_recipe, tmp_path, capfd, settings, message):
    recipe = finished_recipe.copy(tmp_path / "exp")
    before = weights(recipe, "members/01")
    capfd.readouterr()
    assert recipe("train", *settings) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"acoustic-kd train: error: setting {message}")
    assert error.count("\n") == 1
    assert weights(recipe, "members/01") == before
    assert not (recipe.directory / "members" / "03").exists()


def test_weights_of_a_frame_are_zero_for_the_members_that_have_learnt_it():
    folds = Folds(2, {"a": 0, "b": 1})
    names, offsets = ["b#warp0.9", "a", "heard"], np.array([0, 2, 3, 5])
    frames = Frames(torch.zeros(5, 1), None, names, offsets, None)
    equal = folds.weights(frames, None, 3)
    assert equal.tolist() == [[0, 1, 0]] * 2 + [[1, 0, 1]] + [[1, 1, 1]] * 2
    given = folds.weights(frames, (1.0, 2.0, 4.0), 3)
    assert given.tolist() == [[0, 2, 0]] * 2 + [[1, 0, 4]] + [[1, 2, 4]] * 2
