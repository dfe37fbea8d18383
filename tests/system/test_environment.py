"""Variables of launchers: which processes they describe, which count as absent or are refused."""

import os

import pytest

from acoustic_kd.system import environment
from acoustic_kd.system.environment import PROCESS_VARIABLES, Processes, processes
from acoustic_kd.system.errors import UserError

ADDRESS = "MASTER_ADDR=localhost MASTER_PORT=29500"


@pytest.fixture
def variables(monkeypatch):
    """A function that sets variables, given as a shell writes them, and no others of launchers."""
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    return lambda text: os.environ.update(word.split("=") for word in text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Processes()),
        ("PMI_SIZE=4 PMI_RANK=2", Processes()),
        ("OMPI_COMM_WORLD_SIZE=2 SLURM_NTASKS=2 MASTER_ADDR=a", Processes()),
        ("RANK= WORLD_SIZE= LOCAL_RANK= LOCAL_WORLD_SIZE=", Processes()),
        ("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1", Processes()),
        ("LOCAL_WORLD_SIZE=8", Processes()),
        (f"RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 {ADDRESS}", Processes(5, 8, 4)),
        (f"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 {ADDRESS}", Processes(1, 2, 2)),
    ],
)
def test_a_process_knows_its_place(variables, text, expected):
    variables(text)
    assert processes() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RANK=abc", "variable RANK is 'abc', which is no process number; unset it"),
        ("WORLD_SIZE=²", "WORLD_SIZE is '²'"),
        ("LOCAL_RANK=-1", "LOCAL_RANK is '-1'"),
        ("LOCAL_WORLD_SIZE=x", "LOCAL_WORLD_SIZE is 'x'"),
        ("WORLD_SIZE=2", "has WORLD_SIZE=2, but no RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT;"),
        ("LOCAL_RANK=3", "has LOCAL_RANK=3, but no RANK, WORLD_SIZE"),
        ("RANK=1 WORLD_SIZE=2 LOCAL_RANK=1", "but no MASTER_ADDR, MASTER_PORT"),
        (f"RANK=1 WORLD_SIZE=1 LOCAL_RANK=0 {ADDRESS}", "RANK=1 WORLD_SIZE=1 LOCAL_RANK=0, which"),
        (f"RANK=1 WORLD_SIZE=2 LOCAL_RANK=3 {ADDRESS}", "contradict each other"),
        (f"RANK=0 WORLD_SIZE=0 LOCAL_RANK=0 {ADDRESS}", "contradict each other"),
        (f"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=1 {ADDRESS}", "contradict"),
        (f"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=0 {ADDRESS}", "contradict"),
    ],
)
def test_variables_that_make_no_sense_are_refused(variables, text, expected):
    variables(text)
    with pytest.raises(UserError, match=expected):
        processes()


def test_accelerate_and_torchrun_do_not_see_what_they_would_misread(variables):
    variables("PMI_SIZE=4 OMPI_COMM_WORLD_SIZE=2 LOCAL_RANK= WORLD_SIZE=1 OMP_NUM_THREADS=abc")
    environment.prepare_for_accelerate()
    assert os.environ.keys() <= {"PATH", "PYTEST_CURRENT_TEST"}
    several = f"RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 OMP_NUM_THREADS=3 {ADDRESS}"
    variables(f"{several} LOCAL_WORLD_SIZE= PMI_SIZE=4")
    environment.prepare_for_accelerate()
    kept = {word.split("=")[0] for word in several.split()}
    assert os.environ.keys() - {"PATH", "PYTEST_CURRENT_TEST"} == kept

    variables("PET_NNODES=2 PET_STANDALONE=0")
    environment.prepare_for_torchrun(threads=7)
    assert os.environ["OMP_NUM_THREADS"] == "3" and "PET_NNODES" not in os.environ
    for wrong in ("abc", "0", ""):
        os.environ["OMP_NUM_THREADS"] = wrong
        environment.prepare_for_torchrun(threads=7)
        assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_wrong_variable_changes_no_experiment(finished_recipe, monkeypatch, refusal):
    """Neither does one that only Accelerate reads: it is looked at before output is deleted."""
    for name in PROCESS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = finished_recipe.files()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for stage in ("train", "report"):
        assert "has WORLD_SIZE=2" in refusal(finished_recipe, stage, "train.epochs=1")
    monkeypatch.delenv("WORLD_SIZE")

    def broken(**options):
        raise ValueError("invalid truth value maybe\nmore")

    monkeypatch.setattr("acoustic_kd.training.processes.Accelerator", broken)
    for stage, more in (
        ("train", "train.epochs=1"),
        ("soft-targets", "soft_targets.temperature=7"),
    ):
        error = refusal(finished_recipe, stage, more)
        assert "Accelerate cannot start (invalid truth value maybe); check" in error
    assert finished_recipe.files() == before


def test_a_folder_of_data_in_an_unknown_home_is_refused(monkeypatch):
    monkeypatch.setenv("ACOUSTIC_KD_DATA", "~no-such-user/data")
    with pytest.raises(UserError, match="~no-such-user/data', whose home folder is unknown"):
        environment.data_folder()
