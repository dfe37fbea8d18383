"""Speech without transcripts: from the corpus to the distilled model, alone and beside train."""

import json
from pathlib import Path

import pytest
from tiny_recipe import TinyRecipe, kaldi_data

from acoustic_kd.corpora.load import load
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.experiment.transfer_set import chosen_splits
from acoustic_kd.features.frames import read_frames
from acoustic_kd.settings import load_config
from acoustic_kd.system.steps import RECORDS
from acoustic_kd.verbs.inspect import inspect

TO_DISTILLED = list(STAGES)[: list(STAGES).index("distill") + 1]
SHARE = "corpus.untranscribed_share=0.5"  # one of the two speakers


def take_away(data: Path, ids: set[str]) -> None:
    """Move utterances of train into a folder of their own, with a `text` that nobody could read."""
    folder = data / "untranscribed"
    folder.mkdir()
    for name in ("wav.scp", "utt2spk", "text"):
        lines = (data / "train" / name).read_text().splitlines(keepends=True)
        moved = [line for line in lines if line.split()[0] in ids]
        (data / "train" / name).write_text("".join(line for line in lines if line not in moved))
        (folder / name).write_text("".join(moved))
    (folder / "text").write_bytes(b"\xff\xfe nonsense\n\n")


def moved_by_share(recipe: TinyRecipe) -> set[str]:
    """The utterances that lose their transcripts by SHARE."""
    options = ["corpus.name=kaldi_dir", f"corpus.data_dir={recipe.options[1]}", SHARE]
    corpus = load(load_config(None, options).corpus, Path())
    return {utterance.id for utterance in corpus.splits["untranscribed"]}


@pytest.fixture(scope="module")
def finished(finished_recipe, tmp_path_factory) -> TinyRecipe:
    """The recipe from end to end on data of which a half has no transcripts; work on copies."""
    recipe = kaldi_data(finished_recipe, tmp_path_factory.mktemp("untranscribed"))
    take_away(Path(recipe.options[1]), moved_by_share(recipe))
    for stage in STAGES:
        assert recipe(stage) == 0
    return recipe


@pytest.fixture
def recipe(finished, tmp_path):
    return finished.copy(tmp_path / "exp")


@pytest.fixture
def own(finished_recipe, tmp_path):
    """Data of which everything is transcribed, and nothing is done yet."""
    return kaldi_data(finished_recipe, tmp_path)


@pytest.fixture
def refusal(capfd):
    """refusal(recipe, stage, …) → the one line of a run that must end with status 2."""

    def run(recipe, stage, *more):
        capfd.readouterr()
        assert recipe(stage, *more) == 2
        error = capfd.readouterr().err
        assert error.endswith("\n") and error.count("\n") == 1 and "Traceback" not in error, error
        return error

    return run


def model(recipe, number="01", folder="distilled"):
    return (recipe.directory / folder / number / "model.safetensors").read_bytes()


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- what is made -------------------------------------------------------------------------------


def test_it_is_in_features_frames_and_soft_targets_and_nowhere_else(finished):
    folder = finished.directory
    utterances = rows(folder / "corpus" / "untranscribed.jsonl")
    ids = [utterance["id"] for utterance in utterances]
    assert len(ids) == 10 and {utterance["text"] for utterance in utterances} == {None}
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


def test_the_results_say_how_much_has_no_transcript(finished):
    folder = finished.directory
    results = json.loads((folder / "results.json").read_text())
    total, unknown = (len(read_frames(folder / "frames" / n)) for n in ("train", "untranscribed"))
    assert results["transfer_set"] == {"frames": total + unknown, "untranscribed": unknown}
    assert f"({100 * unknown / (total + unknown):.0f} %) without transcripts" in (
        (folder / "results.md").read_text()
    )


def test_without_any_the_results_say_so(finished_recipe):
    folder = finished_recipe.directory
    results = json.loads((folder / "results.json").read_text())
    total = len(read_frames(folder / "frames" / "train"))
    assert results["transfer_set"] == {"frames": total, "untranscribed": 0}
    assert "without transcripts" not in (folder / "results.md").read_text()
    assert not list(folder.rglob("*untranscribed*"))


def test_running_everything_again_changes_nothing(finished, capfd):
    finished.changes_nothing_again(capfd)


def test_copies_at_other_vocal_tract_lengths_are_made_of_it_too(recipe):
    warps = "features.vtlp_warps=[1,1.1]"
    assert recipe("features", warps) == 0
    ids = read_frames(recipe.directory / "features" / "untranscribed").ids
    assert len(ids) == 20 and sum(name.endswith("#warp1.1") for name in ids) == 10


# --- transcripts --------------------------------------------------------------------------------


def test_transcripts_that_were_taken_away_are_the_same_as_none(finished, own):
    """The other experiment read the true ones, and this one could not have read any."""
    for stage in TO_DISTILLED:
        assert own(stage, SHARE) == 0
    for folder in ("align", "senones", "frames"):
        for path in (finished.directory / folder).rglob("*.*"):
            if path.name not in RECORDS:
                ours = own.directory / path.relative_to(finished.directory)
                assert ours.read_bytes() == path.read_bytes(), path
    assert model(own, folder="members") == model(finished, folder="members")
    assert model(own) == model(finished)


def test_its_transcripts_may_change_or_go_but_its_speech_may_not(recipe, tmp_path, capfd):
    data = Path(recipe.options[1])
    text, scp = data / "untranscribed" / "text", data / "untranscribed" / "wav.scp"
    for change in (lambda: text.write_text("other nonsense\n"), text.unlink):
        change()
        assert recipe("corpus") == 0
        assert capfd.readouterr().out == "  up to date\n"
    lines = scp.read_text()
    scp.write_text("".join(lines.splitlines(keepends=True)[1:]))
    try:
        assert recipe("corpus") == 0
        assert "  untranscribed: 9 utterances, 1 speakers\n" in capfd.readouterr().out
    finally:
        scp.write_text(lines)
        text.write_bytes(b"\xff\xfe nonsense\n\n")


# --- which of it is learnt from -----------------------------------------------------------------


def test_alone_it_is_learnt_without_hard_targets(recipe, capfd):
    mixed = model(recipe)
    alone = "distill.transfer_set=untranscribed"
    for stage in STAGES:  # all but the last ones are current
        assert recipe(stage, alone) == 0
        current = "  up to date" in capfd.readouterr().out
        assert current == (stage not in ("distill", "decode", "report")), stage
    unknown = len(read_frames(recipe.directory / "frames" / "untranscribed"))
    results = json.loads((recipe.directory / "results.json").read_text())
    assert results["transfer_set"] == {"frames": unknown, "untranscribed": unknown}
    assert "(100 %) without transcripts" in (recipe.directory / "results.md").read_text()
    found = model(recipe)
    assert found != mixed
    assert recipe("distill", alone, "distill.hard_weight=3") == 0 and model(recipe) == found


def test_together_the_hard_weight_counts_for_what_is_transcribed(recipe):
    mixed = model(recipe)
    assert recipe("distill", "distill.hard_weight=3") == 0
    assert model(recipe) != mixed


def test_what_is_transcribed_alone_is_learnt_as_if_there_were_nothing_else(recipe):
    """The soft targets of the rest need not even be there."""
    for path in (recipe.directory / "soft_targets").glob("shard-untranscribed-*"):
        path.rename(recipe.directory / path.name)
    assert recipe("distill", "distill.transfer_set=transcribed") == 0
    without = model(recipe)
    for path in recipe.directory.glob("shard-untranscribed-*"):
        path.rename(recipe.directory / "soft_targets" / path.name)
    assert recipe("distill") == 0 and model(recipe) != without
    assert recipe("distill", "distill.transfer_set=transcribed") == 0 and model(recipe) == without


# --- resuming and sharing -----------------------------------------------------------------------


def test_a_lost_shard_is_made_again_and_the_jobs_of_an_array_share_the_work(recipe, capfd):
    folder = recipe.directory / "soft_targets"
    whole = {path.name: path.read_bytes() for path in folder.glob("shard-*")}
    lost = folder / "shard-untranscribed-00001.h5"
    lost.unlink()
    capfd.readouterr()
    assert recipe("soft-targets") == 0
    out = capfd.readouterr().out
    assert out.count("kept classes hold") == 1 and f"  {lost.name}: " in out
    for path in folder.iterdir():
        path.unlink()
    for share in ("1/2", "0/2"):
        shared = (*recipe.options, "--shard", share)
        assert TinyRecipe(recipe.directory, recipe.settings, shared)("soft-targets") == 0
    count = len(whole) // 2
    assert f"{count} of {count} shards are finished; finish with" in capfd.readouterr().out
    assert recipe("soft-targets") == 0
    assert {path.name: path.read_bytes() for path in folder.glob("shard-*")} == whole
    capfd.readouterr()
    assert recipe("distill") == 0
    assert capfd.readouterr().out == "  up to date\n"


# --- a folder beside any corpus -----------------------------------------------------------------


def test_a_folder_beside_the_demo(finished, finished_recipe, tmp_path, capfd):
    recipe = TinyRecipe(tmp_path / "exp", finished_recipe.settings)
    folder = Path(finished.options[1]) / "untranscribed"
    lines = (folder / "wav.scp").read_text().splitlines()
    more = tmp_path / "data" / "more"
    more.mkdir(parents=True)
    (more / "wav.scp").write_text(
        "".join(f"x-{line.replace(' ', f' {folder.parent}/')}\n" for line in lines)
    )
    setting = f"corpus.untranscribed={more}"
    for stage in ("corpus", "features"):
        assert recipe(stage, setting) == 0
    assert "  untranscribed: 10 utterances, 10 speakers\n" in capfd.readouterr().out
    assert recipe("corpus", setting) == 0
    assert capfd.readouterr().out == "  up to date\n"
    assert recipe("corpus") == 0
    assert "untranscribed" not in capfd.readouterr().out
    assert not (recipe.directory / "corpus" / "untranscribed.jsonl").exists()


def test_sound_files_that_cannot_be_used_are_counted(own, refusal):
    take_away(Path(own.options[1]), moved_by_share(own))
    lines = (Path(own.options[1]) / "untranscribed" / "wav.scp").read_text().splitlines()
    for line in lines[:2]:
        (Path(own.options[1]) / line.split()[1]).unlink()
    assert own("corpus") == 0
    error = refusal(own, "features")
    assert "untranscribed: 2 of 10 utterances cannot be used, more than 5%" in error


# --- what is refused ----------------------------------------------------------------------------


def test_a_transfer_set_that_is_not_there(finished_recipe, own, tmp_path, refusal):
    recipe, alone = finished_recipe.copy(tmp_path / "copy"), "distill.transfer_set=untranscribed"
    expected = (
        "error: setting 'distill.transfer_set' is untranscribed, but corpus 'demo' has no speech "
        "without transcripts; give some with corpus.untranscribed=DIR, or take transcripts away "
        "with corpus.untranscribed_share\n"
    )
    before = model(recipe)
    assert refusal(recipe, "distill", alone).endswith(expected)
    assert model(recipe) == before
    # Nor is anything trained for it in vain.
    assert refusal(own, "corpus", alone).endswith(expected.replace("demo", "kaldi_dir"))
    assert not list(own.directory.rglob("*.jsonl"))


def test_speech_that_cannot_be_read_is_named(own, tmp_path, refusal):
    assert "/nowhere: no such folder; corpus.untranscribed must be" in (
        refusal(own, "corpus", "corpus.untranscribed=/nowhere")
    )
    folder = tmp_path / "empty"
    folder.mkdir()
    setting = f"corpus.untranscribed={folder}"
    assert f"{folder}/wav.scp: no such file; speech without" in refusal(own, "corpus", setting)
    (folder / "wav.scp").write_text("")
    assert f"{folder}/wav.scp: lists no speech" in refusal(own, "corpus", setting)
    (folder / "wav.scp").write_text("a sph2pipe a.sph |\n")
    assert "is a command, and commands are not run" in refusal(own, "corpus", setting)
    test = Path(own.options[1]) / "test" / "wav.scp"
    name, path = test.read_text().splitlines()[0].split()
    (folder / "wav.scp").write_text(f"{name} {Path(own.options[1]) / path}\n")
    assert f"utterance id '{name}' is used twice, by " in refusal(own, "corpus", setting)


def test_a_single_speaker_cannot_be_shared(own, refusal):
    take_away(Path(own.options[1]), moved_by_share(own))
    error = refusal(own, "corpus", SHARE)
    assert "at least 2 speakers are needed, or corpus.untranscribed_share=0\n" in error


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "with_any", "without"),
    [
        ("all", ("train", "untranscribed"), ("train",)),
        ("transcribed", ("train",), ("train",)),
        ("untranscribed", ("untranscribed",), None),
    ],
)
def test_the_splits_of_a_transfer_set(setting, with_any, without):
    config = load_config(None, [f"distill.transfer_set={setting}"])
    assert chosen_splits(config, ("train", "dev", "test", "untranscribed")) == with_any
    if without is not None:
        assert chosen_splits(config, ("train", "dev", "test")) == without
