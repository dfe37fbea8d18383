"""tools/deployment.py: sizes and errors of models by format, and where they are shown."""

import json

import pytest

import deployment
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.reports.deployment import FILE, deployment_rows, read_deployment
from acoustic_kd.verbs.bundle import bundle

pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")


def test_every_kind_of_system_is_measured_in_each_format_and_shown(
    recipe, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ACOUSTIC_KD_BFLOAT16", "1")
    assert deployment.main([str(recipe.directory)]) == 0
    rows = read_deployment(recipe.directory)
    systems = list(dict.fromkeys(row["system"] for row in rows))
    assert systems == ["member-01", "control", "ensemble", "distilled-01"]
    assert [row["format"] for row in rows[:3]] == ["float32", "bfloat16", "int8"]
    sizes = [row["megabytes"] for row in rows[:3]]
    assert sizes == sorted(sizes, reverse=True), sizes
    # float32 in ONNX Runtime classifies frames as the decode stage's float32 network.
    path = recipe.directory / "decode" / "distilled-01" / "measurement.json"
    frames = json.loads(path.read_text())["frames"]["test"].values()
    right, total = map(sum, zip(*frames, strict=True))
    by_format = {row["format"]: row for row in rows if row["system"] == "distilled-01"}
    assert by_format["bfloat16"]["frame_accuracy"] == pytest.approx(100 * right / total, abs=0.5)
    printed = capsys.readouterr().out
    assert all(cell in printed for row in deployment_rows(rows) for cell in row)
    bundle(recipe.directory, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| distilled-01 | int8 |" in card
    assert open_experiment(recipe.directory).directory.joinpath(FILE).is_file()
