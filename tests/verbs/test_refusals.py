"""What a stage refuses: one line that names the file, setting or stage, and exit status 2."""

import json
import shutil

import pytest
from damage import forget_check_sums
from tiny_recipe import SETTINGS, TinyRecipe

from acoustic_kd.experiment.stages import STAGES

TRAIN_SHARD, SOFT_SHARD = "frames/train/shard-00001.h5", "soft_targets/shard-00001.h5"
WEIGHTS, DESCRIPTION = "members/02/model.safetensors", "members/02/model.json"
INVENTORY, MANIFEST = "senones/inventory.json", "corpus/train.jsonl"
OTHER_SOFT_TARGETS, OTHER_WEIGHT = "soft_targets.kept_classes=7", "distill.hard_weight=0.3"
TWO_PROCESSES = "--num-processes is 2, but 1 processes run"


def nothing(folder):
    """Leave the experiment as it is."""


def cut(name, size):
    def spoil(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return spoil


def lost(name):
    return lambda folder: (folder / name).unlink()


def written(name, text):
    def spoil(folder):
        (folder / "graph" / "done.json").unlink()
        (folder / name).write_text(text)

    return spoil


def newer_senones(folder):
    """As if the stage had been run again with another number of leaves."""
    path = folder / "senones" / "done.json"
    record = json.loads(path.read_text())
    record["settings"]["senones.leaves"], record["digest"] = 121, "another"
    path.write_text(json.dumps(record))
    forget_check_sums(path.parent)


def a_file_in_its_place(folder):
    shutil.rmtree(folder)
    folder.write_text("a file where the experiment's folder should be")


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (nothing, ["corpus", "model.width=big"], "setting 'model.width': expected int, got 'big'"),
        (nothing, ["corpus", "corpus.demo_train_voices=99"], "'corpus.demo_train_voices' is 99; "),
        (nothing, ["corpus", "corpus.name=an5"], "setting 'corpus.name' is an5; it must be demo"),
        (nothing, ["corpus", "align.lexicon=/"], "setting 'align.lexicon' is /: no such file, and"),
        (nothing, ["corpus", "align.lexicon=/nowhere/l.txt"], "is /nowhere/l.txt: no such file"),
        (nothing, ["corpus", "corpus.untranscribed=/nowhere"], "/nowhere: no such folder; "),
        (nothing, ["train", "frames.shard_frames=500"],
         "frames.shard_frames=300, now it is 500; run stage"),
        (nothing, ["decode", "model.width=48"],
         "model.width=32, now it is 48; run stage 6 (train) again"),
        (nothing, ["distill", "soft_targets.temperature=3"],
         "soft_targets.temperature=2.0, now it is 3.0"),
        (newer_senones, ["train", "senones.leaves=121"],
         "'frames' was made from an older 'senones'; run stage 4 (frames) again"),
        (newer_senones, ["report", "senones.leaves=121"], "older 'senones'"),
        (nothing, ["train", "--num-processes=2", "train.epochs=1"], TWO_PROCESSES),
        (nothing, ["soft-targets", "--num-processes=2", OTHER_SOFT_TARGETS], TWO_PROCESSES),
        (nothing, ["distill", "--num-processes=2", OTHER_WEIGHT], TWO_PROCESSES),
        *[(nothing, ["soft-targets", f"--shard={share}"], f"--shard is '{share}'; it must be I/N")
          for share in ("3/3", "a/b", "-1/2", "1", "0/0", "1/2/3", "1.0/2", "")],
    ],
)  # fmt: skip
def test_refused_before_anything_changes(recipe, refusal, spoil, arguments, message):
    spoil(recipe.directory)
    before = recipe.files()
    assert message in refusal(recipe, *arguments)
    assert recipe.files() == before


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (a_file_in_its_place, ["corpus"], "{exp}"),
        (nothing, ["distill", "distill.transfer_set=untranscribed"],
         "setting 'distill.transfer_set' is untranscribed, but corpus 'demo' has no speech"),
        # Refused before anything is trained.
        (nothing, ["corpus", "corpus.seed=2", "distill.transfer_set=untranscribed"],
         "setting 'distill.transfer_set' is untranscribed, but corpus 'demo' has no speech"),
        (nothing, ["senones", "senones.leaves=50"], "senones.leaves is 50, but "),
        *[(cut(TRAIN_SHARD, size), ["train", "train.epochs=1"], "{exp}/" + TRAIN_SHARD + ": not a ")
          for size in (0, 300, -1000)],
        (cut(SOFT_SHARD, 500), ["distill", OTHER_WEIGHT], "{exp}/" + SOFT_SHARD + ": not a reada"),
        (lost(SOFT_SHARD), ["distill", OTHER_WEIGHT], "no soft targets for "),
        *[(spoil(name, *size), arguments, "{exp}/" + name + ": ")
          for name in (WEIGHTS, DESCRIPTION)
          for spoil, size in ((cut, [100]), (lost, []))
          for arguments in (["decode", "decode.beam=7"], ["soft-targets", OTHER_SOFT_TARGETS])],
        (written(INVENTORY, '{"format": "acoustic_kd senones 1"}'), ["graph"],
         "{exp}/" + INVENTORY + ": not a senone inventory"),
        (written(MANIFEST, '{"id": "a"}\n'), ["graph"], "{exp}/" + MANIFEST + ":1: not an utter"),
    ],
)  # fmt: skip
def test_refused_where_its_input_is_read(recipe, refusal, spoil, arguments, message):
    """By the readers themselves, as where no check sums are recorded."""
    forget_check_sums(recipe.directory, "files")
    spoil(recipe.directory)
    assert message.format(exp=recipe.directory) in refusal(recipe, *arguments)


@pytest.mark.parametrize("stage", [name for name, stage in STAGES.items() if stage.inputs])
def test_a_stage_before_its_input_leaves_nothing_behind(tmp_path, refusal, stage):
    recipe = TinyRecipe(tmp_path / "exp", SETTINGS)
    assert "is not done yet; run stage" in refusal(recipe, stage)
    assert not recipe.directory.exists()
