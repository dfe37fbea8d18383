"""recipes/*.sh: they set up the checkout, then run a verb with the same arguments."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from scripts import REPOSITORY

from acoustic_kd.experiment.stages import STAGES

SCRIPTS = ["run", "mnist"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose set-up and program print their arguments."""
    folder = tmp_path / "the repository"
    shutil.copytree(REPOSITORY / "recipes", folder / "recipes", symlinks=True)
    make_program(folder / "tools/setup.sh", 'printf "set up%s\\n" "$*"')
    make_program(folder / ".venv/bin/acoustic-kd", 'printf "<%s>" "$@"')
    return folder


def make_program(path: Path, command: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def run(checkout, script, *arguments):
    command = ["bash", checkout / "recipes" / f"{script}.sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout.parent, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_arguments_are_passed_on_unchanged(checkout, script):
    arguments = ["--exp-dir", "a b", "--config", "../c.yaml", "lm.text=x y"]
    expected = "".join(f"<{word}>" for word in [script, *arguments])
    assert run(checkout, script, *arguments) == f"set up\n{expected}"


@pytest.fixture
def not_installed(checkout):
    setup = '[ "$1" = --dry-run ] && echo "would install" && exit 1; echo installed'
    make_program(checkout / "tools/setup.sh", setup)
    return checkout


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_installs_nothing_and_names_the_options(not_installed, script, option):
    printed = run(not_installed, script, option)
    assert f"recipes/{script}.sh" in printed and "installed" not in printed
    assert "--config" in printed and "--exp-dir" in printed and "--data-dir" in printed
    assert "set -euo" not in printed and "#" not in printed


def test_a_dry_run_installs_nothing(not_installed):
    expected = "would install\nafter that, all stages that are out of date would run\n"
    assert run(not_installed, "run", "--stage", "train", "--dry-run") == expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_that_of_the_verb_once_it_is_installed(checkout, script):
    assert run(checkout, script, "--help").endswith(f"<{script}><--help>")


def test_the_workflow_has_every_stage():
    text = (REPOSITORY / "recipes/Snakefile").read_text(encoding="utf-8")
    lists = re.findall(r"^(STAGES|DIVIDED) \+?= (\[.*\])$", text, re.MULTILINE)
    found = {
        name: [s for n, part in lists if n == name for s in json.loads(part)] for name, _ in lists
    }
    assert found["STAGES"] == list(STAGES)
    assert found["DIVIDED"] == [stage.name for stage in STAGES.values() if stage.parts]


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed")
def test_the_workflow_is_a_chain_of_all_jobs(tmp_path):
    snakefile = str(REPOSITORY / "recipes/Snakefile")
    command = ["snakemake", "--snakefile", snakefile, "--dry-run", "--cores", "1"]
    config = ["--config", "recipe=an4", "data_dir=a b", "jobs=3"]
    done = subprocess.run(
        [*command, *config], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE))
    assert counts.pop("total") == str(len(STAGES) + 4 * 3 + 1)
    assert counts.pop("all") == "1"
    for stage in STAGES.values():
        name = stage.name.replace("-", "_")
        assert counts.pop(name) == "1" and counts.pop(f"{name}_job", None) == (
            "3" if stage.parts else None
        )
    assert not counts
