"""tools/unseen_words.py: what an open vocabulary is worth."""

import unseen_words
from acoustic_kd.corpora.utterances import read_manifest
from unseen_words import Unseen, count


def test_count():
    references = {"a": ["THE", "ZEBRA", "SAT"], "b": ["GNU"], "c": ["THE", "CAT"], "d": ["EMU"]}
    found = {"a": ["THE", "ZEBRA", "SAD"], "b": ["THE"], "c": ["THE", "CAT", "HE"], "d": []}
    known = {"THE", "SAT", "CAT", "SAD"}
    assert count(references, found, known) == Unseen(words=7, errors=4, new=3, right=1, made=2)


def test_a_finished_experiment(finished_recipe, monkeypatch, capsys, tmp_path):
    folder = str(finished_recipe.directory)
    monkeypatch.setattr("sys.argv", ["unseen_words.py", folder, "--system", "ensemble"])
    assert unseen_words.main() == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"| {finished_recipe.directory.name} | ")
    spoken = read_manifest(finished_recipe.directory / "corpus" / "test.jsonl")
    (tmp_path / "text").write_text(" ".join(u.text for u in spoken))
    more = ["--text", str(tmp_path / "text"), "--system", "distilled-01"]
    monkeypatch.setattr("sys.argv", ["unseen_words.py", folder, *more])
    assert unseen_words.main() == 0
    assert " | 0 (0.0%) | 0 (0%) | " in capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setattr("sys.argv", ["unseen_words.py", str(tmp_path)])
    assert unseen_words.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
