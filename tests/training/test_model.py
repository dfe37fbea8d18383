"""The acoustic model: its shapes, its size, and what is said about files that do not fit."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.tensors import load_tensors, save_tensors
from acoustic_kd.training.model import (
    AcousticModel,
    build_model,
    count_parameters,
    load_model,
    save_model,
)

SMALL = ModelConfig(layers=2, width=8, dropout=0.25, left_frames=2, right_frames=1)


def description(config=SMALL, dimension=3, classes=5):
    return {
        "model": {
            "layers": config.layers,
            "width": config.width,
            "dropout": config.dropout,
            "left_frames": config.left_frames,
            "right_frames": config.right_frames,
        },
        "dimension": dimension,
        "classes": classes,
    }


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    model = build_model(SMALL, 3, 5)
    save_model(tmp_path, model, description())
    return tmp_path, model


def test_shapes():
    for batch in (0, 1, 7):
        assert build_model(SMALL, 3, 5)(torch.zeros(batch, 4 * 3)).shape == (batch, 5)


def test_the_papers_model_has_its_size():
    """Section 4: 8 × 2560 units over 26 frames of 40 filterbanks, 14,000 senones."""
    paper = ModelConfig(layers=8, width=2560, left_frames=20, right_frames=5)
    with torch.device("meta"):
        model = build_model(paper, 40, 14_000)
    inputs, width, classes = 26 * 40, 2560, 14_000
    expected = (inputs + 1) * width + 7 * (width + 1) * width + (width + 1) * classes
    assert count_parameters(model) == expected
    assert [tuple(layer.weight.shape) for layer in model.modules() if hasattr(layer, "weight")] == [
        (2560, 1040),
        *7 * [(2560, 2560)],
        (14_000, 2560),
    ]
    assert 80e6 < expected < 90e6  # the paper says about 85 M


def test_fresh_weights_keep_the_scale_of_activations():
    torch.manual_seed(0)
    model = AcousticModel(400, 50, 8, 400, 0.0)
    activations = model.hidden(torch.randn(256, 400))
    assert 0.5 < activations.square().mean() < 2
    assert all((layer.bias == 0).all() for layer in model.modules() if hasattr(layer, "bias"))


def test_round_trip(saved):
    folder, model = saved
    loaded, described = load_model(folder)
    assert described == description() and not loaded.training
    windows = torch.randn(9, 12)
    assert torch.equal(loaded(windows), model.eval()(windows))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not list(folder.glob(".*"))


def test_tensors_that_share_memory_or_lie_across_are_written(tmp_path):
    table = torch.arange(12.0).view(3, 4)
    save_tensors(tmp_path / "t.safetensors", {"across": table.T, "row": table[1]}, {"note": "x"})
    found, metadata = load_tensors(tmp_path / "t.safetensors")
    assert metadata == {"note": "x"}
    assert torch.equal(found["across"], table.T) and torch.equal(found["row"], table[1])


def error_of(folder):
    with pytest.raises(UserError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file(saved, name):
    (saved[0] / name).unlink()
    assert f"{saved[0] / name}: " in error_of(saved[0])


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_damaged_weights(saved, size):
    path = saved[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert f"{path}: damaged" in error_of(saved[0])


def test_a_folder_in_place_of_the_weights(saved):
    path = saved[0] / "model.safetensors"
    path.unlink()
    path.mkdir()
    assert f"{path}: " in error_of(saved[0])


def test_weights_of_another_size(saved):
    (saved[0] / "model.json").write_text(json.dumps(description(classes=6)))
    assert "weights do not fit model.json" in error_of(saved[0])
    wide = ModelConfig(layers=2, width=16, left_frames=2, right_frames=1)
    (saved[0] / "model.json").write_text(json.dumps(description(wide)))
    assert "weights do not fit model.json" in error_of(saved[0])


def test_weights_that_are_missing_or_too_many(saved):
    path = saved[0] / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "output.bias"}, path)
    assert "output.bias" in error_of(saved[0])
    save_file(tensors | {"extra": torch.zeros(1)}, path)
    assert "extra" in error_of(saved[0])


GOOD = description()


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "x",
        {k: v for k, v in GOOD.items() if k != "classes"},
        {k: v for k, v in GOOD.items() if k != "model"},
        GOOD | {"model": GOOD["model"] | {"depth": 3}},
        GOOD | {"model": 3},
        GOOD | {"model": GOOD["model"] | {"width": "wide"}},
        GOOD | {"classes": -1},
        GOOD | {"dimension": None},
    ],
)
def test_a_description_that_describes_no_model(saved, value):
    (saved[0] / "model.json").write_text(json.dumps(value))
    assert f"{saved[0] / 'model.json'}: " in error_of(saved[0])


def test_a_description_that_is_no_json(saved):
    (saved[0] / "model.json").write_text('{"model": ')
    assert "not valid JSON" in error_of(saved[0])
