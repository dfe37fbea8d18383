"""Distilled models of several shapes, members of several kinds, and networks of the user's own."""

import json

import pytest

SHAPES = (
    "distill.shapes={small: {layers: 1, width: 8, left_frames: 3, right_frames: 1, dropout: 0.0}, "
    "own: {class: 'own_networks:Recurrent', args: {units: 8}}}"
)


def described(recipe, model):
    return json.loads((recipe.directory / model / "model.json").read_text())


def test_each_shape_has_a_model_a_control_and_a_row(recipe, outcome, command, tmp_path):
    """The models of the main shape are those of a run without shapes; others have names."""
    status, output, _ = outcome(recipe, "distill", SHAPES)
    assert status == 0
    for name in ("distilled 1", "control"):
        assert f"  {name}: up to date\n" in output
    recipe.run(["graph", "decode", "report"], SHAPES)
    for name in ("01", "control"):
        small, own = (described(recipe, f"distilled/{shape}/{name}") for shape in ("small", "own"))
        assert (small["model"]["width"], small["model"]["left_frames"]) == (8, 3)
        assert small["model"]["dropout"] == 0.0
        assert own["model"]["class"] == "own_networks:Recurrent"
        assert own["model"]["args"] == {"units": 8}
    results = json.loads((recipe.directory / "results.json").read_text())
    systems = {system["name"]: system for system in results["systems"]}
    assert list(systems)[4:] == ["control small", "distilled small", "control own", "distilled own"]
    assert systems["distilled small"]["parameters"] == small["parameters"]
    assert systems["distilled small"]["network"] == "1 × 8 units"
    assert systems["distilled own"]["network"] == "own_networks:Recurrent(units=8)"
    assert "distilled small over control small" in results["differences"]["wer"]["pairs"]
    table = (recipe.directory / "results.md").read_text().partition("## Shapes")[2]
    assert "| small | 1 × 8 units |" in table
    page = (recipe.directory / "report.html").read_text()
    assert (
        "Frame accuracy on test against millions" in page and "WER on test against × real" in page
    )
    for model in ("distilled/small/01", "distilled/own/control"):
        arguments = ("test", "--out", tmp_path / "post.ark", "--model", model)
        status, text, error = command("posteriors", recipe.directory, *arguments)
        assert (status, error) == (0, "") and "frame accuracy" in text


def test_members_differ_in_kind_and_window(recipe, outcome):
    setting = "train.member_models=[{}, {kind: cnn, channels: 2, layers: 1, left_frames: 4}]"
    status, output, _ = outcome(recipe, "train", setting)
    assert status == 0 and "  member 1: up to date\n" in output
    assert described(recipe, "members/02")["model"]["kind"] == "cnn"
    for stage in ("soft-targets", "distill", "graph", "decode", "report"):
        assert outcome(recipe, stage, setting)[0] == 0
    results = json.loads((recipe.directory / "results.json").read_text())
    baseline, _, ensemble, _ = results["systems"]
    sizes = [described(recipe, f"members/0{n}")["parameters"] for n in (1, 2)]
    assert ensemble["parameters"] == sum(sizes) and len(set(sizes)) == 2
    assert baseline["parameters"] == round(sum(sizes) / 2)
    assert "units, 2 channels, 1 × " in baseline["network"] == ensemble["network"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("distill.shapes={a: {widht: 3}}", "unknown setting 'distill.shapes.a.widht'"),
        ("distill.shapes={a: {width: 0}}", "'distill.shapes.a.width' is 0; it must be 1 to"),
        ("distill.shapes={a: {width: x}}", "'distill.shapes.a.width': expected int, got 'x'"),
        ("distill.shapes={a: 3}", "distill.shapes.a must be a mapping of settings"),
        ("distill.shapes={A-b: {}}", "'distill.shapes' has the name 'A-b'; give small letters"),
        ("distill.shapes={control: {}}", "has the name 'control'"),
        ("distill.shapes={'01': {}}", "has the name '01'"),
        ("distill.shapes={_: {}}", "has the name '_'"),
        ("train.member_models=[{}, {}, {}, {}, {}, {}]", "has 6 models; it must have at most"),
        ("distill.shapes=[a]", "'distill.shapes': expected a mapping or null"),
        ("train.member_models=[{kind: rnn}]", "'train.member_models.0.kind' is rnn; it must be"),
        ("model.class=Net", "'model.class' is Net; it must be an import path"),
        ("model.args={a: 1}", "'model.args' has values, but 'model.class' is null"),
        ("distill.args={a: 1}", "'distill.args' has values, but 'distill.class' is null"),
        ("distill.shapes={a: {args: {b: 1}}}", "'distill.shapes.a.class' is null; give both"),
        ("train.member_models=[{args: {b: 1}}]", "'train.member_models.0.class' is null"),
        ("model.class=no_such:Net", "'model.class' is no_such:Net, which cannot be imported"),
        ("model.class=own_networks:NotANumber", "forward gives logits that are not finite"),
        ("distill.class=own_networks:Sequence", "it must give logits"),
    ],
)
def test_wrong_models_end_in_one_line_before_anything_runs(
    command_refusal, tmp_path, setting, message
):
    refusal = command_refusal("run", "--config", "demo", "--exp-dir", tmp_path / "exp", setting)
    assert message in refusal and not (tmp_path / "exp").exists()


def test_a_window_longer_than_every_utterance_is_refused_before_members_are_trained(
    recipe, outcome
):
    setting = "distill.shapes={wide: {left_frames: 1000, right_frames: 1000}}"
    status, _, error = outcome(recipe, "train", setting, "train.seed=5")
    assert status == 2 and "1000 + 1 + 1000 frames, but the longest utterance has" in error


def test_windows_are_checked_before_there_are_copies(recipe, outcome):
    assert outcome(recipe, "train", "features.transfer_vtlp_warps=[0.9]")[0] == 0
