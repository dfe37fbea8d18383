"""Fixtures that several test files share."""

import fcntl
import os
import pickle
import signal
from pathlib import Path

import hypothesis
import pytest
import torch
import variants

from acoustic_kd.cli import main

# What a shell starts in the background ignores Ctrl-C, and so would the processes that are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is killed here are processes, not the machine: what they have written is not lost.
os.fsync = lambda file: None

# Without a GPU, Triton interprets its kernels. It reads this when it is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

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


# --- the tiny recipe ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def variant(tmp_path_factory):
    """variant(name) → the finished variant of the tiny recipe; work on copies of it.

    The processes of pytest-xdist share them: the first that needs a variant runs it.
    """
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "variants"

    def get(name):
        folder, record = root / name, root / f"{name}.pickle"
        root.mkdir(exist_ok=True)
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not record.exists():
                folder.mkdir()
                record.write_bytes(pickle.dumps(variants.BUILDERS[name](get, folder)))
        return pickle.loads(record.read_bytes())  # noqa: S301

    return get


@pytest.fixture(scope="session")
def finished_recipe(variant):
    """The tiny recipe from audio to the table; work on copies of it."""
    return variant("plain")


@pytest.fixture
def recipe(finished_recipe, tmp_path):
    """A copy of the finished experiment that may be changed."""
    return finished_recipe.copy(tmp_path / "exp")


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def command(capfd):
    """command(argument, …) → exit status, standard output, standard error of `acoustic-kd`."""

    def run(*arguments):
        capfd.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def outcome(capfd):
    """outcome(recipe, stage, …) → exit status, standard output, standard error of a stage."""

    def run(recipe, stage, *more):
        capfd.readouterr()
        status = recipe(stage, *more)
        return status, *capfd.readouterr()

    return run


def refused(verb, status, error):
    """The one line of a run that must end with status 2."""
    assert status == 2, error
    assert error.endswith("\n") and error.count("\n") == 1 and "Traceback" not in error, error
    assert error.startswith(f"acoustic-kd {verb}: error: "), error
    return error


@pytest.fixture
def refusal(outcome):
    """refusal(recipe, stage, …) → the one line with which a stage must refuse."""

    def run(recipe, stage, *more):
        status, _, error = outcome(recipe, stage, *more)
        return refused(stage, status, error)

    return run


@pytest.fixture
def command_refusal(command):
    """command_refusal(verb, …) → the one line with which a verb must refuse; it prints no more."""

    def run(verb, *arguments):
        status, output, error = command(verb, *arguments)
        assert output == ""
        return refused(verb, status, error)

    return run
