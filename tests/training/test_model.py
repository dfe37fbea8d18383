"""The acoustic model: its shape, dropout and precision, and the errors of files that do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.environment import BFLOAT16_VARIABLE
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.tensors import load_tensors, save_tensors
from acoustic_kd.training.dnn import DNN, Dropout
from acoustic_kd.training.model import load_model, save_model
from acoustic_kd.training.networks import build_network, count_parameters
from acoustic_kd.training.precision import logits_of, use_bfloat16

SETTINGS = {"layers": 2, "width": 8, "dropout": 0.25, "left_frames": 2, "right_frames": 1}
SMALL = ModelConfig(**SETTINGS)
DESCRIPTION = {"model": SETTINGS, "dimension": 3, "classes": 5}
CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    model = build_network(SMALL, 3, 5)
    save_model(tmp_path, model, DESCRIPTION)
    return tmp_path, model


def test_shapes():
    for batch in (0, 1, 7):
        assert build_network(SMALL, 3, 5)(torch.zeros(batch, 4 * 3)).shape == (batch, 5)


def test_the_papers_model_has_its_size():
    """Section 4: 8 × 2560 units over 26 frames of 40 filterbanks, 14,000 senones."""
    paper = ModelConfig(layers=8, width=2560, left_frames=20, right_frames=5)
    with torch.device("meta"):
        model = build_network(paper, 40, 14_000)
    inputs, width, classes = 26 * 40, 2560, 14_000
    expected = (inputs + 1) * width + 7 * (width + 1) * width + (width + 1) * classes
    assert count_parameters(model) == expected
    shapes = [tuple(part.weight.shape) for part in model.modules() if hasattr(part, "weight")]
    assert shapes == [(width, inputs), *7 * [(width, width)], (classes, width)]
    assert 80e6 < expected < 90e6  # the paper says about 85 M


def test_fresh_weights_keep_the_scale_of_activations():
    torch.manual_seed(0)
    model = DNN(400, 50, 8, 400, 0.0)
    activations = model.hidden(torch.randn(256, 400))
    assert 0.5 < activations.square().mean() < 2
    assert all((layer.bias == 0).all() for layer in model.modules() if hasattr(layer, "bias"))


# --- files --------------------------------------------------------------------------------------


def test_round_trip(saved):
    folder, model = saved
    loaded = load_model(folder)
    described = loaded.description
    assert described == DESCRIPTION and not loaded.training
    windows = torch.randn(9, 12)
    assert torch.equal(loaded(windows), model.eval()(windows))
    assert not list(folder.glob(".*"))


def test_tensors_that_share_memory_or_lie_across_are_written(tmp_path):
    table = torch.arange(12.0).view(3, 4)
    save_tensors(tmp_path / "t.safetensors", {"across": table.T, "row": table[1]}, {"note": "x"})
    tensors, metadata = load_tensors(tmp_path / "t.safetensors")
    assert metadata == {"note": "x"}
    assert torch.equal(tensors["across"], table.T) and torch.equal(tensors["row"], table[1])


def cut(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def make_folder(path):
    path.unlink()
    path.mkdir()


def remove_bias(path):
    tensors = load_file(path)
    del tensors["output.bias"]
    save_file(tensors, path)


def add_tensor(path):
    save_file(load_file(path) | {"extra": torch.zeros(1)}, path)


def describe(description):
    return lambda path: path.write_text(json.dumps(description))


WEIGHTS, JSON = "model.safetensors", "model.json"
WIDER = DESCRIPTION | {"model": SETTINGS | {"width": 16}}
NORMED = DESCRIPTION | {"model": SETTINGS | {"batch_norm": True}}
NO_MODELS = [
    *({}, [], None, "x"),
    {"model": SETTINGS, "dimension": 3},
    {"dimension": 3, "classes": 5},
    *(DESCRIPTION | {"model": SETTINGS | change} for change in ({"depth": 3}, {"width": "wide"})),
    *(DESCRIPTION | change for change in ({"model": 3}, {"classes": -1}, {"dimension": None})),
]


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        (WEIGHTS, Path.unlink, f"{WEIGHTS}: no such file"),
        (WEIGHTS, make_folder, f"{WEIGHTS}: "),
        *((WEIGHTS, cut(size), f"{WEIGHTS}: damaged") for size in (0, 5, 200, -1)),
        (WEIGHTS, remove_bias, "output.bias"),
        (WEIGHTS, add_tensor, "extra"),
        (JSON, Path.unlink, f"{JSON}: "),
        (JSON, cut(10), "not valid JSON"),
        (JSON, describe(DESCRIPTION | {"classes": 6}), "weights do not fit model.json"),
        (JSON, describe(WIDER), "weights do not fit model.json"),
        (JSON, describe(NORMED), "weights do not fit model.json"),
        *((JSON, describe(d), f"{JSON}: does not describe a model") for d in NO_MODELS),
    ],
)
def test_refusals(saved, file, spoil, message):
    """One line that names the folder."""
    folder, _ = saved
    spoil(folder / file)
    with pytest.raises(UserError) as caught:
        load_model(folder)
    actual = str(caught.value)
    assert actual.startswith(str(folder)) and message in actual and "\n" not in actual


def test_weights_that_are_not_finite_are_named(saved):
    folder, _ = saved
    tensors = load_file(folder / WEIGHTS)
    tensors["output.bias"][1] = torch.nan
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UserError, match=f"{WEIGHTS}: damaged: 'output.bias' has numbers that are"):
        load_model(folder)


def test_a_million_layers_are_refused_at_once(saved):
    folder, _ = saved
    describe(DESCRIPTION | {"model": SETTINGS | {"layers": 10**6}})(folder / JSON)
    with pytest.raises(UserError, match="weights do not fit model.json .* not 1000000"):
        load_model(folder)


def test_every_byte_of_checked_tensors_is_guarded(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.arange(3.0), "b": torch.ones(2, 2)}, {"state": "{}"})
    whole, (expected, metadata) = path.read_bytes(), load_tensors(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found, same = load_tensors(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: damaged (")
        else:  # the name of the check sum itself was changed
            assert same == metadata and all(torch.equal(found[k], expected[k]) for k in expected)


# --- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_and_scale(rate, dtype):
    torch.manual_seed(0)
    dropped = Dropout(rate)(torch.ones(1000, 999, dtype=dtype))
    exact = round(256 * rate) / 256
    share = (dropped == 0).double().mean().item()
    # A million draws: five standard deviations of their mean.
    assert share == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 999_000) ** 0.5)
    kept = dropped[dropped != 0]
    assert (kept == kept[0]).all() and kept[0].item() == pytest.approx(1 / (1 - exact), rel=0.01)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.15, 0.25, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean(rate, dtype):
    """The scale of kept units is not rounded, which eight layers would add up."""
    torch.manual_seed(0)
    units = (torch.rand(1000, 999) + 0.5).to(dtype)
    dropped = Dropout(rate)(units)
    kept = dropped != 0
    scale = dropped[kept].double().sum() / units[kept].double().sum()
    assert scale == pytest.approx(256 / (256 - round(256 * rate)), rel=4e-4)


def test_a_small_rate_drops_some_units():
    torch.manual_seed(0)
    assert (Dropout(0.001)(torch.ones(100, 999)) == 0).any()


def test_no_pattern_along_rows_or_columns():
    torch.manual_seed(1)
    dropped = (Dropout(0.5)(torch.ones(2000, 512)) == 0).double()
    assert dropped.mean(0).std() == pytest.approx((0.25 / 2000) ** 0.5, rel=0.2)
    assert dropped.mean(1).std() == pytest.approx((0.25 / 512) ** 0.5, rel=0.2)


def test_masks_follow_the_seed_and_evaluation_changes_nothing():
    layer, units = Dropout(0.3), torch.randn(33, 7)
    torch.manual_seed(5)
    first = layer(units)
    torch.manual_seed(5)
    assert torch.equal(layer(units), first)
    assert not torch.equal(layer(units), first)
    assert layer.eval()(units) is units


def test_the_gradient_passes_where_units_passed():
    units = torch.randn(10, 10, requires_grad=True)
    dropped = Dropout(0.4)(units)
    dropped.sum().backward()
    assert torch.equal(units.grad == 0, dropped == 0)


# --- precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "variable", "capabilities", "expected"),
    [
        (None, "", {"avx2": True, "avx512_f": True}, False),
        (None, "", {"avx512_bf16": True}, True),
        (None, "", {"amx_bf16": True, "avx512_bf16": False}, True),
        (None, "", {"bf16": True, "neon": True}, True),
        (None, "", {}, False),
        (None, "0", {"amx_bf16": True}, False),
        (None, "1", {}, True),
        (False, "1", {"amx_bf16": True}, False),
        (True, "0", {}, True),
    ],
)
def test_setting_before_environment_before_processor(
    monkeypatch, setting, variable, capabilities, expected
):
    monkeypatch.setenv(BFLOAT16_VARIABLE, variable)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert use_bfloat16(setting, CPU) is expected
    if setting is not None or variable:
        assert use_bfloat16(setting, torch.device("cuda")) is expected


@pytest.mark.parametrize(("precision", "expected"), [("no", False), ("bf16", True), ("", True)])
def test_the_precision_of_accelerate_counts_before_the_processor(monkeypatch, precision, expected):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.delenv(BFLOAT16_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert use_bfloat16(None, CPU) is expected
    assert use_bfloat16(True, CPU) is True
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="MIXED_PRECISION is 'fp16'; models train in bfloat16 or"):
        use_bfloat16(None, CPU)


def test_another_value_of_the_environment_variable_is_refused(monkeypatch):
    monkeypatch.setenv(BFLOAT16_VARIABLE, "true")
    message = f"^the environment variable {BFLOAT16_VARIABLE} is 'true'; set it to 0 or 1$"
    with pytest.raises(UserError, match=message):
        use_bfloat16(None, CPU)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_logits_are_float32_either_way(bfloat16):
    torch.manual_seed(0)
    model, windows = torch.nn.Linear(8, 3), torch.randn(4, 8)
    logits = logits_of(model, windows.bfloat16() if bfloat16 else windows, bfloat16)
    assert logits.dtype == torch.float32
    exact = model(windows)
    assert torch.equal(logits, exact) is not bfloat16
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)
