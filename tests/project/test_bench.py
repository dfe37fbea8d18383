"""The benchmarks: their tables, and that they measure what they say."""

import json
import sys

import pytest
import suite
import tables
import training


def test_a_table_is_printed_row_by_row_and_written_with_its_command(tmp_path, capsys, monkeypatch):
    path = tmp_path / "rows.json"
    monkeypatch.setattr(
        sys, "argv", ["x/loss.py", "--text", "/x/y.txt", "--json", str(path), "--kept", "1"]
    )
    with tables.Table({"name": "net|", "speed": "frames/s|,.0f"}, path) as table:
        table.add({"name": "a", "speed": 1234.4, "hidden": 1})
        assert capsys.readouterr().out.splitlines()[-1] == "| a | 1,234 |"
        table.add({"name": "b", "speed": None})
    found = json.loads(path.read_text())
    assert found["command"] == "tools/bench/loss.py --text y.txt --kept 1"
    assert found["rows"][0]["hidden"] == 1
    assert found["table"] == ("| net | frames/s |\n| --- | --- |\n| a | 1,234 |\n| b |  |")
    assert found["machine"]["cores"] >= 1


def test_nothing_is_written_of_a_benchmark_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), tables.Table({}, tmp_path / "rows.json") as table:
        table.add({"x": 1 / 0})
    assert not list(tmp_path.iterdir())


def test_a_time_is_that_of_one_call():
    calls = []
    assert tables.best_time(lambda: calls.append(1), rounds=2, least=1e-3) < 1e-4
    assert len(calls) > 10


@pytest.mark.parametrize(
    ("text", "sizes"), [("2x30:10", [784, 30, 30, 10]), ("1x8:99", [1040, 8, 99])]
)
def test_training_is_measured_on_shards_of_the_nets_frames(text, sizes):
    assert training.Net.of(text).sizes == sizes
    row = training.measure(text, batch=32, steps=4, kept=5)
    assert row["share"] == row["speed"] / row["bound"] > 0
    assert row["gain"] == row["speed"] / row["plain"] > 0


def test_trainings_of_several_models_are_timed():
    row = training.measure_models("1x8:10", batch=32, steps=4, kept=5, models=1)
    assert row["ratio"] == row["turns"] / row["side"] > 0


def test_the_suite_leaves_out_what_it_has_nothing_for(tmp_path, capsys, monkeypatch):
    commands = []
    table = {"command": "c", "machine": tables.machine(), "table": "| t |", "rows": []}

    def run(command):
        commands.append(command)
        (tmp_path / "out" / command[-1].split("/")[-1]).write_text(json.dumps(table))
        return 0

    monkeypatch.setattr(suite, "run", run)
    arguments = ["suite.py", "--only", "loss", "tree", "graph", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert suite.main() == 0
    assert [command[1].split("/")[-1] for command in commands] == ["loss.py"]
    assert "tree: left out, for it needs experiment" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "EXP"])
    assert suite.main() == 0
    assert len(commands) == 2 and commands[1][2] == "EXP"  # what is there is not measured again
    assert (tmp_path / "out" / "performance.md").read_text().count("| t |") == 2
    monkeypatch.setattr(sys, "argv", [*arguments, "EXP", "--page", str(tmp_path / "page.md")])
    assert suite.main() == 0 and len(commands) == 2
    assert (tmp_path / "page.md").read_text().startswith("# Performance")
