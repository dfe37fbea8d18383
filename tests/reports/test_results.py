"""The comparison of baseline, ensemble and distilled model: golden figures of a tiny test set."""

import json
from math import sqrt

import numpy as np
import pytest
from measurements import RIGHT, WORDS, measurement, results_of
from pytest import approx

from acoustic_kd.reports import tables
from acoustic_kd.reports.results import count_new_words, differences, kind_pairs, last_epoch_gain


@pytest.fixture(scope="module")
def results():
    return results_of(WORDS, RIGHT)


def system(results, name):
    return next(s for s in results["systems"] if s["name"] == name)


def test_names_are_text_in_markdown():
    rows = tables.as_markdown(
        [["speaker"], ["a|b"], ["<script>&"], ["[x](y) `*\\"], ["a\nb\x1b_c"]]
    )
    assert rows[2:] == [
        r"| a\|b |", "| &lt;script&gt;&amp; |", r"| \[x\](y) \`\*\\ |", r"| a\\nb\\x1b_c |",
    ]  # fmt: skip


def test_a_measurement_adds_up_what_it_is_given():
    found = measurement("member-01", WORDS["member-01"], (6, 10))
    assert found.accuracy("test") == approx(100 * 16 / 30)
    assert found.real_time_factor["dev"] == approx(0.003 / 0.30)
    assert found.unfinished == {"dev": 1, "test": 1}
    assert found.wer["test"]["percent"] == approx(40)


@pytest.mark.parametrize(
    ("name", "sizes", "accuracy", "wer", "deviations"),
    [
        ("baseline", (2, 1, 1_500_000), 55, 30, approx((100 / 30 / sqrt(2), 20 / sqrt(2)))),
        ("ensemble", (1, 2, 3_000_000), 70, 10, (None, None)),
        ("distilled", (1, 1, 700_000), 100 * 19 / 30, 20, (None, None)),
    ],
)
def test_a_system_is_the_mean_over_its_models(results, name, sizes, accuracy, wer, deviations):
    found = system(results, name)
    assert (found["models"], found["members"], found["parameters"]) == sizes
    for split in ("dev", "test"):
        assert found["frame_accuracy"][split] == approx(accuracy)
        assert found["wer"][split]["percent"] == approx(wer)
    assert (found["frame_accuracy"]["sd"], found["wer"]["test"]["sd"]) == deviations


def test_errors_of_all_members_are_added(results):
    wer = system(results, "baseline")["wer"]["test"]
    assert (wer["errors"], wer["words"]) == (6, 20)
    assert (wer["substitutions"], wer["insertions"], wer["deletions"]) == (1, 2, 3)


def test_every_word_error_rate_lies_in_its_interval(results):
    for each in results["systems"]:
        low, high = each["wer"]["test"]["ci95"]
        assert 0 <= low <= each["wer"]["test"]["percent"] <= high <= 100


def test_the_share_of_the_gain_that_is_kept(results):
    assert results["gain_kept"]["frame_accuracy"] == approx((19 / 30 - 0.55) / (0.7 - 0.55))
    assert results["gain_kept"]["wer"] == approx((30 - 20) / (30 - 10))
    over_control = results["gain_kept_over_control"]
    assert over_control["frame_accuracy"] == approx((19 - 18) / (21 - 18))
    assert over_control["wer"] == approx((3 - 2) / (3 - 1))
    for key in ("gain_kept", "gain_kept_over_control"):
        low, high = results[f"{key}_ci95"]["frame_accuracy"]
        assert low <= results[key]["frame_accuracy"] <= high


def without_control(systems):
    return {name: value for name, value in systems.items() if name != "control"}


def test_the_distilled_model_is_compared_with_its_control(results):
    frames, words = results["differences"]["frame_accuracy"], results["differences"]["wer"]
    assert frames["pairs"]["distilled over control"]["points"] == approx(100 / 30)
    assert frames["pairs"]["ensemble over control"]["points"] == approx(100 * 3 / 30)
    assert words["pairs"]["distilled over control"]["points"] == approx(10)
    text = "\n".join(tables.gain_summary(results))
    assert "frame accuracy: the distilled model is 3.33 points better than the control" in text
    assert "WER: the distilled model is 10.00 points better than the control" in text
    assert "33 % of the ensemble's gain over the control is kept" in text


@pytest.mark.parametrize(
    ("right", "words"),
    [((7, 12), "so no gain is shown"), ((9, 14), "so it is worse"), ((1, 2), "points better")],
)
def test_a_gain_over_the_control_is_claimed_only_where_it_is_shown(right, words):
    found = results_of(WORDS, RIGHT | {"control": right})
    assert words in tables.gain_summary(found)[0]
    assert ("so " in tables.gain_summary(found)[0]) == words.startswith("so ")


def test_without_a_control_the_table_says_what_it_cannot_tell():
    results = results_of(without_control(WORDS), without_control(RIGHT))
    assert [s["name"] for s in results["systems"]] == ["baseline", "ensemble", "distilled"]
    assert "gain_kept_over_control" not in results
    assert tables.gain_summary(results)[0] == (
        "there is no control (distill.hard_baseline=false): a gain may come from longer training "
        "instead of soft targets"
    )


@pytest.mark.parametrize(
    ("dev", "gain"),
    [
        ([50.0, 55.0, 55.4], approx(0.4)),
        ([50.0, 55.0, 54.0], approx(-1)),
        ([50.0, 55.0, 52.0, 54.9], approx(-0.1)),  # not over the epoch before alone
        ([50.0], None),
        ([], None),
    ],
)
def test_what_the_last_epoch_gained(dev, gain):
    assert last_epoch_gain([{"epoch": 1, "dev_frame_accuracy": value} for value in dev]) == gain


def test_models_that_were_not_trained_to_the_end_are_named(results):
    gains = {"member-01": 0.31, "member-02": 0.3, "control": -2.0, "distilled-01": 1.0}
    found = results | {"last_epoch_gains": gains}
    assert tables.training_sentences(found) == [
        "warning: member-01 was not trained to convergence: its last epoch gained 0.31 points of "
        "dev frame accuracy; raise train.epochs",
        "warning: distilled-01 was not trained to convergence: its last epoch gained 1.00 points "
        "of dev frame accuracy; raise distill.epochs",
    ]
    for text in (tables.terminal_table(found), tables.markdown(found)):
        assert "member-01 was not trained to convergence" in text
    assert tables.training_sentences(results) == []


@pytest.mark.parametrize(("bfloat16", "name"), [(True, "bfloat16"), (False, "float32")])
def test_the_tables_say_in_which_precision_the_models_were_trained(results, bfloat16, name):
    found = results | {"bfloat16": bfloat16}
    for text in (tables.terminal_table(found), tables.markdown(found)):
        assert f"the models were trained in {name}" in text
    assert "were trained in" not in tables.markdown(results)


def test_each_model_is_listed(results):
    assert [m["name"] for m in results["each_model"]] == list(WORDS)
    for model in results["each_model"]:
        assert (model["lm_weight"], model["insertion_penalty"]) == (9.0, 0.5)
    assert results["corpus"] == "tiny" and results["config_digest"] == "digest"
    json.dumps(results, allow_nan=False)


def test_without_a_gain_no_share_is_kept():
    words, right = without_control(WORDS), without_control(RIGHT)
    alike = results_of({n: WORDS["member-01"] for n in words}, {n: (6, 10) for n in right})
    worse = results_of(words | {"ensemble": {"u1": "", "u2": ""}}, right | {"ensemble": (1, 1)})
    for results in (alike, worse):
        assert results["gain_kept"] == {"frame_accuracy": None, "wer": None}
        assert results["gain_kept_ci95"] == {"frame_accuracy": None, "wer": None}
        for sentence in tables.gain_summary(results)[1:]:
            assert sentence.endswith("does not beat its members, so no share of a gain is given")
        for text in (tables.terminal_table(results), tables.markdown(results)):
            assert "does not beat" in text
    pair = alike["differences"]["wer"]["pairs"]["ensemble over baseline"]
    assert pair["probability_better"] == 0.5


def test_a_single_member_and_several_distilled_models():
    words = {n: WORDS["member-01"] for n in ("member-01", "ensemble", "distilled-01")}
    words["distilled-02"] = WORDS["member-02"]
    results = results_of(words, {n: (6, 10) for n in words} | {"distilled-02": (8, 10)})
    assert system(results, "baseline")["frame_accuracy"]["sd"] is None
    assert system(results, "distilled")["models"] == 2
    assert system(results, "distilled")["frame_accuracy"]["test"] == approx(100 * 17 / 30)
    assert system(results, "distilled")["wer"]["test"]["words"] == 20


def test_the_share_of_the_transfer_set_without_transcripts_is_told_if_there_is_any(results):
    sentence = "transfer set: 2.00 h, 0.50 h (25 %) without transcripts"
    mixed = results | {"transfer_set": {"frames": 720_000, "untranscribed": 180_000}}
    assert tables.transfer_set_summary(mixed) == [sentence]
    assert f"- {sentence}\n" in tables.markdown(mixed)
    assert f"  {sentence}" in tables.terminal_table(mixed)
    for without in (results, results | {"transfer_set": {"frames": 9, "untranscribed": 0}}):
        assert tables.transfer_set_summary(without) == []
        assert "transcripts" not in tables.markdown(without) + tables.terminal_table(without)


def test_the_tables_hold_all_systems(results):
    heading, *rows = tables.table_rows(results)
    names = ["baseline (mean of 2)", "control", "ensemble of 2", "distilled"]
    assert [row[0] for row in rows] == names
    assert all(len(row) == len(heading) for row in rows)
    assert rows[0][1:6] == ["1.50 M", "55.00", "55.00 ± 2.36", "30.00", "30.00 ± 14.14"]
    assert rows[1][1:6] == ["0.70 M", "60.00", "60.00", "30.00", "30.00"]
    assert rows[2][1:6] == ["3.00 M", "70.00", "70.00", "10.00", "10.00"]
    for text in (tables.terminal_table(results), tables.markdown(results)):
        for row in rows:
            assert all(cell in text for cell in row)
        assert "frame accuracy: 56 % of the ensemble's gain over its members is kept" in text
        assert "WER: 50 % of the ensemble's gain over its members is kept" in text
    lines = tables.markdown(results).splitlines()
    assert lines[0] == "# tiny: baseline, control, ensemble, distilled"
    table = [line for line in lines if line.startswith("|")]
    assert [line.count("|") for line in table] == 13 * [8] + 4 * [11]


def test_differences_in_points_with_their_intervals(results):
    frames = results["differences"]["frame_accuracy"]
    assert frames["drawn"] == "utterances"  # of two speakers only
    pair = frames["pairs"]["ensemble over baseline"]
    assert pair["points"] == approx(15)
    # A draw has one utterance twice, or both: 25, 10 or 15 points.
    assert pair["ci95"] == approx([10, 25])
    pair = results["differences"]["wer"]["pairs"]["distilled over ensemble"]
    assert pair["points"] == approx(-10)
    assert pair["ci95"] == approx([-25, 0])
    lines = {row[0]: row for row in tables.difference_table(results["differences"])}
    assert lines["distilled over ensemble"][4:6] == ["+10.00", "+0.00 … +25.00"]
    better = {name: pair["probability_better"] for name, pair in frames["pairs"].items()}
    assert better["ensemble over baseline"] == 1  # in each of the two utterances
    assert better["distilled over ensemble"] == 0
    wer = results["differences"]["wer"]["pairs"]["ensemble over baseline"]
    assert 0.5 < wer["probability_better"] <= 1


def test_enough_speakers_are_drawn_instead_of_utterances():
    errors = np.repeat(np.array([[3, 2, 2], [5, 1, 2], [2, 2, 1], [4, 3, 3], [1, 0, 0]]), 40, 0)
    speakers = np.repeat(list("abcde"), 40)
    totals = np.full(len(errors), 10.0)
    pairs = kind_pairs(["baseline", "ensemble", "distilled"])
    assert pairs["distilled over baseline"] == (2, 0) and len(pairs) == 3
    wide, narrow = (differences(errors, totals, s, pairs) for s in (speakers, ["a"] * len(errors)))
    assert (wide["drawn"], narrow["drawn"]) == ("speakers", "utterances")
    for name, pair in wide["pairs"].items():
        other = narrow["pairs"][name]
        assert pair["points"] == approx(other["points"])
        assert np.ptp(pair["ci95"]) > 2 * np.ptp(other["ci95"])


def test_speakers_of_two_splits_are_told(results):
    row = {"split": "test", "speakers": 3, "shared": 2, "in": "train"}
    assert "2 of 3 test speakers are in train" in tables.markdown(
        results | {"shared_speakers": [row]}
    )
    assert "speakers are in train" not in tables.markdown(results)


def test_new_words_are_counted_and_told_if_there_are_any(results):
    references = {"a": ["THE", "ZEBRA", "SAT"], "b": ["GNU"], "c": ["THE", "CAT"], "d": ["EMU"]}
    member = {"a": ["THE", "ZEBRA", "SAD"], "b": ["THE"], "c": ["THE", "CAT", "GNU"], "d": []}
    transcripts = {"member-01": member, "ensemble": references}
    counts = count_new_words(references, transcripts, {"ZEBRA", "GNU", "EMU"})
    assert counts == {"words": 7, "new": 3, "right": {"member-01": 1, "ensemble": 3}}
    summary = tables.new_word_summary({"new_words": counts})
    assert "3 of 7 test words" in summary[0] and "member-01 1, ensemble 3" in summary[0]
    assert summary[0] in tables.markdown(results | {"new_words": counts})
    none = count_new_words(references, transcripts, set())
    assert none == {"words": 7, "new": 0, "right": {"member-01": 0, "ensemble": 0}}
    assert tables.new_word_summary({"new_words": none}) == tables.new_word_summary(results) == []


def test_each_speaker_has_a_row(results):
    anna, ben = results["speakers"]
    assert (anna["speaker"], anna["words"], anna["utterances"]) == ("anna", 4, 1)
    assert anna["baseline"] == {
        **{"wer": 12.5, "errors": 1, "substitutions": 1, "insertions": 0, "deletions": 0},
        "frame_accuracy": approx(55),
    }
    assert ben["baseline"]["wer"] == approx(100 * 5 / 12)
    assert ben["distilled"]["deletions"] == 1
    assert ben["ensemble"]["frame_accuracy"] == approx(65)
    row = "| anna | 4 | 12.50 | 25.00 | 0.00 | 25.00 | 55.00 | 70.00 | 80.00 | 70.00 |"
    assert row in tables.markdown(results)
    for few_or_many in (results["speakers"][:1], 21 * results["speakers"]):
        assert "anna" not in tables.markdown(results | {"speakers": few_or_many})
