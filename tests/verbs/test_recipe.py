"""The recipe from audio to the table: what it makes, and what it makes again."""

import json

import pytest

from acoustic_kd.experiment.stages import STAGES


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


def test_distilled_models_of_another_size_are_trained_and_measured_anew(recipe, outcome):
    """With a control of that size; nothing else is measured again."""
    before = recipe.files()
    for stage in STAGES:
        status, output, _ = outcome(recipe, stage, "distill.layers=2", "distill.width=16")
        assert status == 0
        assert (output == "  up to date\n") == (stage not in ("distill", "decode", "report"))
        if stage == "decode":
            assert all(f"{name}: up to date" in output for name in ("member-01", "ensemble"))
            assert "distilled-01: test frame accuracy" in output
    after = recipe.files()
    redone = ("distilled", "decode", "report")
    for name in before:
        assert name.startswith((*redone, "results")) or after[name] == before[name], name
    for name in ("distilled/01", "distilled/control"):
        model = json.loads(after[f"{name}/model.json"][1])["model"]
        assert (model["layers"], model["width"]) == (2, 16)
    systems = json.loads(after["results.json"][1])["systems"]
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


def test_soft_targets_of_another_temperature_replace_the_old_ones(recipe, outcome):
    shard = recipe.directory / "soft_targets" / "shard-00003.h5"
    before = shard.read_bytes()
    status, output, _ = outcome(recipe, "soft-targets", "soft_targets.temperature=3")
    assert status == 0 and "already written" not in output
    assert shard.read_bytes() != before


def test_every_stage_comes_after_its_inputs():
    names = list(STAGES)
    for stage in STAGES.values():
        assert all(names.index(other) < names.index(stage.name) for other in stage.inputs)
