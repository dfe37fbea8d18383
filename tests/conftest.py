"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest
import tiny_recipe
import torch

from acoustic_kd.experiment.stages import STAGES

# What a shell starts in the background ignores Ctrl-C, and so would the processes that are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora: $ACOUSTIC_KD_DATA, or `shared/data` beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ACOUSTIC_KD_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: set ACOUSTIC_KD_DATA ({folder} is not there)")
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from threads, and lose much where the cores are busy."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished_recipe(tmp_path_factory) -> tiny_recipe.TinyRecipe:
    """The tiny recipe from audio to the table; work on copies of it."""
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    recipe = tiny_recipe.prepare(tmp_path_factory.mktemp("recipe"))
    for stage in STAGES:
        assert recipe(stage) == 0
    return recipe
