"""`report.html`: on its own, with the figures of `results.json`, whatever was recognised."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from html_pages import every, read_page, section, tables
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.reports.frame_sections import MISSING, confusion_picture, pooled
from acoustic_kd.reports.pages import report_page
from acoustic_kd.reports.results import Measurement
from acoustic_kd.reports.sentences import differing_sentences, mark_errors
from acoustic_kd.verbs.report import unseen_words

SYSTEMS = ("baseline", "control", "ensemble", "distilled")
HOSTILE = '<script>alert("1")</script>&lt;"><img src=x onerror=alert(1)>{{7*7}}'
WORDS = st.lists(st.sampled_from(["A", "B", "C", "D"]), max_size=8)


@pytest.fixture(scope="module")
def folder(finished_recipe):
    return finished_recipe.directory


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(folder):
    return read_page((folder / "report.html").read_text(encoding="utf-8"))


def test_it_has_its_sections_and_all_systems(page):
    titles = [heading.text() for name in ("h2", "summary") for heading in page.all(name)]
    expected = [
        "Results", "Training", "Size, speed, memory", "Decoded sentences", "Soft targets",
        "Frame accuracy by phone", "What soft targets know", "Calibration",
    ]  # fmt: skip
    assert titles[: len(expected)] == expected
    assert {"Every model", "Settings"} <= set(titles)
    models = [row[0] for row in tables(section(page, "models"))[0][1:]]
    assert models == ["member-01", "member-02", "control", "ensemble", "distilled-01"]
    assert page.all("html")[0].attributes["lang"] == "en"
    for picture in page.all("svg"):
        assert picture.attributes["role"] == "img" and picture.attributes["aria-label"]


def test_its_figures_are_those_of_the_results(page, results):
    table, differences = tables(section(page, "results"))
    for row, system in zip(table[1:], results["systems"], strict=True):
        accuracy, wer = system["frame_accuracy"], system["wer"]
        assert row[0].startswith(system["name"])
        assert row[2] == f"{accuracy['dev']:.2f}" and row[3].startswith(f"{accuracy['test']:.2f}")
        assert row[4] == f"{wer['dev']['percent']:.2f}"
        assert row[5].startswith(f"{wer['test']['percent']:.2f}")
        low, high = wer["test"]["ci95"]
        assert row[6] == f"{low:.1f} … {high:.1f}"
        drawn = [text.text() for text in section(page, "results").all("text")]
        assert f"{accuracy['test']:.2f}" in drawn and f"{wer['test']['percent']:.2f}" in drawn
    for row in differences[1:]:
        pair = results["differences"]["frame_accuracy"]["pairs"][row[0]]
        assert row[1] == f"{pair['points']:+.2f}"
        assert row[3] == f"{100 * pair['probability_better']:.0f} %"
    cost = tables(section(page, "cost"))[0]
    for row, system in zip(cost[1:], results["systems"], strict=True):
        assert row[:2] == [system["name"], str(system["members"])]
        assert row[-1] == f"{system['real_time_factor']:.3f}"


def test_frame_figures_agree_with_what_was_measured(folder, page, results):
    shown = {row[0]: row for row in tables(section(page, "calibration"))[0][1:]}
    for system in results["systems"]:
        percent = float(shown[system["name"]][1])
        assert percent == pytest.approx(system["frame_accuracy"]["test"], abs=0.006)
    for model in results["each_model"]:
        place = folder / "decode" / model["name"]
        found = json.loads((place / "frames.json").read_text(encoding="utf-8"))
        measured = Measurement(**json.loads((place / "measurement.json").read_text()))
        right, total = map(sum, zip(*measured.frames["test"].values(), strict=True))
        assert (found["right"], found["frames"]) == (right, total)
        assert ("examples" in found) == (model["name"] == "ensemble")
        for row in found["phones"].values():
            assert sum(row["taken_for"].values()) == row["frames"] >= row["right"]
            assert 0.9 < sum(row["mass"].values()) < 1.001
        for example in found.get("examples", []):
            label = example["senones"][example["senone"]]
            assert example["temperatures"] == [1, 2, 5, 10] and len(label) == 4
            assert label[0] == max(p for p, *_ in example["senones"].values())
            assert label == sorted(label, reverse=True)  # warmer is flatter
    phones = {row[0] for row in tables(section(page, "confusions"))[0][1:]}
    assert phones == set(found["phones"])


def test_new_words_are_those_that_train_lacks(folder, results):
    train, test = (
        [word for u in read_manifest(folder / "corpus" / f"{split}.jsonl") for word in words_of(u)]
        for split in ("train", "test")
    )
    assert results["new_words"]["new"] == sum(word not in set(train) for word in test)


def test_words_of_the_language_models_text_are_not_new(folder, tmp_path):
    experiment = open_experiment(folder)
    (tmp_path / "text").write_text("ZEBRAS SLEEP\nGNUS SLEEP\n", encoding="utf-8")

    def unseen(**lm):
        config = replace(experiment.config, lm=replace(experiment.config.lm, **lm))
        return unseen_words(replace(experiment, config=config), {"ZEBRAS", "GNUS", "EMUS"})

    assert unseen() == {"ZEBRAS", "GNUS", "EMUS"}
    assert unseen(text=str(tmp_path / "text")) == {"EMUS"}
    assert unseen(arpa="lm.arpa") is None


def words_of(utterance):
    return (utterance.text or "").split()


def test_curves_and_soft_targets_are_those_of_the_files(folder, page):
    curves = section(page, "training").all("polyline")
    assert len(curves) == 4 * 3  # two members, control, distilled model: in each of three pictures
    stored = dict(tables(section(page, "soft-targets"))[0][1:])
    paths = (folder / "soft_targets").glob("shard*.json")
    entries = [json.loads(path.read_text()) for path in paths]
    assert stored["frames"] == f"{sum(e['frames'] for e in entries):,}"
    kept = sum(e["measured"]["kept_mass"] * e["frames"] for e in entries)
    assert stored["kept mass"] == f"{100 * kept / sum(e['frames'] for e in entries):.2f} %"


def test_hostile_words_stay_words(folder, results, tmp_path):
    copy = tmp_path / "<exp>"
    shutil.copytree(folder, copy)
    path = copy / "decode" / "distilled-01" / "test.txt"
    names = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(f"{name} {HOSTILE}\n" for name in names), encoding="utf-8")
    manifest = copy / "corpus" / "test.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    rows = [row | {"text": f"{row['text']} {HOSTILE}"} for row in rows]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    frames = copy / "decode" / "ensemble" / "frames.json"
    text = frames.read_text(encoding="utf-8")
    name = json.loads(text)["examples"][0]["senone"]
    frames.write_text(text.replace(json.dumps(name), json.dumps(HOSTILE)), encoding="utf-8")
    changed = results | {"corpus": HOSTILE, "command": HOSTILE}
    page = read_page(report_page([copy], changed))
    assert page.all("h1")[0].text().startswith(HOSTILE)
    assert HOSTILE in [text.text() for text in page.all("text")]
    sentences = [e.text() for e in every(section(page, "sentences")) if e.name == "dd"]
    assert sum(" ".join(HOSTILE.split()) in text for text in sentences) >= 2
    assert not page.all("script") and not page.all("img")


def test_sections_whose_files_are_missing_say_so_in_a_line(folder, results, tmp_path):
    copy = tmp_path / "exp"
    shutil.copytree(folder, copy)
    (copy / "decode" / "member-02" / "frames.json").unlink()
    for path in copy.glob("distilled/*/metrics.jsonl"):
        path.unlink()
    shutil.rmtree(copy / "soft_targets")
    (copy / "decode" / "ensemble" / "test.txt").unlink()
    (copy / "graph" / "graph.json").unlink()
    page = read_page(report_page([copy], {k: v for k, v in results.items() if k != "minutes"}))
    for name in ("phones", "confusions", "calibration"):
        assert [p.text() for p in section(page, name).all("p")] == [f"exp: {MISSING}"]
    assert len(section(page, "training").all("polyline")) == 2 * 3
    assert "are missing" in section(page, "sentences").text()
    assert "were deleted" in section(page, "soft-targets").text()
    for path in copy.glob("members/*/metrics.jsonl"):
        path.unlink()
    page = read_page(report_page([copy], results))
    assert "metrics.jsonl is missing" in section(page, "training").text()


@given(WORDS, WORDS)
def test_marked_words_are_the_hypothesis_and_the_reference(reference, hypothesis):
    found = mark_errors(reference, hypothesis)
    assert [word for mark, word in found if mark != "deleted"] == hypothesis
    said = [word for mark, word in found if mark in ("", "deleted")]
    assert said == list(_kept(found, reference))
    if reference == hypothesis:
        assert {mark for mark, _ in found} <= {""}


def _kept(found, reference):
    """The reference's words that are not replaced, by going along both."""
    place = 0
    for mark, word in found:
        if mark == "inserted":
            continue
        if mark != "substituted":
            assert reference[place] == word
            yield word
        place += 1
    assert place == len(reference)


def test_sentences_where_systems_differ_are_counted_and_shown():
    references = {"u1": ["A", "B"], "u2": ["A"], "u3": ["C"], "u4": ["D"]}
    one = {"u1": ["B"], "u2": ["A"], "u3": ["X"], "u4": ["D"]}
    other = {"u1": ["A", "B"], "u2": ["A", "A"], "u3": ["Y"], "u4": ["D"]}
    note, *parts = differing_sentences(references, {"m": one, "d": other}, "m", "d", ("m", "d"))
    assert "differ in 3 of 4 test utterances: d has fewer errors in 1, more in 1, as many in" in (
        note.text
    )
    shown = [part for part in parts if part.kind == "sentence"]
    assert [sentence.utterance for sentence in shown] == ["u1", "u2", "u3"]
    assert shown[0].systems["m"] == [("deleted", "A"), ("", "B")]
    assert shown[1].systems["d"].count(("inserted", "A")) == 1
    assert shown[2].systems["d"] == [("substituted", "Y")]


def test_the_most_confused_phones_come_first():
    def phone(frames, taken, mass):
        return {"frames": frames, "right": 0, "taken_for": taken, "mass": mass}

    picture = confusion_picture(
        {
            "phones": {
                "B": phone(100, {"B": 60, "P": 40}, {"B": 0.5, "P": 0.3, "D": 0.2}),
                "S": phone(100, {"S": 100}, {"S": 0.75, "Z": 0.25}),
                "ZH": phone(3, {"S": 3}, {"S": 1.0}),  # too few frames to tell
            }
        }
    )
    found = [text for text in re.findall(r">([^<]+)</text>", picture.svg) if ", " in text]
    assert [pair for pair in found if "%" not in pair] == ["B, P", "S, Z", "B, D"]
    assert confusion_picture({"phones": {"S": phone(100, {"S": 100}, {"S": 1.0})}}) is None


def test_figures_of_several_models_are_pooled():
    def figures(right, surprise):
        bins = [{"frames": 10, "right": right, "confidence": 5.0}]
        phones = {"B": {"frames": 10, "right": right, "taken_for": {}, "mass": {}}}
        return {
            "frames": 10, "right": right, "cross_entropy": surprise, "real_time_factor": 0.5,
            "bins": bins, "phones": phones,
        }  # fmt: skip

    found = pooled([figures(4, 1.0), figures(6, 2.0)])
    assert (found["frames"], found["right"], found["cross_entropy"]) == (20, 10, 1.5)
    assert found["bins"] == [{"frames": 20, "right": 10, "confidence": 10.0}]
    assert found["phones"]["B"] == {"frames": 20, "right": 10}
