"""The benchmarks: their arguments and tables, and that they measure what they say."""

import json
import sys
from collections.abc import Sequence

import gpu_step
import parallel_training
import pytest
import torch
import training

import bench
from acoustic_kd.system.errors import UserError


def measure(folder: str, name: str = "a", *, speeds: Sequence[float] = (1234.4,), mb: float = 1.5):
    """Measures nothing."""
    for speed in speeds:
        if speed < 0:
            raise UserError(f"{folder}: the speed is negative")
        yield {"name": name, "speed": speed / speed * speed, "empty": None, "hidden": mb}


COLUMNS = {"name": "net", "speed": "frames/s|,.0f", "empty": "empty|.2f"}


def run(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["x/bench.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        bench.main(measure, COLUMNS)
    return end.value.code


def test_a_table_is_printed_and_written_with_its_command(tmp_path, capsys, monkeypatch):
    path = tmp_path / "rows.json"
    assert run(monkeypatch, "/x/y.txt", "--speeds", 1234.4, 2, "--json", path, "--mb", 3) == 0
    table = "| net | frames/s | empty |\n| --- | --- | --- |\n| a | 1,234 |  |\n| a | 2 |  |"
    assert capsys.readouterr().out == f"{table}\n"
    contents = json.loads(path.read_text())
    assert contents["command"] == "tools/bench/bench.py y.txt --speeds 1234.4 2 --mb 3"
    assert contents["table"] == table and contents["rows"][0]["hidden"] == 3
    assert contents["machine"]["cores"] >= 1


def test_parameters_are_arguments_with_their_defaults(capsys, monkeypatch):
    assert run(monkeypatch, "folder", "b") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| b | 1,234 |  |"
    assert run(monkeypatch) == 2
    assert run(monkeypatch, "folder", "--speeds", "fast") == 2


def test_an_error_is_one_line_and_writes_nothing(tmp_path, capsys, monkeypatch):
    assert run(monkeypatch, "x", "--speeds", 1, -1, "--json", tmp_path / "rows.json") == 2
    error = "tools/bench/bench.py: error: x: the speed is negative\n"
    assert capsys.readouterr().err == error
    monkeypatch.setattr(sys, "argv", ["bench.py", "x", "--speeds", "0", "--json", "rows.json"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        bench.main(measure, COLUMNS)
    assert not list(tmp_path.iterdir())


def test_a_time_is_that_of_one_call():
    calls = []
    assert bench.best_time(lambda: calls.append(1), repeats=2, min_seconds=1e-3) < 1e-4
    assert len(calls) > 10


@pytest.mark.parametrize(
    ("text", "sizes"), [("2x30:10", [784, 30, 30, 10]), ("1x8:99", [1040, 8, 99])]
)
def test_training_is_measured_on_shards_of_the_nets_frames(tmp_path, text, sizes):
    assert training.Net.parse(text, 32, tmp_path).sizes == sizes
    (row,) = training.measure(nets=[text], batch=32, steps=4, kept=5)
    assert row["share"] == row["speed"] / row["bound"] > 0
    assert row["gain"] == row["speed"] / row["plain"] > 0


@pytest.mark.slow
def test_a_step_on_a_gpu_is_measured_in_all_its_parts():
    rows = {row["what"]: row for row in gpu_step.measure(tiny=True)}
    parts = "windows", "lookup of soft targets", "forward pass", "loss and its gradient"
    steps = [f"step of {batch} frames" for batch in gpu_step.TINY.batches]
    assert all(rows[name]["share"] > 0 for name in (*parts, *steps, "checkpoint"))
    assert rows["loss in float32 against float64"]["holds"] == "yes"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_is_refused():
    with pytest.raises(UserError, match="needs an NVIDIA or AMD GPU; --tiny tests it without one"):
        next(gpu_step.measure())


def test_trainings_of_several_models_are_timed():
    (row,) = parallel_training.measure(models=1, nets=["1x8:10"], batch=32, steps=4, kept=5)
    assert row["ratio"] == row["turns"] / row["side"] > 0


def test_all_benchmarks_whose_inputs_are_given_run_once(tmp_path, capsys, monkeypatch):
    commands = []
    contents = {"command": "c", "machine": bench.machine(), "table": "| t |", "rows": []}

    def run_script(*words):
        commands.append(words)
        (tmp_path / "out" / words[-1].split("/")[-1]).write_text(json.dumps(contents))
        return 0

    monkeypatch.setattr(bench, "run_script", run_script)
    options = {"only": ["loss", "tree", "graph"], "out": tmp_path / "out"}
    assert bench.run_all(**options) == 0
    assert [words[0] for words in commands] == ["loss.py"]
    assert "tree: skipped; give experiment to run it" in capsys.readouterr().out
    assert bench.run_all("EXP", **options) == 0
    assert len(commands) == 2 and commands[1][:2] == ("tree.py", "EXP")
    assert (tmp_path / "out" / "performance.md").read_text().count("| t |") == 2
    assert bench.run_all("EXP", **options, page=tmp_path / "page.md") == 0 and len(commands) == 2
    assert (tmp_path / "page.md").read_text().startswith("# Performance")
    with pytest.raises(UserError, match="--only los: no such benchmark; give training-small, "):
        bench.run_all(only=["los"], out=tmp_path / "out")
