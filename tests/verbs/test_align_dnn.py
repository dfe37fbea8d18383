"""Aligning an experiment with the models that another one trained."""

import json
import shutil

import numpy as np
import pytest
from tiny_recipe import TinyRecipe

from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.utterances import SPLITS
from acoustic_kd.experiment.aligning_models import align_sources
from acoustic_kd.features.frames import read_utterances, shard_paths
from acoustic_kd.settings import AlignConfig, Config, FeatureConfig, TrainConfig


@pytest.fixture
def first(finished_recipe):
    return finished_recipe


@pytest.fixture
def second(first, tmp_path):
    """An experiment on the same speech, whose features are made."""
    folder = tmp_path / "second"
    for stage in ("corpus", "features"):
        shutil.copytree(first.directory / stage, folder / stage)
    return TinyRecipe(folder, (*first.settings, "align.method=dnn"))


def model(folder):
    return f"align.model={folder}"


def segmentations(recipe, split):
    return {s.id: s for s in read_segmentations(recipe.directory / "align" / f"{split}.jsonl")}


def refused(capfd, recipe, *settings):
    capfd.readouterr()
    assert recipe("align", *settings) == 2
    error = capfd.readouterr().err
    assert error.startswith("acoustic-kd align: error: ") and error.count("\n") == 1, error
    assert not list((recipe.directory / "align").glob("*.jsonl"))
    return error


def test_aligned_again_boundaries_are_near_and_the_tree_grows_from_them(first, second, capfd):
    given = model(first.directory)
    assert second("align", given) == 0
    assert f"with the ensemble of 2 in {first.directory}" in capfd.readouterr().out
    distances = []
    for split in SPLITS:
        before, after = segmentations(first, split), segmentations(second, split)
        assert before.keys() <= after.keys()
        for name, old in before.items():
            new = after[name]
            assert len(new) == len(old) and (new.durations > 0).all()
            if new.phones == old.phones:
                ends = [np.cumsum(s.durations.sum(1))[:-1] for s in (old, new)]
                distances += np.abs(ends[0] - ends[1]).tolist()
    assert len(distances) > 50 and np.mean(distances) < 5
    for stage in ("senones", "frames"):
        assert second(stage, given) == 0
    for split in SPLITS:
        frames = [
            {u.id: u for path in shard_paths(r.directory / "frames" / split) for u in
             read_utterances(path)}
            for r in (first, second)
        ]  # fmt: skip
        assert frames[1].keys() == segmentations(second, split).keys()
        for name, utterance in frames[0].items():
            np.testing.assert_array_equal(frames[1][name].features, utterance.features)


def test_a_single_model_aligns_and_a_changed_one_aligns_again(first, second, tmp_path, capfd):
    moved = first.copy(tmp_path / "moved")
    single = moved.directory / "distilled" / "01"
    assert second("align", model(single)) == 0
    assert f"with {single}" in capfd.readouterr().out
    elsewhere = moved.copy(tmp_path / "elsewhere").directory
    assert second("align", model(elsewhere / "distilled/01")) == 0
    assert "  up to date" in capfd.readouterr().out
    weights = (elsewhere / "members/01/model.safetensors").read_bytes()
    (elsewhere / "distilled/01/model.safetensors").write_bytes(weights)
    assert second("align", model(elsewhere / "distilled/01")) == 0
    assert "  up to date" not in capfd.readouterr().out


def test_copies_at_other_vocal_tract_lengths_follow_their_original(first, second):
    warped = ("features.vtlp_warps=[0.9,1.0]", model(first.directory))
    for stage in ("features", "align", "senones", "frames"):
        assert second(stage, *warped) == 0
    aligned = segmentations(second, "train")
    assert not [name for name in aligned if "#" in name]
    paths = shard_paths(second.directory / "frames" / "train")
    found = {u.id: u.targets for path in paths for u in read_utterances(path)}
    assert found.keys() == aligned.keys() | {f"{name}#warp0.9" for name in aligned}
    for name in aligned:
        np.testing.assert_array_equal(found[name], found[f"{name}#warp0.9"])


def test_an_utterance_too_short_for_its_transcript_is_left_out_and_counted(first, second, capfd):
    corpus = second.directory / "corpus"
    rows = [json.loads(line) for line in (corpus / "train.jsonl").read_text().splitlines()]
    rows[0]["text"] = " ".join(20 * [rows[0]["text"]])
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (corpus / "train.jsonl").write_text(text)
    capfd.readouterr()
    assert second("align", model(first.directory), "align.max_failed=0.1") == 0
    assert "1 utterances left out" in capfd.readouterr().out
    (excluded,) = (second.directory / "align" / "excluded.jsonl").read_text().splitlines()
    assert json.loads(excluded)["reason"].startswith("too short for its transcript: ")
    assert rows[0]["id"] not in segmentations(second, "train")


# --- refused ------------------------------------------------------------------------------------


def test_no_trained_models(second, tmp_path, capfd):
    error = refused(capfd, second, model(tmp_path / "nowhere"))
    assert f"setting 'align.model' is {tmp_path / 'nowhere'}, which has no trained models" in error


def test_models_of_this_very_experiment(first, capfd, tmp_path):
    recipe = first.copy(tmp_path / "exp")
    before = recipe.files()
    capfd.readouterr()
    assert recipe("align", "align.method=dnn", model(recipe.directory / "distilled/01")) == 2
    assert "a part of this experiment; give another --exp-dir" in capfd.readouterr().err
    assert recipe.files() == before


def test_features_of_another_kind(first, second, capfd):
    error = refused(capfd, second, model(first.directory), "features.normalise=utterance")
    expected = f"setting 'features.normalise' is utterance, but speaker in {first.directory}, whose"
    assert expected in error


@pytest.mark.parametrize("method", ["pocketsphinx", "flat", "dnn"])
def test_settings_of_later_stages_that_shape_an_alignment_are_noticed(method):
    """At their defaults nothing is written down, so that what was made then stays current."""
    align = AlignConfig(method=method)
    assert align_sources(Config(align=align)) == {}
    normalised = Config(align=align, features=FeatureConfig(normalise="utterance"))
    assert bool(align_sources(normalised)) == (method != "pocketsphinx")
    low = Config(align=align, train=TrainConfig(bfloat16=True))
    assert bool(align_sources(low)) == (method == "dnn")


def _lost(name):
    return lambda folder: (folder / name).unlink()


def _other_senones(folder):
    path = folder / "senones/inventory.json"
    inventory = json.loads(path.read_text())
    first, second = inventory["leaves"][:2]
    inventory["leaves"][:2] = [second, first]
    path.write_text(json.dumps(inventory))


def _no_record(folder):
    (folder / "frames/done.json").unlink()


def _damaged(folder):
    (folder / "members/02/model.safetensors").write_bytes(b"nonsense")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_lost("members/02/model.safetensors"), "02/model.safetensors: cannot be read (No such"),
        (_lost("frames/statistics.json"), "frames/statistics.json: cannot be read (No such"),
        (_damaged, "members/02/model.safetensors: damaged ("),
        (_other_senones, "members/01: was trained on other senones than "),
        (_no_record, "frames/done.json: no record of how it was made"),
    ],
    ids=["weights", "statistics", "damaged", "senones", "record"],
)
def test_an_experiment_that_is_not_whole(first, second, tmp_path, capfd, spoil, expected):
    spoilt = first.copy(tmp_path / "spoilt").directory
    spoil(spoilt)
    assert expected in refused(capfd, second, model(spoilt))


def test_a_phone_that_the_models_do_not_know(first, second, tmp_path, capfd):
    lexicon = second.directory / "corpus" / "lexicon.txt"
    lexicon.write_text(lexicon.read_text().replace(" AH", " XX"))
    assert "phone 'XX' is not among the " in refused(capfd, second, model(first.directory))
