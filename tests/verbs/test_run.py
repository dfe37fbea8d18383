"""`acoustic-kd run`: which stages it runs, in which order, and on how many processes."""

import os
import signal
import sys
import threading

import pytest
from waiting import wait_until

from acoustic_kd.cli import main
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.system.signals import Stopped, raise_on_sigterm
from acoustic_kd.verbs import run as run_verb

NAMES = list(STAGES)


@pytest.fixture
def calls(monkeypatch):
    """Instead of running a stage, note its name and how many processes it has."""
    noted = []
    monkeypatch.setattr(run_verb, "run_stage", lambda _, name: noted.append((name, 1)))

    def launch(processes, arguments):
        noted.append((arguments[0], processes, *arguments[1:]))
        return 0

    monkeypatch.setattr(run_verb, "_launch", launch)
    return noted


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], NAMES),
        (["--stage", "5", "--stop-stage", "distill"], NAMES[5:9]),
        (["--stage", "graph"], NAMES[9:]),
        (["--stop-stage", "0"], NAMES[:1]),
    ],
)
def test_stages_are_given_by_number_or_name(calls, capfd, arguments, expected):
    assert main(["run", *arguments]) == 0
    assert [name for name, _ in calls] == expected
    out = capfd.readouterr().out
    assert out.startswith("English sentences") or "demo" in out  # what the settings file says
    assert all(f"stage {NAMES.index(name)}: {name}\n" in out for name in expected)


def test_distributed_stages_run_on_several_processes(calls, tmp_path):
    settings = ["--exp-dir", str(tmp_path), "--data-dir", "d", "model.width=9"]
    assert main(["run", "--num-processes", "3", "--stage", "frames", *settings]) == 0
    described = ("--config", "demo", *settings)
    many = {name for name, stage in STAGES.items() if stage.distributed}
    assert many == {"train", "soft-targets", "distill"}
    expected = [(n, 3, *described) if n in many else (n, 1) for n in NAMES[4:]]
    assert calls == expected


def test_a_stage_that_fails_ends_the_run_with_its_status(calls, monkeypatch):
    monkeypatch.setattr(run_verb, "_launch", lambda processes, arguments: 143)
    assert main(["run", "--num-processes", "2"]) == 143
    assert [name for name, *_ in calls] == NAMES[: NAMES.index("train")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--config"], "expected one argument"),
        (["an4"], "setting 'an4': expected KEY.SUBKEY=VALUE"),
        (["--stage", "trian"], "no stage 'trian'; stages are 0 (corpus) to 11 (report)"),
        (["--stage", "12"], "no stage '12'"),
        (["--stop-stage", ""], "no stage ''"),
        (["--stage", "train", "--stop-stage", "align"], "--stage train comes after --stop-stage"),
        (["--num-processes", "0"], "--num-processes is 0; it must be 1 to 1024"),
        (["--num-processes", "1025"], "--num-processes is 1025; it must be 1 to 1024"),
        (["--num-processes", "two"], "invalid int value: 'two'"),
        (["train.epochs=0"], "setting 'train.epochs' is 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(calls, command, arguments, expected):
    status, out, error = command("run", *arguments)
    assert (status, out, calls) == (2, "", [])
    assert error.startswith("acoustic-kd") and expected in error
    assert error.count("\n") == 1


def test_a_dry_run_makes_nothing(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    arguments = ("--dry-run", "--stop-stage", "align", "--num-processes", "2")
    status, out, _ = command("run", *arguments)
    assert status == 0
    assert "stage 0: corpus\n  would run: no output yet\nstage 1: features\n" in out
    assert list(tmp_path.iterdir()) == []


def test_stages_that_are_out_of_date_run_in_one_process(finished_recipe, tmp_path, capfd):
    recipe = finished_recipe.copy(tmp_path / "exp")
    (tmp_path / "no.yaml").touch()
    options = ["--config", str(tmp_path / "no.yaml"), *recipe.arguments("run", "lm.order=2")[1:]]
    assert main(["run", "--stage", "graph", *options]) == 0
    out = capfd.readouterr().out
    assert out.count("  done in ") == 3 and (recipe.directory / "report.html").is_file()
    assert main(["run", *options]) == 0
    assert capfd.readouterr().out.count("  up to date\n") == len(NAMES)


@pytest.mark.parametrize("status", [0, 2])
def test_the_status_of_the_launcher_is_returned(monkeypatch, tmp_path, status):
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"exit {status}"))
    assert run_verb._launch(2, ["train"]) == status


def test_sigterm_ends_the_launcher_first(monkeypatch, tmp_path):
    script = f"trap 'echo ended >{tmp_path}/ended; exit 143' TERM; touch {tmp_path}/begun"
    monkeypatch.setattr(sys, "executable", program(tmp_path, f"{script}; sleep 60 & wait"))

    def terminate():
        wait_until((tmp_path / "begun").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(Stopped), raise_on_sigterm():
        run_verb._launch(2, ["train"])
    thread.join()
    assert (tmp_path / "ended").exists()


def program(folder, command):
    """A program that runs a shell command, whatever its arguments."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return str(path)
