"""The comparison of baseline, ensemble and distilled model: golden figures of a tiny test set."""

import json
from math import sqrt

import numpy as np
import pytest

from acoustic_kd.comparison import difference_table, differences
from acoustic_kd.decoding.decode import Decoded
from acoustic_kd.decoding.scoring import score
from acoustic_kd.report import (
    Measurement,
    gain_sentences,
    make_results,
    markdown,
    table_rows,
    terminal_table,
    transfer_sentences,
)

REFERENCES = {"u1": list("ABCD"), "u2": list("ABCDEF")}
SPEAKERS = {"u1": "anna", "u2": "ben"}
WORDS = {
    "member-01": {"u1": "ABXD", "u2": "ABC"},  # 1 substitution, 3 deletions
    "member-02": {"u1": "ABCD", "u2": "ABCDEFGG"},  # 2 insertions
    "ensemble": {"u1": "ABCD", "u2": "ABCDE"},
    "distilled-01": {"u1": "ABC", "u2": "ABCDE"},
}
RIGHT = {  # of 10 and of 20 frames
    "member-01": (6, 10),
    "member-02": (5, 12),
    "ensemble": (8, 13),
    "distilled-01": (7, 12),
}


def measurement(name, words, right):
    found = Measurement(name, name.split("-")[0].replace("member", "baseline"), 9.0, 0.5)
    for split in ("dev", "test"):
        frames = {"u1": (right[0], 10), "u2": (right[1], 20)}
        decoded = [Decoded([], 10, True, 0.002), Decoded([], 20, False, 0.001)]
        found.add(split, score(REFERENCES, words), frames, decoded)
    return found


def results_of(words, right):
    transcripts = {n: {u: list(text) for u, text in texts.items()} for n, texts in words.items()}
    measurements = [measurement(name, transcripts[name], right[name]) for name in words]
    # As they come back from measurement.json.
    again = [Measurement(**json.loads(json.dumps(vars(m)))) for m in measurements]
    return make_results("tiny", "digest", again, REFERENCES, transcripts, 1_500_000, 2, SPEAKERS)


@pytest.fixture(scope="module")
def results():
    return results_of(WORDS, RIGHT)


def system(results, name):
    return next(s for s in results["systems"] if s["name"] == name)


def test_a_measurement_adds_up_what_it_is_given():
    found = measurement("member-01", WORDS["member-01"], (6, 10))
    assert found.accuracy("test") == pytest.approx(100 * 16 / 30)
    assert found.real_time_factor["dev"] == pytest.approx(0.003 / 0.30)
    assert found.unfinished == {"dev": 1, "test": 1}
    assert found.wer["test"]["percent"] == pytest.approx(40)


def test_the_baseline_is_the_mean_over_members(results):
    baseline = system(results, "baseline")
    assert (baseline["models"], baseline["members"], baseline["parameters"]) == (2, 1, 1_500_000)
    assert baseline["frame_accuracy"]["test"] == pytest.approx(55)
    assert baseline["frame_accuracy"]["dev"] == pytest.approx(55)
    assert baseline["frame_accuracy"]["sd"] == pytest.approx(100 / 30 / sqrt(2))
    wer = baseline["wer"]["test"]
    assert (wer["errors"], wer["words"]) == (6, 20)  # both members together
    assert (wer["substitutions"], wer["insertions"], wer["deletions"]) == (1, 2, 3)
    assert wer["percent"] == baseline["wer"]["dev"]["percent"] == pytest.approx(30)
    assert wer["sd"] == pytest.approx(20 / sqrt(2))


def test_the_ensemble_and_the_distilled_model(results):
    ensemble, distilled = system(results, "ensemble"), system(results, "distilled")
    assert (ensemble["models"], ensemble["members"], ensemble["parameters"]) == (1, 2, 3_000_000)
    assert (distilled["members"], distilled["parameters"]) == (1, 1_500_000)
    assert ensemble["frame_accuracy"]["test"] == pytest.approx(70)
    assert distilled["frame_accuracy"]["test"] == pytest.approx(100 * 19 / 30)
    assert ensemble["wer"]["test"]["percent"] == pytest.approx(10)
    assert distilled["wer"]["test"]["percent"] == pytest.approx(20)
    assert ensemble["frame_accuracy"]["sd"] is distilled["wer"]["test"]["sd"] is None


def test_every_word_error_rate_lies_in_its_interval(results):
    for each in results["systems"]:
        low, high = each["wer"]["test"]["ci95"]
        assert 0 <= low <= each["wer"]["test"]["percent"] <= high <= 100


def test_the_share_of_the_gain_that_is_kept(results):
    assert results["gain_kept"]["frame_accuracy"] == pytest.approx((19 / 30 - 0.55) / (0.7 - 0.55))
    assert results["gain_kept"]["wer"] == pytest.approx((30 - 20) / (30 - 10))
    low, high = results["gain_kept_ci95"]["frame_accuracy"]
    assert low <= results["gain_kept"]["frame_accuracy"] <= high


def test_how_sure_the_differences_are(results):
    frames = results["probability_better"]["frame_accuracy"]
    assert frames["ensemble over baseline"] == 1  # in each of the two utterances
    assert frames["distilled over ensemble"] == 0
    words = results["probability_better"]["wer"]
    assert 0.5 < words["ensemble over baseline"] <= 1


def test_each_model_is_listed(results):
    assert [m["name"] for m in results["each_model"]] == list(WORDS)
    for model in results["each_model"]:
        assert (model["lm_weight"], model["insertion_penalty"]) == (9.0, 0.5)
    assert results["corpus"] == "tiny" and results["config_digest"] == "digest"
    json.dumps(results, allow_nan=False)


def test_without_a_gain_no_share_is_kept():
    alike = results_of({n: WORDS["member-01"] for n in WORDS}, {n: (6, 10) for n in RIGHT})
    worse = results_of(WORDS | {"ensemble": {"u1": "", "u2": ""}}, RIGHT | {"ensemble": (1, 1)})
    for results in (alike, worse):
        assert results["gain_kept"] == {"frame_accuracy": None, "wer": None}
        assert results["gain_kept_ci95"] == {"frame_accuracy": None, "wer": None}
        for sentence in gain_sentences(results):
            assert sentence.endswith("the ensemble is no better than its members")
        assert "no better" in markdown(results) and "no better" in terminal_table(results)
    assert alike["probability_better"]["wer"]["ensemble over baseline"] == 0.5


def test_a_single_member_and_several_distilled_models():
    words = {n: WORDS["member-01"] for n in ("member-01", "ensemble", "distilled-01")}
    words["distilled-02"] = WORDS["member-02"]
    results = results_of(words, {n: (6, 10) for n in words} | {"distilled-02": (8, 10)})
    assert system(results, "baseline")["frame_accuracy"]["sd"] is None
    assert system(results, "distilled")["models"] == 2
    assert system(results, "distilled")["frame_accuracy"]["test"] == pytest.approx(100 * 17 / 30)
    assert system(results, "distilled")["wer"]["test"]["words"] == 20


def test_the_share_of_the_transfer_set_without_transcripts_is_told_if_there_is_any(results):
    said = "transfer set: 2.00 h, of which 0.50 h (25 %) without transcripts"
    mixed = results | {"transfer_set": {"frames": 720_000, "untranscribed": 180_000}}
    assert transfer_sentences(mixed) == [said]
    assert f"- {said}\n" in markdown(mixed) and f"  {said}" in terminal_table(mixed)
    for without in (results, results | {"transfer_set": {"frames": 9, "untranscribed": 0}}):
        assert transfer_sentences(without) == []
        assert "transcripts" not in markdown(without) + terminal_table(without)


def test_the_tables_hold_all_systems(results):
    heading, *rows = table_rows(results)
    assert [row[0] for row in rows] == ["baseline (mean of 2)", "ensemble of 2", "distilled"]
    assert all(len(row) == len(heading) for row in rows)
    assert rows[0][1:6] == ["1.50 M", "55.00", "55.00 ± 2.36", "30.00", "30.00 ± 14.14"]
    assert rows[1][1:6] == ["3.00 M", "70.00", "70.00", "10.00", "10.00"]
    for text in (terminal_table(results), markdown(results)):
        for row in rows:
            assert all(cell in text for cell in row)
        assert "the distilled model keeps 56 % of the ensemble's gain" in text
        assert "WER: the distilled model keeps 50 %" in text
    lines = markdown(results).splitlines()
    assert lines[0] == "# tiny: baseline, ensemble, distilled"
    table = [line for line in lines if line.startswith("|")]
    assert [line.count("|") for line in table] == 10 * [8] + 4 * [9]


def test_differences_in_points_with_their_intervals(results):
    frames = results["differences"]["frame_accuracy"]
    assert frames["drawn"] == "utterances"  # of two speakers only
    pair = frames["pairs"]["ensemble over baseline"]
    assert pair["points"] == pytest.approx(15) and pair["probability_better"] == 1
    # A draw has one utterance twice, or both: 25, 10 or 15 points.
    assert pair["ci95"] == pytest.approx([10, 25])
    pair = results["differences"]["wer"]["pairs"]["distilled over ensemble"]
    assert pair["points"] == pytest.approx(-10)
    assert pair["ci95"] == pytest.approx([-25, 0])
    line = next(row for row in difference_table(results) if row[0] == "distilled over ensemble")
    assert line[4:6] == ["+10.00", "+0.00 … +25.00"]


def test_enough_speakers_are_drawn_instead_of_utterances():
    errors = np.repeat(np.array([[3, 2, 2], [5, 1, 2], [2, 2, 1], [4, 3, 3], [1, 0, 0]]), 40, 0)
    speakers = np.repeat(list("abcde"), 40)
    totals = np.full(len(errors), 10.0)
    wide, narrow = (differences(errors, totals, s) for s in (speakers, len(errors) * ["a"]))
    assert (wide["drawn"], narrow["drawn"]) == ("speakers", "utterances")
    for name, pair in wide["pairs"].items():
        other = narrow["pairs"][name]
        assert pair["points"] == pytest.approx(other["points"])
        assert np.ptp(pair["ci95"]) > 2 * np.ptp(other["ci95"])


def test_each_speaker_has_a_row(results):
    anna, ben = results["speakers"]
    assert (anna["speaker"], anna["words"], anna["utterances"]) == ("anna", 4, 1)
    assert anna["baseline"] == {
        **{"wer": 12.5, "errors": 1, "substitutions": 1, "insertions": 0, "deletions": 0},
        "frame_accuracy": pytest.approx(55),
    }
    assert ben["baseline"]["wer"] == pytest.approx(100 * 5 / 12)
    assert ben["distilled"]["deletions"] == 1
    assert ben["ensemble"]["frame_accuracy"] == pytest.approx(65)
    assert "| anna | 4 | 12.50 | 0.00 | 25.00 | 55.00 | 80.00 | 70.00 |" in markdown(results)
    for few_or_many in (results["speakers"][:1], 21 * results["speakers"]):
        assert "anna" not in markdown(results | {"speakers": few_or_many})
