"""Speech without transcripts: from the corpus to the distilled model, alone and beside train."""

import json
import re
from pathlib import Path

import pytest
from tiny_recipe import TinyRecipe, kaldi_data
from variants import SHARE

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.features.frames import read_frames
from acoustic_kd.system.records import RECORDS
from acoustic_kd.verbs.inspect import inspect

TO_DISTILLED = list(STAGES)[: list(STAGES).index("distill") + 1]


@pytest.fixture
def finished(variant):
    return variant("untranscribed")


@pytest.fixture
def recipe(finished, tmp_path):
    return finished.copy(tmp_path / "exp")


def model(recipe, number="01", folder="distilled"):
    return (recipe.directory / folder / number / "model.safetensors").read_bytes()


# --- what is made -------------------------------------------------------------------------------


def test_it_is_in_features_frames_and_soft_targets_and_nowhere_else(finished):
    folder = finished.directory
    utterances = read_manifest(folder / "corpus" / "untranscribed.jsonl")
    ids = [utterance.id for utterance in utterances]
    assert len(ids) == 10 and {utterance.text for utterance in utterances} == {None}
    frames, train = (read_frames(folder / "frames" / name) for name in ("untranscribed", "train"))
    assert frames.ids == ids and frames.targets is None
    assert frames.classes == train.classes and train.transcribed
    assert not set(ids) & set(train.ids)
    for stage in ("align", "senones", "graph", "decode"):
        assert not list((folder / stage).rglob("*untranscribed*"))
    _, found, problems = inspect(folder / "soft_targets", verify=True)
    assert not problems and ("frames", f"{len(train) + len(frames):,}") in found
    frame_shards = list((folder / "frames" / "untranscribed").glob("shard-*.h5"))
    soft_shards = (folder / "soft_targets").glob("shard-untranscribed-*.h5")
    assert len(frame_shards) > 5 and len(list(soft_shards)) == len(frame_shards)


@pytest.mark.parametrize("name", ["untranscribed", "plain"])
def test_the_results_say_how_much_has_no_transcript(variant, name):
    folder = variant(name).directory
    unknown = read_frames(folder / "frames" / name) if name == "untranscribed" else ()
    total = len(read_frames(folder / "frames" / "train")) + len(unknown)
    results = json.loads((folder / "results.json").read_text())
    assert results["transfer_set"] == {"frames": total, "untranscribed": len(unknown)}
    shares = re.findall(r"\((\d+) %\) without transcripts", (folder / "results.md").read_text())
    assert shares == ([f"{100 * len(unknown) / total:.0f}"] if len(unknown) else [])
    assert bool(list(folder.rglob("*untranscribed*"))) == bool(len(unknown))


def test_transcripts_that_were_taken_away_are_the_same_as_none(finished, finished_recipe, tmp_path):
    """The other experiment read the true ones, and this one could not have read any."""
    own = kaldi_data(finished_recipe, tmp_path).run(TO_DISTILLED, SHARE)
    for folder in ("align", "senones", "frames"):
        for path in (finished.directory / folder).rglob("*.*"):
            if path.name not in RECORDS:
                ours = own.directory / path.relative_to(finished.directory)
                assert ours.read_bytes() == path.read_bytes(), path
    assert model(own, folder="members") == model(finished, folder="members")
    assert model(own) == model(finished)


# --- which of it is distilled on ----------------------------------------------------------------


def test_alone_it_is_distilled_on_without_hard_targets(recipe):
    mixed = model(recipe)
    alone = "distill.transfer_set=untranscribed"
    recipe.run(["distill", "decode", "report"], alone)
    unknown = len(read_frames(recipe.directory / "frames" / "untranscribed"))
    results = json.loads((recipe.directory / "results.json").read_text())
    assert results["transfer_set"] == {"frames": unknown, "untranscribed": unknown}
    assert "(100 %) without transcripts" in (recipe.directory / "results.md").read_text()
    first = model(recipe)
    assert first != mixed
    assert recipe("distill", alone, "distill.hard_weight=3") == 0 and model(recipe) == first


def test_the_hard_weight_counts_for_what_is_transcribed(recipe):
    mixed = model(recipe)
    recipe.run(["distill"], "distill.hard_weight=3")
    assert model(recipe) != mixed


def test_transcribed_speech_alone_does_not_need_the_soft_targets_of_the_rest(recipe):
    folder = recipe.directory / "soft_targets"
    mixed, models = model(recipe), []
    for _ in range(2):
        recipe.run(["distill"], "distill.transfer_set=transcribed")
        models.append(model(recipe))
        (recipe.directory / "distilled" / "01" / "model.safetensors").unlink()
        for path in folder.glob("shard-untranscribed-*"):
            path.unlink()
    assert models[0] == models[1] != mixed


def test_a_folder_beside_the_demo(finished, finished_recipe, tmp_path, outcome):
    recipe = TinyRecipe(tmp_path / "exp", finished_recipe.settings)
    folder = Path(finished.options[1]) / "untranscribed"
    lines = (folder / "wav.scp").read_text().splitlines()
    more = tmp_path / "data" / "more"
    more.mkdir(parents=True)
    (more / "wav.scp").write_text(
        "".join(f"x-{line.replace(' ', f' {folder.parent}/')}\n" for line in lines)
    )
    setting = f"corpus.untranscribed={more}"
    assert "  untranscribed: 10 utterances, 10 speakers\n" in outcome(recipe, "corpus", setting)[1]
    recipe.run(["features"], setting)
    assert outcome(recipe, "corpus", setting)[1] == "  up to date\n"
    assert "untranscribed" not in outcome(recipe, "corpus")[1]
    assert not (recipe.directory / "corpus" / "untranscribed.jsonl").exists()
