"""Damaged files of an experiment: whoever reads one refuses, and says which one it is."""

import json
import random

import pytest
from damage import KINDS, cut, flip, forget_check_sums, one_of_each_kind

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.stages import STAGES

# Stage whose files are damaged → a stage that reads them.
READERS = {
    "corpus": "features", "features": "align", "align": "senones", "senones": "frames",
    "frames": "train", "train": "soft-targets", "distill": "decode", "graph": "decode",
    "decode": "report",
}  # fmt: skip


def without(recipe, *stages):
    """An experiment whose stages are out of date."""
    for stage in stages:
        (recipe.directory / STAGES[stage].folder / "done.json").unlink()
    return recipe


@pytest.mark.parametrize("damaged", READERS)
def test_every_damaged_file_is_named_and_nothing_changes(recipe, refusal, damaged):
    reader, rng = READERS[damaged], random.Random(damaged)
    without(recipe, reader)
    before = recipe.files()
    for path in one_of_each_kind(recipe.directory / STAGES[damaged].folder):
        if path.name in ("started.json", "done.json"):
            continue
        whole = path.read_bytes()
        path.write_bytes(rng.choice((flip, cut))(whole, rng))
        assert f"{path}: damaged or changed" in refusal(recipe, reader)
        path.write_bytes(whole)
    after = recipe.files()
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }


@pytest.mark.parametrize("change", KINDS)
def test_a_damaged_record(recipe, refusal, change):
    without(recipe, "frames")
    path = recipe.directory / "senones" / "done.json"
    path.write_bytes(change(path.read_bytes(), random.Random(3)))
    assert "done.json: damaged; delete it and run stage 3 (senones)" in refusal(recipe, "frames")


def test_a_stage_that_is_made_again_is_whole(recipe, refusal):
    without(recipe, "frames")
    path = recipe.directory / "senones" / "inventory.json"
    whole = path.read_bytes()
    path.write_bytes(flip(whole, random.Random(0)))
    assert "delete it and run stage 3 (senones)" in refusal(recipe, "frames")
    path.unlink()
    recipe.run(["senones", "frames"])
    assert path.read_bytes() == whole


OF_TRANSCRIBE = (
    "distilled/01/model.json", "distilled/01/model.safetensors",
    "decode/distilled-01/measurement.json",
    "graph/HCLG.fst", "graph/words.txt", "graph/graph.json", "senones/inventory.json",
    "frames/statistics.json",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_TRANSCRIBE)
def test_what_transcribe_reads(recipe, command_refusal, name):
    (speech, *_) = read_manifest(recipe.directory / "corpus" / "test.jsonl")
    path = recipe.directory / name
    path.write_bytes(flip(path.read_bytes(), random.Random(name)))
    assert f"{path}: damaged" in command_refusal("transcribe", recipe.directory, speech.audio)


def replaced(old, new):
    return lambda text: text.replace(old, new, 1)


def changed(*keys, to):
    """One value of a JSON file replaced."""

    def change(text):
        value = json.loads(text)
        place = value
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to(place[keys[-1]])
        return json.dumps(value)

    return change


MEASUREMENT, MODEL = "decode/distilled-01/measurement.json", "distilled/01/model.json"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (MEASUREMENT, replaced("lm_weight", "lm-weight"), "'lm_weight' is missing"),
        (MEASUREMENT, changed("lm_weight", to=lambda _: "x"), "'lm_weight' must be a finite numb"),
        (MEASUREMENT, changed("penalty", to=lambda _: float("nan")), "'penalty' must be a finite"),
        (MEASUREMENT, lambda _: "[" * 100_000, "not valid JSON"),
        ("senones/inventory.json", changed("leaves", to=lambda _: []), "do not cover"),
        ("senones/inventory.json", changed("leaves", 0, "state", to=lambda _: 7), "leaves.0.state"),
        ("frames/statistics.json", changed("frames", to=lambda f: f[:-1]), "two lists differ"),
        ("frames/statistics.json", changed("frames", 3, to=str), "'frames.3' must be an integer"),
        ("graph/words.txt", replaced("<s>", "\ud800"), "not UTF-8"),
        ("graph/words.txt", replaced("<s>", "\0" * 3), "control character U+0000"),
        ("graph/graph.json", changed("senones", to=lambda _: 10**30), "must be an integer"),
        (MODEL, changed("inventory", to=lambda _: "x"), "has other classes than"),
        (MODEL, changed("model", "layers", to=lambda _: 10**6), "weights do not fit model.json"),
        (MODEL, changed("model", "width", to=lambda _: 10**12), "weights do not fit model.json"),
        (MODEL, changed("classes", to=lambda _: -1), "does not describe a model"),
    ],
)  # fmt: skip
def test_content_that_no_check_sum_guards(recipe, command_refusal, name, change, message):
    forget_check_sums(recipe.directory, "files")
    (speech, *_) = read_manifest(recipe.directory / "corpus" / "test.jsonl")
    path = recipe.directory / name
    text = change(path.read_text(encoding="utf-8"))
    path.write_bytes(text.encode(errors="surrogatepass"))
    error = command_refusal("transcribe", recipe.directory, speech.audio)
    assert str(path).removesuffix("model.json") in error and message in error


def test_figures_that_are_compared(recipe, finished_recipe, command_refusal, tmp_path):
    rng = random.Random(0)
    out = tmp_path / "page.html"
    for name in (
        "results.json",
        "decode/ensemble/frames.json",
        "decode/control/test.txt",
        "distilled/01/done.json",
        "decode/done.json",
    ):
        path = recipe.directory / name
        whole = path.read_bytes()
        path.write_bytes(flip(whole, rng))
        for verb in ("compare", "folds")[: 1 if path.name == "done.json" else 2]:
            error = command_refusal(verb, finished_recipe.directory, recipe.directory, "--out", out)
            assert f"{path}: damaged" in error
        path.write_bytes(whole)


def test_inspect_verifies_a_whole_experiment(recipe, command):
    status, output, error = command("inspect", recipe.directory, "--verify")
    assert (status, error) == (0, "") and "files of" in output and "not verified" not in output
    paths = [recipe.directory / name for name in ("results.md", "graph/HCLG.fst")]
    paths += sorted((recipe.directory / "soft_targets").glob("*.h5"))[:1]
    for path in paths:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    (recipe.directory / "senones" / "done.json").write_text("{}")
    (recipe.directory / "frames" / "done.json").unlink()
    status, _, error = command("inspect", recipe.directory, "--verify")
    assert status == 2 and error.count("\n") == 5 and "/frames: interrupted, or its done" in error
    assert all(str(path) in error for path in paths) and "senones/done.json: damaged" in error


def test_an_experiment_of_an_earlier_version_is_not_verified(recipe, command):
    forget_check_sums(recipe.directory)
    status, output, error = command("inspect", recipe.directory, "--verify")
    assert (status, error) == (0, "") and "files without check sum" in output
