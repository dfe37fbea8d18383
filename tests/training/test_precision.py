"""bfloat16 is used where it is asked for, or where nothing is asked and the device has it."""

import pytest
import torch

from acoustic_kd.system.errors import UserError
from acoustic_kd.training.model import BFLOAT16_VARIABLE, logits_of, use_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx2": True, "avx512_f": True}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"bf16": True, "neon": True}, True),
        ({}, False),
    ],
)
def test_null_follows_the_processor(monkeypatch, able, expected):
    monkeypatch.delenv(BFLOAT16_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert use_bfloat16(None, CPU) is expected


def test_a_setting_is_obeyed(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert use_bfloat16(False, CPU) is False
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert use_bfloat16(True, CPU) is True


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True)])
def test_null_is_what_the_environment_variable_says(monkeypatch, value, expected):
    able = {"amx_bf16": not expected}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setenv(BFLOAT16_VARIABLE, value)
    assert use_bfloat16(None, CPU) is use_bfloat16(None, torch.device("cuda")) is expected
    assert use_bfloat16(not expected, CPU) is not expected
    monkeypatch.setenv(BFLOAT16_VARIABLE, "")  # as if it were not set
    assert use_bfloat16(None, CPU) is not expected


def test_another_value_of_the_environment_variable_is_refused(monkeypatch):
    monkeypatch.setenv(BFLOAT16_VARIABLE, "true")
    with pytest.raises(
        UserError, match=f"^the environment variable {BFLOAT16_VARIABLE} is 'true'; set it"
    ):
        use_bfloat16(None, CPU)


@pytest.mark.parametrize("low", [False, True])
def test_logits_are_float32_either_way(low):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 3)
    windows = torch.randn(4, 8)
    logits = logits_of(model, windows.bfloat16() if low else windows, low)
    assert logits.dtype == torch.float32
    exact = model(windows)
    assert torch.equal(logits, exact) is not low
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)
