"""The recipe from audio to the table: what it makes, what it redoes, and how it refuses."""

import json
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from tiny_recipe import SETTINGS, TinyRecipe, kaldi_data

from acoustic_kd.experiment.stages import STAGES


@pytest.fixture
def recipe(finished_recipe, tmp_path):
    """A copy of the finished experiment that may be spoilt."""
    return finished_recipe.copy(tmp_path / "exp")


@pytest.fixture
def outcome(capfd):
    """outcome(recipe, stage, …) → exit status, standard output, standard error."""

    def run(recipe, stage, *more):
        capfd.readouterr()
        status = recipe(stage, *more)
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def refusal(outcome):
    """refusal(recipe, stage, …) → the one line of a run that must end with status 2."""

    def run(recipe, stage, *more):
        status, _, error = outcome(recipe, stage, *more)
        assert status == 2, error
        assert error.endswith("\n") and error.count("\n") == 1 and "Traceback" not in error, error
        assert error.startswith(f"acoustic-kd {stage}: error: ")
        return error

    return run


# --- what is made -------------------------------------------------------------------------------


def test_results_hold_what_others_rely_on(finished_recipe):
    results = json.loads((finished_recipe.directory / "results.json").read_text())
    assert results["corpus"] == "demo" and len(results["config_digest"]) == 64
    names = ["baseline", "control", "ensemble", "distilled"]
    assert [s["name"] for s in results["systems"]] == names
    baseline, control, ensemble, distilled = results["systems"]
    assert [s["members"] for s in results["systems"]] == [1, 1, 2, 1]
    assert ensemble["parameters"] == 2 * baseline["parameters"] == 2 * distilled["parameters"]
    assert control["parameters"] == distilled["parameters"]
    words = sum(
        len(json.loads(line)["text"].split())
        for line in (finished_recipe.directory / "corpus" / "test.jsonl").read_text().splitlines()
    )
    for system, models in zip(results["systems"], (2, 1, 1, 1), strict=True):
        accuracy, wer = system["frame_accuracy"], system["wer"]
        assert 5 < accuracy["dev"] < 100 and 5 < accuracy["test"] < 100
        assert (accuracy["sd"] is None) == (models == 1)
        assert wer["dev"]["percent"] >= 0
        low, high = wer["test"]["ci95"]
        assert low <= wer["test"]["percent"] <= high
        assert wer["test"]["words"] == models * words
        assert wer["test"]["percent"] == pytest.approx(
            100 * wer["test"]["errors"] / wer["test"]["words"]
        )
    assert ensemble["frame_accuracy"]["test"] > baseline["frame_accuracy"]["test"]
    for key in ("gain_kept", "gain_kept_over_control"):
        assert set(results[key]) == {"frame_accuracy", "wer"}
    names = [m["name"] for m in results["each_model"]]
    assert names == ["member-01", "member-02", "control", "ensemble", "distilled-01"]
    assert set(results["last_epoch_gains"]) == set(names) - {"ensemble"}
    assert (finished_recipe.directory / "results.md").read_text().count("distilled") >= 2


def test_no_temporary_file_and_no_checkpoint_is_left(finished_recipe):
    names = [path.name for path in finished_recipe.directory.rglob("*")]
    assert not [n for n in names if n.startswith(".") or n.startswith("checkpoint")]


# --- what is redone -----------------------------------------------------------------------------


def test_running_everything_again_changes_nothing(finished_recipe, outcome):
    before = finished_recipe.files()
    for stage in STAGES:
        assert outcome(finished_recipe, stage) == (0, "  up to date\n", "")
    assert finished_recipe.files() == before


@pytest.mark.parametrize(
    ("setting", "first"),
    [("decode.lm_weights=[6]", "decode"), ("distill.hard_weight=0.1", "distill")],
)
def test_a_later_setting_redoes_its_stage_and_those_after_it(recipe, outcome, setting, first):
    after = list(STAGES).index(first)
    before = recipe.files()
    for number, stage in enumerate(STAGES):
        status, out, _ = outcome(recipe, stage, setting)
        independent = first == "distill" and stage == "graph"
        assert status == 0
        assert ("  up to date" in out) == (number < after or independent), stage
        if (first, stage) == ("distill", "decode"):  # only what has changed is measured anew
            assert [name for name in ("member-01", "ensemble") if f"{name}: up to date" in out]
            assert "distilled-01: test frame accuracy" in out
    kept = {STAGES[s].folder for s in list(STAGES)[:after]}
    now = recipe.files()
    for name, content in before.items():
        if name.split("/")[0] in kept:
            assert now[name] == content, name
    assert now["results.json"] != before["results.json"]


def test_a_dry_run_says_what_would_run_and_why(recipe, capfd):
    before = {path: path.stat().st_mtime_ns for path in recipe.directory.rglob("*")}
    dry = TinyRecipe(recipe.directory, recipe.settings, ("--dry-run",))
    said = {}
    for stage in STAGES:
        assert dry(stage) == 0 and capfd.readouterr().out == "  up to date\n"
        assert dry(stage, "senones.leaves=110") == 0
        said[stage] = capfd.readouterr().out
    assert said["align"] == "  up to date\n"
    assert said["senones"] == "  would run: senones.leaves was 120, now it is 110\n"
    assert said["frames"] == "  would run: its input 'senones' is out of date\n"
    assert said["report"] == "  would run: its input 'decode' is out of date\n"
    assert {path: path.stat().st_mtime_ns for path in recipe.directory.rglob("*")} == before


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("train", "members/02/model.safetensors"),
        ("soft-targets", "soft_targets/shard-00002.h5"),
        ("decode", "decode/ensemble/test.txt"),
        ("report", "results.json"),
    ],
)
def test_what_was_lost_is_made_again_and_nothing_else(recipe, outcome, stage, name):
    before = recipe.files()
    (recipe.directory / name).unlink()
    status, out, _ = outcome(recipe, stage)
    assert status == 0 and "  up to date" not in out
    now = recipe.files()
    if stage not in ("decode", "report"):  # which hold times
        assert now[name][1] == before[name][1]
    others = {
        "train": "members/01/model.safetensors",
        "soft-targets": "soft_targets/shard-00001.h5",
        "decode": "decode/distilled-01/test.txt",
        "report": "decode/ensemble/measurement.json",
    }
    assert now[others[stage]] == before[others[stage]]
    for later in STAGES:
        assert outcome(recipe, later)[1] == "  up to date\n"


def test_fewer_members_are_those_that_are_there(recipe, outcome):
    before = recipe.files()
    status, out, _ = outcome(recipe, "train", "train.members=1")
    assert status == 0 and "member 1: up to date" in out and "epoch" not in out
    for number in ("01", "02"):
        name = f"members/{number}/model.safetensors"
        assert recipe.files()[name] == before[name]


def test_soft_targets_of_another_temperature_replace_the_old_ones(recipe, outcome, refusal):
    assert "soft_targets.temperature=2.0, now it is 3.0" in refusal(
        recipe, "distill", "soft_targets.temperature=3"
    )
    shard = "soft_targets/shard-00003.h5"
    before = recipe.files()[shard]
    status, out, _ = outcome(recipe, "soft-targets", "soft_targets.temperature=3")
    assert status == 0 and "already written" not in out
    assert recipe.files()[shard][1] != before[1]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [name for name, stage in STAGES.items() if stage.inputs])
def test_a_stage_before_its_input_leaves_nothing_behind(tmp_path, refusal, stage):
    recipe = TinyRecipe(tmp_path / "exp", SETTINGS)
    error = refusal(recipe, stage)
    assert "is not done yet; run stage" in error
    assert not recipe.directory.exists()


def test_a_stage_whose_input_was_made_with_other_settings(recipe, refusal):
    before = recipe.files()
    error = refusal(recipe, "train", "frames.shard_frames=500")
    assert "frames.shard_frames=300, now it is 500; run stage" in error
    error = refusal(recipe, "decode", "model.width=48")
    assert "model.width=32, now it is 48; run stage 5 (train) again" in error
    assert recipe.files() == before


def test_a_stage_whose_input_is_older_than_its_own(recipe, refusal):
    changed = "senones.leaves=121"
    assert recipe("senones", changed) == 0
    error = refusal(recipe, "train", changed)
    assert "'frames' was made from an older 'senones'; run stage 4 (frames) again" in error
    error = refusal(recipe, "report", changed)
    assert "older 'senones'" in error


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.widht=3", "unknown setting 'model.widht'; did you mean 'model.width'?"),
        ("model.width=big", "setting 'model.width': expected int, got 'big'"),
        ("train.members=0", "setting 'train.members' is 0; it must be 1 to 1000"),
        ("features.normalise=speakers", "is speakers; it must be speaker, utterance or global"),
        ("corpus.demo_train_voices=99", "'corpus.demo_train_voices' is 99; it must be 1 to "),
        ("corpus.name=an5", "unknown corpus 'an5'; known: an4, demo, kaldi_dir"),
        ("align.lexicon=/nowhere/lexicon.txt", "/nowhere/lexicon.txt: cannot be read"),
    ],
)
def test_a_wrong_setting(recipe, refusal, setting, expected):
    before = recipe.files()
    assert expected in refusal(recipe, "corpus", setting)
    assert recipe.files() == before


def test_fewer_senones_than_phone_states(recipe, refusal):
    assert "senones.leaves is 50, but " in refusal(recipe, "senones", "senones.leaves=50")


def test_a_place_that_cannot_be_written(tmp_path, refusal):
    recipe = TinyRecipe(tmp_path / "exp", SETTINGS)
    recipe.directory.write_text("a file where the experiment's folder should go")
    assert str(recipe.directory) in refusal(recipe, "corpus")


def test_more_processes_asked_for_than_run(recipe, refusal):
    before = recipe.files()
    recipe.options = ("--num-processes", "2")
    for stage in ("train", "soft-targets", "distill"):
        more = ["train.epochs=1"] if stage == "train" else ["soft_targets.kept_classes=7"]
        if stage == "distill":
            more = ["distill.hard_weight=0.3"]
        assert "--num-processes is 2, but 1 processes run" in refusal(recipe, stage, *more)
    assert recipe.files() == before


@pytest.mark.parametrize("size", [0, 300, -1000])
def test_a_damaged_shard_of_frames(recipe, refusal, size):
    path = recipe.directory / "frames" / "train" / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:size])
    error = refusal(recipe, "train", "train.epochs=1")
    assert f"{path}: not a readable HDF5 file" in error


def test_a_shard_without_its_parts(recipe, refusal):
    path = recipe.directory / "frames" / "train" / "shard-00001.h5"
    with h5py.File(path, "a") as file:
        del file["offsets"]
    assert f"{path}: not a readable HDF5 file" in refusal(recipe, "train", "train.epochs=1")


def test_a_damaged_shard_of_soft_targets(recipe, refusal):
    path = recipe.directory / "soft_targets" / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:500])
    error = refusal(recipe, "distill", "distill.hard_weight=0.3")
    assert f"{path}: not a readable HDF5 file" in error


def test_lost_shards_of_soft_targets(recipe, refusal):
    path = recipe.directory / "soft_targets" / "shard-00001.h5"
    path.unlink()
    error = refusal(recipe, "distill", "distill.hard_weight=0.3")
    assert "no soft targets for " in error and "run soft-targets" in error


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_lost_or_damaged_model(recipe, refusal, name):
    path = recipe.directory / "members" / "02" / name
    path.write_bytes(path.read_bytes()[:100])
    for stage, setting in (
        ("decode", "decode.beam=7"),
        ("soft-targets", "soft_targets.kept_classes=7"),
    ):
        assert f"{path}: " in refusal(recipe, stage, setting)
    path.unlink()
    assert f"{path}: " in refusal(recipe, "soft-targets", "soft_targets.kept_classes=7")


def test_a_damaged_inventory_and_manifest(recipe, refusal):
    (recipe.directory / "graph" / "done.json").unlink()
    inventory = recipe.directory / "senones" / "inventory.json"
    inventory.write_text('{"format": "acoustic_kd senones 1"}')
    assert f"{inventory}: malformed" in refusal(recipe, "graph")
    manifest = recipe.directory / "corpus" / "train.jsonl"
    manifest.write_text('{"id": "a"}\n')
    assert f"{manifest}:1: not an utterance" in refusal(recipe, "graph")


# --- the user's own data ------------------------------------------------------------------------


@pytest.fixture
def own(finished_recipe, tmp_path):
    return kaldi_data(finished_recipe, tmp_path)


def path_of(own: TinyRecipe, name: str, split: str = "train") -> Path:
    return Path(own.options[1]) / split / name


def first_utterance(own):
    return path_of(own, "wav.scp").read_text().split()[0]


def excluded(own, stage):
    lines = (own.directory / stage / "excluded.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


SPOILERS = {
    "no such sound file": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "damaged or not a sound file": lambda path: path.write_bytes(b""),
    "has no samples": lambda path: soundfile.write(path, np.zeros(0), 16000),
    "shorter than one window": lambda path: soundfile.write(path, np.zeros(399), 16000),
}


@pytest.mark.parametrize("reason", SPOILERS)
def test_a_sound_file_that_cannot_be_used_is_left_out_and_named(own, outcome, reason):
    name = first_utterance(own)
    path = path_of(own, f"{name}.wav")
    SPOILERS[reason](path)
    assert outcome(own, "corpus")[0] == 0
    status, out, error = outcome(own, "features")
    assert (status, error) == (0, "")
    assert "1 utterances left out, listed in" in out and "excluded.jsonl" in out
    (row,) = excluded(own, "features")
    assert (row["id"], row["split"]) == (name, "train")
    assert reason in row["reason"] and str(path) in row["reason"]


def test_too_many_unusable_sound_files_end_the_run(own, refusal):
    names = [line.split()[0] for line in path_of(own, "wav.scp").read_text().splitlines()]
    for name in names[:2]:
        path_of(own, f"{name}.wav").unlink()
    assert own("corpus") == 0
    error = refusal(own, "features")
    assert f"train: 2 of {len(names)} utterances cannot be used, more than 5%" in error
    assert names[0] in error
    assert not (own.directory / "features" / "done.json").exists()


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2)])
def test_a_sound_file_of_the_wrong_kind_ends_the_run(own, refusal, rate, channels):
    path = path_of(own, f"{first_utterance(own)}.wav")
    soundfile.write(path, np.zeros((rate, channels)), rate)
    assert own("corpus") == 0
    error = refusal(own, "features")
    assert f"{path}: " in error
    assert ("8000 Hz, but 16000 Hz is needed" if rate == 8000 else "2 channels") in error


def test_a_word_without_pronunciation_costs_its_utterance_alone(own, outcome):
    name = first_utterance(own)
    text = path_of(own, "text")
    text.write_text(text.read_text().replace(f"{name} ", f"{name} XYZZY ", 1))
    status, out, _ = outcome(own, "corpus")
    assert status == 0 and "1 words are not in the lexicon: XYZZY" in out
    for stage in ("features", "align"):
        assert outcome(own, stage)[0] == 0
    (row,) = excluded(own, "align")
    assert (row["id"], row["split"]) == (name, "train")
    assert row["reason"] == "word 'XYZZY' is not in the lexicon"
    for stage in ("senones", "frames"):
        assert outcome(own, stage)[0] == 0


def test_an_utterance_id_that_is_used_twice(own, refusal):
    scp = path_of(own, "wav.scp")
    lines = scp.read_text()
    scp.write_text(lines + lines.splitlines()[0] + "\n")
    assert f"{scp}:{lines.count(chr(10)) + 1}: duplicate id '{first_utterance(own)}'" in (
        refusal(own, "corpus")
    )
    scp.write_text(lines)
    test_scp, text = path_of(own, "wav.scp", "test"), path_of(own, "text", "test")
    test_scp.write_text(test_scp.read_text() + lines.splitlines()[0] + "\n")
    text.write_text(text.read_text() + f"{first_utterance(own)} YES\n")
    speakers = path_of(own, "utt2spk", "test")
    speakers.write_text(speakers.read_text() + f"{first_utterance(own)} anna\n")
    assert f"utterance id '{first_utterance(own)}' is used twice" in refusal(own, "corpus")


def test_data_that_changed_is_read_again(own, outcome, refusal):
    for stage in ("corpus", "features"):
        assert outcome(own, stage)[0] == 0
    scp = path_of(own, "wav.scp")
    scp.write_text("".join(scp.read_text().splitlines(keepends=True)[1:]))
    status, out, _ = outcome(own, "corpus")
    assert status == 0 and "current" not in out
    assert "'features' was made from an older 'corpus'" in refusal(own, "align")
    assert outcome(own, "features")[0] == 0
    assert len(excluded(own, "features")) == 0


def test_no_data_folder(own, refusal):
    own.options = ("--data-dir", "/nowhere")
    assert "/nowhere: no such folder" in refusal(own, "corpus")
    own.options = ()
    assert "give --data-dir DIR" in refusal(own, "corpus")


# --- killed at any moment -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(recipe, outcome):
    more = ("train.checkpoint_steps=3", "train.seed=5")
    killed = recipe.copy(recipe.directory.with_name("killed"))
    assert outcome(recipe, "train", *more)[0] == 0
    models = [f"members/{n}/model.safetensors" for n in ("01", "02")]
    whole = {name: recipe.files()[name][1] for name in models}
    folder = killed.directory / "members"
    # First within the first member's training, then within the second's.
    for number in ("01", "02"):
        checkpoint = folder / number / "checkpoint.safetensors"
        old = (folder / number / "started.json").read_bytes()
        assert killed.killed(checkpoint, 1, "train", *more)
        assert (folder / number / "started.json").read_bytes() != old
        assert checkpoint.exists() and not (folder / number / "done.json").exists()
        assert not (folder / "done.json").exists()
    status, out, error = outcome(killed, "train", *more)
    assert (status, error) == (0, "") and "member 1: up to date" in out
    assert {name: killed.files()[name][1] for name in models} == whole
    assert not [name for name in killed.files() if ".tmp" in name or "checkpoint" in name]


@pytest.mark.slow
def test_killed_soft_targets_go_on_to_the_same_bytes(recipe, outcome):
    folder = recipe.directory / "soft_targets"
    whole = {path.name: path.read_bytes() for path in folder.glob("shard-*")}
    assert len(whole) > 2 * 5
    for path in folder.iterdir():
        path.unlink()
    assert recipe.killed(folder / "shard-00002.json", 0, "soft-targets")
    finished = [path.with_suffix(".h5") for path in folder.glob("shard-*.json")]
    early = {path.name: path.stat().st_mtime_ns for path in finished}
    assert 2 <= len(early) < len(whole) / 2 and not (folder / "done.json").exists()
    status, out, _ = outcome(recipe, "soft-targets")
    assert status == 0 and out.count("already written") == len(early)
    assert {path.name: path.read_bytes() for path in folder.glob("shard-*")} == whole
    assert {name: (folder / name).stat().st_mtime_ns for name in early} == early
    assert not list(folder.glob(".*"))
    assert outcome(recipe, "distill")[1] == "  up to date\n"


def test_stages_come_in_an_order_that_works():
    names = list(STAGES)
    for stage in STAGES.values():
        assert all(names.index(other) < names.index(stage.name) for other in stage.inputs)
    assert all(a != b for a, b in pairwise(names))
