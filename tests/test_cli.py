"""The command line itself: exit statuses, one line an error, and no traceback."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Program
from scripts import REPOSITORY

from acoustic_kd import launch
from acoustic_kd.cli import STAGE_VERBS
from acoustic_kd.experiment.options import experiment_of
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.version import __version__


def test_help_names_every_stage_in_order(command):
    status, out, error = command("--help")
    assert (status, error) == (0, "")
    numbers = [out.index(f"stage {n}: {text}") for n, text in enumerate(STAGE_VERBS.values())]
    assert numbers == sorted(numbers) and all(name in out for name in STAGES)
    assert list(STAGE_VERBS) == list(STAGES)
    assert command("--version")[1] == f"acoustic-kd {__version__}\n"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help_with_an_example(command, stage):
    status, out, _ = command(stage, "--help")
    assert status == 0 and STAGE_VERBS[stage] in out
    assert f"acoustic-kd {stage} --config" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--exp"], "expected one argument"),
        (["train", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["graph", "--shard", "0/2"], "unrecognized arguments: --shard"),  # it makes one thing
        (["train", "--num-processes", "two"], "invalid int value: 'two'"),
        (["train", "model.widht=3"], "unknown setting 'model.widht'; did you mean 'model.width'?"),
        (["train", "model.width"], "expected KEY.SUBKEY=VALUE"),
        (["train", "train.epochs=0"], "setting 'train.epochs' is 0; it must be 1 or more"),
        (
            ["train", "--config", "/nowhere/a.yaml"],
            "/nowhere/a.yaml: there is no such file; the package has settings for an4, ",
        ),
        (["corpus", "--exp-dir", "/dev/null/exp"], "/dev/null"),
        (["corpus", "--exp-dir", ""], "argument --exp-dir: '' is empty; give a path"),
        (["corpus", "--data-dir", ""], "argument --data-dir: '' is empty; give a path"),
        (["corpus", "--config", ""], "argument --config: '' is empty; give a path"),
        (["mnist", "--config="], "argument --config: '' is empty; give a path"),
        (["compare", "a", "b", "--out="], "argument --out: '' is empty; give a path"),
        (["corpus", "--exp-dir=a", "--data-dir=./a"], "a: both the folder of the experiment and c"),
        (
            ["run", "--num-processes", "9" * 11],
            "--num-processes is 99999999999; it must be 1 to 1024",
        ),
        (["corpus", "--exp-dir=~/exp"], "'~/exp' begins with ~, which the shell did not replace"),
        (["tr\x1b[2Jain\n"], r"invalid choice: 'tr\x1b[2Jain\n'"),
        (["train", "--a\nb"], r"unrecognized arguments: --a\nb"),
    ],
)
def test_a_wrong_command_is_one_line(command, arguments, expected):
    status, out, error = command(*arguments)
    assert (status, out) == (2, "")
    assert expected in error and "Traceback" not in error
    assert error.startswith("acoustic-kd") and error.endswith("\n") and error.count("\n") == 1


def test_the_command_of_the_results_has_no_folders_of_this_machine(monkeypatch):
    more = ["model.width=48", "lm.text=/home/me/novels.txt.gz"]
    expected = "recipes/run.sh --config recipes/conf/demo.yaml model.width=48"
    monkeypatch.chdir(REPOSITORY)
    command = described("recipes/conf/demo.yaml", *more).command
    assert command == f"{expected} lm.text=novels.txt.gz"
    assert described(str(REPOSITORY / "recipes/conf/demo.yaml"), *more).command == command


def described(config, *overrides):
    """The experiment of a command line."""
    given = {"config": Path(config), "data_dir": None, "exp_dir": None, "overrides": overrides}
    return experiment_of(argparse.Namespace(**given))


def test_settings_of_the_package_have_names(tmp_path, monkeypatch):
    here = {path.stem for path in (REPOSITORY / "recipes" / "conf").glob("*.yaml")}
    assert {"demo", "an4", "mnist"} <= here
    of_file = described(str(REPOSITORY / "recipes/conf/an4.yaml"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "an4").mkdir()  # the corpus, perhaps
    found = described("an4")
    assert found.config == of_file.config and found.config.corpus.name == "an4"
    assert found.command == "recipes/run.sh --config an4 --data-dir DIR"
    assert found.directory == of_file.directory == Path("exp/an4")


def test_a_file_takes_precedence_over_settings_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("an4").write_text("model: {width: 7}")
    assert described("an4").config.model.width == 7


def test_windows_is_refused_in_one_line():
    for action in ("import acoustic_kd", "from acoustic_kd.cli import main; main(['--version'])"):
        command = [sys.executable, "-c", f"import sys; sys.platform = 'win32'; {action}"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "acoustic-kd: error: Windows is not supported; use Linux, macOS or WSL\n"
        )


def test_settings_may_stand_on_either_side_of_options(command, tmp_path):
    for arguments in (
        ["train", "model.width=48", "--exp-dir", str(tmp_path / "exp")],
        ["train", "--exp-dir", str(tmp_path / "exp"), "model.width=48"],
        ["train", "model.width=48", "--exp-dir", str(tmp_path / "exp"), "model.layers=2"],
    ):
        assert "'frames' is not done yet" in command(*arguments)[2]


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "acoustic_kd", "train", "--exp-dir", tmp_path / "exp"]
    done = subprocess.run([*command, "model.widht=3"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "acoustic-kd train: error: unknown setting 'model.widht'; did you mean 'model.width'?\n"
    )
    assert not (tmp_path / "exp").exists()


# --- several processes --------------------------------------------------------------------------


def test_wrong_usage_of_the_launcher(capsys):
    wrong = ("0", "x", "²", "1_0", "-1", "1025", "99999999999", "")
    assert {launch.main([count, "train"]) for count in wrong} == {launch.main(["2"])} == {2}
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.slow
def test_a_verb_that_fails_on_two_processes_is_one_line(tmp_path):
    folder = tmp_path / "exp"
    arguments = ["2", "train", "--exp-dir", str(folder)]
    status, errors = Program(tmp_path / "output", arguments, function=launch.main).end()
    assert status == 2
    errors = [line for line in errors.splitlines() if line.strip()]
    assert len(errors) == 1 and "'frames' is not done yet; run stage 4" in errors[0]
    assert not folder.exists()
