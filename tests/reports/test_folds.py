"""Results of several folds as one."""

import json
import re
import shutil
from dataclasses import asdict

import pytest
from html_pages import read_page, section, tables
from measurements import REFERENCES, RIGHT, SPEAKERS, WORDS, measurement, results_of

from acoustic_kd.cli import main
from acoustic_kd.corpora.utterances import Utterance, write_manifest
from acoustic_kd.reports.folds import pool_folds
from acoustic_kd.system.files import write_json, write_text


def write_fold(folder, prefix):
    """The tiny test set of the report's tests, its utterances and speakers renamed."""
    made = {"command": f"make {prefix}", "minutes": {"train": 1.25, "decode": 0.5}}
    write_json(folder / "results.json", results_of(WORDS, RIGHT) | made)
    rows = [
        Utterance(prefix + name, prefix + SPEAKERS[name], "/none.wav", " ".join(words))
        for name, words in REFERENCES.items()
    ]
    write_manifest(folder / "corpus" / "test.jsonl", rows)
    for name, words in WORDS.items():
        found = asdict(measurement(name, words, RIGHT[name]))
        found["frames"]["test"] = {prefix + u: n for u, n in found["frames"]["test"].items()}
        write_json(folder / "decode" / name / "measurement.json", found)
        lines = [f"{prefix}{u} {' '.join(text)}\n" for u, text in words.items()]
        write_text(folder / "decode" / name / "test.txt", "".join(lines))
    return folder


@pytest.fixture(scope="module")
def three_folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    for name in "abc":
        write_fold(folder / name, name)
    return folder


@pytest.fixture
def folds(three_folds, tmp_path):
    shutil.copytree(three_folds, tmp_path, dirs_exist_ok=True)
    return [tmp_path / name for name in "abc"]


def test_errors_and_words_are_summed_and_rates_stay(folds):
    one, pooled = results_of(WORDS, RIGHT), pool_folds(folds)
    assert pooled["folds"] == 3 and len(pooled["speakers"]) == 6
    for before, after in zip(one["systems"], pooled["systems"], strict=True):
        for key in ("errors", "words", "insertions"):
            assert after["wer"]["test"][key] == 3 * before["wer"]["test"][key]
        for value in ("dev", "test"):
            expected = before["wer"][value]["percent"]
            assert after["wer"][value]["percent"] == pytest.approx(expected)
            accuracy = before["frame_accuracy"][value]
            assert after["frame_accuracy"][value] == pytest.approx(accuracy)
        assert after["models"] == before["models"]
        low, high = after["wer"]["test"]["ci95"]
        assert high - low < 50
    assert pooled["differences"]["wer"]["drawn"] == "speakers"
    assert pooled["minutes"] == {"train": 3.75, "decode": 1.5}
    assert pooled["command"].splitlines()[:3] == ["make a", "make b", "make c"]
    json.dumps(pooled, allow_nan=False)


def drop_a_model(folds):
    path = folds[1] / "results.json"
    results = json.loads(path.read_text())
    write_json(path, results | {"each_model": results["each_model"][1:]})


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (None, "a", "two experiments or more"),
        (None, "aa", "test utterance 'au1' belongs to another fold, too"),
        (lambda folds: shutil.rmtree(folds[1]), "ab", "results.json: cannot be read"),
        (drop_a_model, "ab", "b: its systems differ from those of .*a; give folds"),
        (
            lambda folds: shutil.rmtree(folds[2] / "decode" / "ensemble"),
            "ac",
            "measurement.json: cannot be read",
        ),
    ],
)
def test_refusals(folds, tmp_path, capsys, change, names, message):
    if change:
        change(folds)
    directories = [str(folds["abc".index(name)]) for name in names]
    assert main(["folds", *directories, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("acoustic-kd folds: error: ") and error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_the_verb_writes_results_and_a_report_of_all_folds(folds, tmp_path):
    assert main(["folds", *map(str, folds), "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results == json.loads(json.dumps(pool_folds(folds)))
    assert (tmp_path / "out" / "results.md").read_text().startswith("# ")
    page = read_page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    table, differences = tables(section(page, "results"))
    for row, system in zip(table[1:], results["systems"], strict=True):
        assert row[1].startswith(f"{system['wer']['test']['percent']:.2f}")
    assert len(differences) == 1 + 5
    assert [row[0] for row in tables(section(page, "folds"))[0][1:]] == [*"aaaabbbbcccc"]
    assert len(tables(section(page, "speakers"))[0]) == 1 + len(results["speakers"])
