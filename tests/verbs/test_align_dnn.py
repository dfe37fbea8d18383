"""Aligning an experiment with the models that another one trained."""

import json
import shutil

import numpy as np
import pytest
from damage import forget_check_sums
from tiny_recipe import TinyRecipe
from variants import stored

from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.utterances import SPLITS
from acoustic_kd.experiment.aligning_models import align_sources
from acoustic_kd.settings import AlignConfig, Config, FeatureConfig, TrainConfig


@pytest.fixture
def second(variant, tmp_path):
    """An experiment on the same speech that ends with its features."""
    recipe = variant("realigned")
    folder = tmp_path / "second"
    for stage in ("corpus", "features"):
        shutil.copytree(recipe.directory / stage, folder / stage)
    return TinyRecipe(folder, recipe.settings)


def segmentations(recipe, split):
    return {s.id: s for s in read_segmentations(recipe.directory / "align" / f"{split}.jsonl")}


def test_realigned_boundaries_are_near_and_the_tree_grows_from_them(finished_recipe, variant):
    first, second, distances = finished_recipe, variant("realigned"), []
    for split in SPLITS:
        before, after = segmentations(first, split), segmentations(second, split)
        assert before.keys() <= after.keys()
        for name, old in before.items():
            new = after[name]
            assert len(new) == len(old) and (new.durations > 0).all()
            if new.phones == old.phones:
                ends = [np.cumsum(s.durations.sum(1))[:-1] for s in (old, new)]
                distances += np.abs(ends[0] - ends[1]).tolist()
        frames = [{u.id: u for u in stored(r.directory / "frames" / split)}
                  for r in (first, second)]  # fmt: skip
        assert frames[1].keys() == after.keys()
        for name, utterance in frames[0].items():
            np.testing.assert_array_equal(frames[1][name].features, utterance.features)
    assert len(distances) > 50 and np.mean(distances) < 5


def test_a_single_model_aligns_and_a_changed_one_aligns_again(
    finished_recipe, second, outcome, tmp_path
):
    ensemble = f"with the ensemble of 2 in {finished_recipe.directory}"
    assert ensemble in outcome(second, "align")[1]
    moved = finished_recipe.copy(tmp_path / "moved").directory
    single = moved / "distilled" / "01"
    assert f"with {single}" in outcome(second, "align", f"align.model={single}")[1]
    moved = moved.rename(tmp_path / "elsewhere")
    single = moved / "distilled" / "01"
    setting = f"align.model={single}"
    assert outcome(second, "align", setting)[1] == "  up to date\n"
    weights = (moved / "members/01/model.safetensors").read_bytes()
    (single / "model.safetensors").write_bytes(weights)
    forget_check_sums(moved)
    assert f"with {single}" in outcome(second, "align", setting)[1]


def test_an_utterance_too_short_for_its_transcript_is_left_out_and_counted(second, outcome):
    corpus = second.directory / "corpus"
    rows = [json.loads(line) for line in (corpus / "train.jsonl").read_text().splitlines()]
    rows[0]["text"] = " ".join(20 * [rows[0]["text"]])
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (corpus / "train.jsonl").write_text(text)
    forget_check_sums(second.directory, "files")
    status, output, _ = outcome(second, "align", "align.max_failed=0.1")
    assert status == 0 and "1 utterances left out" in output
    (excluded,) = (second.directory / "align" / "excluded.jsonl").read_text().splitlines()
    assert json.loads(excluded)["reason"].startswith("too short for its transcript: ")
    assert rows[0]["id"] not in segmentations(second, "train")


@pytest.mark.parametrize("method", ["pocketsphinx", "flat", "dnn"])
def test_settings_of_later_stages_that_shape_an_alignment_are_noticed(method):
    """At their defaults nothing is written down, so that older output stays up to date."""
    align = AlignConfig(method=method)
    assert align_sources(Config(align=align)) == {}
    normalised = Config(align=align, features=FeatureConfig(normalise="utterance"))
    assert bool(align_sources(normalised)) == (method != "pocketsphinx")
    low = Config(align=align, train=TrainConfig(bfloat16=True))
    assert bool(align_sources(low)) == (method == "dnn")


# --- refused ------------------------------------------------------------------------------------


def other_senones(first, second):
    path = first / "senones/inventory.json"
    inventory = json.loads(path.read_text())
    inventory["leaves"][:2] = reversed(inventory["leaves"][:2])
    path.write_text(json.dumps(inventory))
    forget_check_sums(first, "files")


def unknown_phone(first, second):
    lexicon = second / "corpus" / "lexicon.txt"
    lexicon.write_text(lexicon.read_text().replace(" AH", " XX"))
    forget_check_sums(second, "files")


def older_record(first, second):
    """As of a version that did not have the setting yet."""
    path = first / "frames/done.json"
    record = json.loads(path.read_text())
    del record["settings"]["features.normalise"]
    path.write_text(json.dumps(record))
    forget_check_sums(first)


def lost(name):
    return lambda first, second: (first / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "setting", "message"),
    [
        (None, "align.model={first}/nowhere",
         "setting 'align.model' is {first}/nowhere, which has no trained models"),
        (None, "align.model={second}/distilled/01", "a part of this experiment; give another"),
        (None, "features.normalise=utterance",
         "setting 'features.normalise' is utterance, but speaker in {first}"),
        (older_record, "features.normalise=utterance",
         "setting 'features.normalise' is utterance, but speaker in {first}"),
        (lost("members/02/model.safetensors"), "", "02/model.safetensors: cannot be read (No such"),
        (lost("frames/statistics.json"), "", "frames/statistics.json: cannot be read (No such"),
        (lost("frames/done.json"), "", "frames/done.json: no record of how it was made"),
        (other_senones, "", "members/01: was trained on other senones than "),
        (unknown_phone, "", "phone 'XX' is not among the "),
    ],
)  # fmt: skip
def test_models_that_cannot_align(recipe, second, refusal, spoil, setting, message):
    places = {"first": recipe.directory, "second": second.directory}
    if spoil:
        spoil(*places.values())
    given = [f"align.model={recipe.directory}", *([setting.format(**places)] if setting else [])]
    assert message.format(**places) in refusal(second, "align", *given)
    assert not list((second.directory / "align").glob("*.jsonl"))
