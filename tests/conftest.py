"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
import torch


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
