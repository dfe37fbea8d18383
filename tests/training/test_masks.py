"""Masks over time and frequency of training windows."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import TRAIN, trainer, weights

from acoustic_kd.training.windows import Masks

FRAMES, FILTERS = 7, 5


def hidden(masks, batch=2000, seed=0, dtype=torch.float32):
    """bool [B, W, D], which features of random windows are hidden; the others must stay."""
    torch.manual_seed(seed)
    windows = torch.randn(batch, FRAMES, FILTERS).clamp(min=0.1).to(dtype)
    masked = masks(windows)
    assert masked.dtype == dtype
    is_hidden = masked != windows
    assert torch.equal(masked, windows.masked_fill(is_hidden, 0))
    return is_hidden


def runs(places):
    """The number of each row's True values in bool [B, N], which must be neighbours."""
    begins = places & ~torch.nn.functional.pad(places, (1, 0))[:, :-1]
    assert begins.sum(1).max() <= 1
    return places.sum(1)


@given(st.integers(0, FRAMES), st.integers(0, FILTERS), st.integers(0, 99))
def test_each_window_loses_neighbours_no_more_than_are_allowed(frames, filters, seed):
    is_hidden = hidden(Masks(frames, filters), 50, seed)
    times, bands = is_hidden.all(2), is_hidden.all(1)
    if frames < FRAMES and filters < FILTERS:  # else a whole window may be hidden
        assert torch.equal(is_hidden, times[:, :, None] | bands[:, None, :])
        assert runs(times).max() <= frames and runs(bands).max() <= filters


@pytest.mark.parametrize(("axis", "widest"), [("frames", 3), ("filters", 2)])
def test_every_width_at_every_place_is_drawn(axis, widest):
    size = {"frames": FRAMES, "filters": FILTERS}[axis]
    places = hidden(Masks(**{axis: widest})).any(2 if axis == "frames" else 1)
    width, first = runs(places), places.int().argmax(1)
    assert torch.bincount(width).min() > 0.8 * 2000 / (widest + 1)
    for wide in range(1, widest + 1):
        assert torch.bincount(first[width == wide]).shape == (size - wide + 1,)
        assert torch.bincount(first[width == wide]).min() > 0


def test_frames_in_bfloat16_are_masked_alike():
    masks = Masks(FRAMES - 1, FILTERS - 1)
    assert torch.equal(hidden(masks), hidden(masks, dtype=torch.bfloat16))


def test_without_masks_windows_stay_and_nothing_is_drawn():
    windows = torch.randn(3, FRAMES, FILTERS)
    state = torch.get_rng_state()
    assert Masks()(windows) is windows
    assert torch.equal(torch.get_rng_state(), state)


def test_training_masks_its_windows_unless_they_are_augmented_otherwise(tmp_path):
    masked = replace(TRAIN, time_mask=2, frequency_mask=3)
    seen = []

    def watch(windows):
        seen.append(windows)
        return windows

    for name, train, augment in (
        ("plain", TRAIN, None), ("time", replace(TRAIN, time_mask=2), None),
        ("both", masked, None), ("other", masked, watch),
    ):  # fmt: skip
        trainer(tmp_path / name, train=train, augment=augment).run()
    found = {name: weights(tmp_path / name) for name in ("plain", "time", "both", "other")}
    assert found["other"] == found["plain"] and all((windows != 0).all() for windows in seen)
    assert found["plain"] != found["time"] != found["both"] != found["plain"]
