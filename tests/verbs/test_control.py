"""The control: a model of the distilled model's shape and budget, from hard targets alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.experiment.training_jobs import CONTROL_SEED, DISTILLED_SEEDS, control_settings
from acoustic_kd.settings import Config, load_config

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "conf").glob("*.yaml"))


def weights(recipe, model):
    return (recipe.directory / model / "model.safetensors").read_bytes()


def settings(**distill):
    config = Config()
    return replace(config, distill=replace(config.distill, **distill))


def test_it_has_the_distilled_models_budget_and_the_members_dropout():
    config = settings(epochs=7, learning_rate=3e-3, decay_below=0.2, decay=0.9, dropout=0.05)
    model, train = control_settings(config, 1.0)
    assert (train.epochs, train.learning_rate) == (7, 3e-3)
    assert (train.decay_below, train.decay) == (0.2, 0.9)
    assert model == config.model
    assert control_settings(settings(schedule="cosine"), 1.0)[1].schedule == "cosine"


@pytest.mark.parametrize("dropout", [0.4, 0.0])
def test_its_dropout_may_be_chosen(dropout):
    assert control_settings(settings(hard_baseline_dropout=dropout), 1.0)[0].dropout == dropout


@pytest.mark.parametrize(("transfer", "epochs"), [(1.0, 10), (2.5, 25), (1.01, 11), (0.25, 10)])
def test_it_sees_at_least_as_many_frames_as_the_distilled_model(transfer, epochs):
    assert control_settings(settings(epochs=10), transfer)[1].epochs == epochs


def test_it_starts_from_weights_of_its_own(finished_recipe):
    paths = sorted(finished_recipe.directory.glob("*/*/model.json"))
    seeds = {str(p.parent.relative_to(p.parents[2])): json.loads(p.read_text()) for p in paths}
    seeds = {name: description["seed"] for name, description in seeds.items()}
    assert seeds == {
        **{"members/01": 0, "members/02": 1},
        **{"distilled/01": DISTILLED_SEEDS, "distilled/control": CONTROL_SEED},
    }


def test_soft_targets_do_not_shape_it_nor_it_the_distilled_model(recipe, outcome):
    distilled, control = (weights(recipe, name) for name in ("distilled/01", "distilled/control"))
    setting = "distill.hard_baseline_dropout=0.5"
    assert "  distilled 1: up to date\n" in outcome(recipe, "distill", setting)[1]
    assert weights(recipe, "distilled/01") == distilled
    assert weights(recipe, "distilled/control") != control
    assert "  distilled 1: up to date\n" in outcome(recipe, "distill")[1]
    temperature = "soft_targets.temperature=5"
    recipe.run(["soft-targets"], temperature)
    output = outcome(recipe, "distill", temperature, "distill.hard_weight=0")[1]
    assert "  control: up to date\n" in output
    assert weights(recipe, "distilled/01") != distilled
    assert weights(recipe, "distilled/control") == control


def test_without_it_the_report_says_what_the_table_cannot_tell(recipe, capfd):
    recipe.run(list(STAGES), "distill.hard_baseline=false")
    output = capfd.readouterr().out
    assert "  distilled 1: up to date\n" in output and "there is no control" in output
    results = json.loads((recipe.directory / "results.json").read_text())
    names = [system["name"] for system in results["systems"]]
    assert names == ["baseline", "ensemble", "distilled"]
    assert "There is no control" in (recipe.directory / "report.html").read_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_recipe_trains_distilled_models_longer_than_members_without_a_control(path):
    if path.stem == "mnist":
        pytest.skip("MNIST's rows compare hard and soft targets by themselves")
    config = load_config(path, [])
    longer = (config.distill.epochs or config.train.epochs) > config.train.epochs
    assert config.distill.hard_baseline or not longer
