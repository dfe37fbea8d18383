"""The recipe from audio to the table: what it makes, and what it makes again."""

import json

import pytest
import torch
from tiny_recipe import TinyRecipe, prepare

import specialists
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.stages import STAGES, open_experiment


def test_results_hold_what_others_rely_on(finished_recipe):
    results = json.loads((finished_recipe.directory / "results.json").read_text())
    assert results["corpus"] == "demo" and len(results["config_digest"]) == 64
    names = ["baseline", "control", "ensemble", "distilled"]
    assert [s["name"] for s in results["systems"]] == names
    baseline, control, ensemble, distilled = results["systems"]
    assert [s["members"] for s in results["systems"]] == [1, 1, 2, 1]
    assert ensemble["parameters"] == 2 * baseline["parameters"] == 2 * distilled["parameters"]
    assert control["parameters"] == distilled["parameters"]
    utterances = read_manifest(finished_recipe.directory / "corpus" / "test.jsonl")
    words = sum(len(utterance.text.split()) for utterance in utterances)
    for system, models in zip(results["systems"], (2, 1, 1, 1), strict=True):
        accuracy, wer = system["frame_accuracy"], system["wer"]
        assert 5 < accuracy["dev"] < 100 and 5 < accuracy["test"] < 100
        assert wer["test"]["words"] == models * words
    assert ensemble["frame_accuracy"]["test"] > baseline["frame_accuracy"]["test"]
    names = [m["name"] for m in results["each_model"]]
    assert names == ["member-01", "member-02", "control", "ensemble", "distilled-01"]
    assert set(results["last_epoch_gains"]) == set(names) - {"ensemble"}


def test_a_tracker_gets_figures_and_report(recipe):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (recipe.directory / "report" / "done.json").unlink()
    recipe.run(["report"], "train.tracker=tensorboard")
    events = accumulators.EventAccumulator(str(recipe.directory / "logs" / "report")).Reload()
    results = json.loads((recipe.directory / "results.json").read_text())
    shown = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    for system in results["systems"]:
        for split in ("dev", "test"):
            wer, accuracy = system["wer"][split]["percent"], system["frame_accuracy"][split]
            assert shown.pop(f"{system['name']}/wer_{split}") == pytest.approx(wer)
            assert shown.pop(f"{system['name']}/accuracy_{split}") == pytest.approx(accuracy)
    gains = {f"{key}/{what}": share for key in ("gain_kept", "gain_kept_over_control")
             for what, share in results[key].items() if share is not None}  # fmt: skip
    assert shown == pytest.approx(gains)
    text = events.Tensors("report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == (recipe.directory / "results.md").read_text()


def test_distilled_models_of_another_size_are_trained_and_measured_anew(recipe, outcome):
    """With a control of that size; nothing else is measured again."""
    size = ("distill.layers=2", "distill.width=16")
    recipe.run(["distill"], *size)
    output = outcome(recipe, "decode", *size)[1]
    assert all(f"{name}: up to date" in output for name in ("member-01", "ensemble"))
    assert "distilled-01: test frame accuracy" in output
    recipe.run(["report"], *size)
    for name in ("01", "control"):
        description = json.loads((recipe.directory / f"distilled/{name}/model.json").read_text())
        assert (description["model"]["layers"], description["model"]["width"]) == (2, 16)
    systems = json.loads((recipe.directory / "results.json").read_text())["systems"]
    sizes = {system["name"]: system["parameters"] for system in systems}
    assert sizes["ensemble"] == 2 * sizes["baseline"]
    assert sizes["control"] == sizes["distilled"] < sizes["baseline"]


def test_fewer_members_keep_those_of_the_larger_ensemble(recipe, outcome):
    before = recipe.files()
    status, output, _ = outcome(recipe, "train", "train.members=1")
    assert status == 0 and "member 1: up to date" in output and "epoch" not in output
    for number in ("01", "02"):
        name = f"members/{number}/model.safetensors"
        assert recipe.files()[name] == before[name]


def test_every_stage_comes_after_its_inputs():
    names = list(STAGES)
    for stage in STAGES.values():
        assert all(names.index(other) < names.index(stage.name) for other in stage.inputs)


@pytest.mark.slow
def test_specialists_refine_the_ensemble_and_the_student_learns_from_both(recipe, outcome, command):
    """Members stay; the ensemble, its soft targets and what learns from them are made anew."""
    settings = ("specialists.count=2", "specialists.classes=20")
    members = {n: v for n, v in recipe.files().items() if n.startswith("members/0")}
    status, output, _ = outcome(recipe, "train", *settings)
    assert status == 0 and "member 1: up to date" in output and "specialist 2: epoch 2" in output
    recipe.run(["soft-targets", "distill", "graph"], *settings)
    output = outcome(recipe, "decode", *settings)[1]
    assert "member-01: up to date" in output and "ensemble: test frame accuracy" in output
    recipe.run(["report"], *settings)
    files = recipe.files()
    assert members.items() <= files.items()
    folder = recipe.directory / "members/specialists"
    subsets = json.loads((folder / "subsets/subsets.json").read_text())
    assert [len(set(subset["classes"])) for subset in subsets] == [20, 20]
    entry = json.loads((recipe.directory / "soft_targets/shard-00000.json").read_text())
    assert len(entry["members"]) == 4
    systems = json.loads((recipe.directory / "results.json").read_text())["systems"]
    sizes = {system["name"]: system["parameters"] for system in systems}
    specialist = json.loads((folder / "01/model.json").read_text())
    assert specialist["classes"] == 21
    assert sizes["ensemble"] == 2 * (sizes["baseline"] + specialist["parameters"])
    status, output, _ = outcome(recipe, "train", *settings)
    assert status == 0 and output.endswith("up to date\n")
    counts = specialists.count(open_experiment(recipe.directory), "test")
    measured = json.loads((recipe.directory / "decode/ensemble/measurement.json").read_text())
    right, frames = map(sum, zip(*measured["frames"]["test"].values(), strict=True))
    overall = counts.covered.sum(0)
    assert overall[0] == frames
    assert overall[2].item() == pytest.approx(right, abs=0.01 * frames)  # rounded in other batches
    covered = torch.arange(3) @ counts.covered[:, 0]
    assert counts.conditional[0] == covered and (counts.conditional[1:] <= covered).all()
    assert "| with specialists |" in specialists.tables(counts)
    out = recipe.directory / "ensemble.onnx"
    status, _, error = command("bundle", recipe.directory, "--model", "ensemble", "--out", out)
    assert status == 2 and "an ensemble with specialists cannot be exported" in error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["specialists.count=2", "specialists.classes=120"], "it must be less than the number of"),
        (["specialists.count=2", "soft_targets.mean=geometric"], "must be arithmetic with special"),
        (["specialists.count=2", "soft_targets.weights=[1,2]"], "must be null with specialists"),
        (["specialists.count=-1"], "it must be 0 to 1000"),
        (
            ["specialists.count=2", "senones.trees=2", "train.member_models=[{tree: 2}, {}]"],
            "neither class nor tree in its first model",
        ),
    ],
)
def test_specialists_that_cannot_be_trained_are_refused(recipe, outcome, settings, message):
    status, _, error = outcome(recipe, "train", *settings)
    assert status == 2 and error.count("\n") == 1 and message in error


@pytest.mark.slow
def test_members_of_other_trees_predict_the_senones_of_the_first(tmp_path, outcome):
    settings = (
        "senones.trees=2",
        "train.member_models=[{}, {tree: 2}]",
        "features.tempos=[1.0,1.1]",
    )
    recipe = prepare(tmp_path)
    recipe = TinyRecipe(recipe.directory, (*recipe.settings, *settings)).run()
    first, second = (
        json.loads((recipe.directory / f"members/0{n}/model.json").read_text()) for n in (1, 2)
    )
    assert first["inventory"] == second["inventory"] and first["classes"] == second["classes"]
    assert second["model"]["tree"] == 2
    results = json.loads((recipe.directory / "results.json").read_text())
    accuracy = {m["name"]: m["frame_accuracy"]["dev"] for m in results["each_model"]}
    assert accuracy["member-02"] > 10 and accuracy["ensemble"] > accuracy["member-02"]
    networks = {system["name"]: system["network"] for system in results["systems"]}
    assert networks["baseline"] == "1 × 32 units, 1 × 32 units, tree 2"
    assert networks["distilled"] == "1 × 32 units"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.member_models=[{tree: 2}]"], "tree 2; it must be at most 1 (senones.trees)"),
        (["model.tree=2", "senones.trees=2"], "'model.tree' is not 1; give other trees in"),
        (["distill.shapes={small: {tree: 2}}"], "'distill.shapes.small.tree' is not 1; give"),
    ],
)
def test_trees_that_are_not_there_are_refused(recipe, outcome, settings, message):
    status, _, error = outcome(recipe, "train", *settings)
    assert status == 2 and error.count("\n") == 1 and message in error
