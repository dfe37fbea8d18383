"""Word error rates worked out by hand, intervals, and the choice of weights."""

import kaldialign
import pytest

from acoustic_kd.decoding.error_listing import MAX_LINE_COLUMNS, write_alignments
from acoustic_kd.decoding.scoring import grid_of, score, tune
from acoustic_kd.system.errors import UserError

REFERENCES = {"u1": ["A", "B", "C", "D"], "u2": ["A", "A"], "u3": [], "u4": ["B"]}
HYPOTHESES = {"u1": ["A", "X", "C"], "u2": ["A", "A", "A"], "u3": ["C"], "u4": ["B"]}


def test_counts_are_right():
    found = score(REFERENCES, HYPOTHESES)
    assert (found.substitutions, found.deletions, found.insertions) == (1, 1, 2)
    assert (found.errors, found.words) == (4, 7)
    assert found.percent == pytest.approx(100 * 4 / 7)


def test_perfect_hypotheses_have_no_errors_and_no_interval():
    found = score(REFERENCES, REFERENCES)
    assert (found.percent, found.errors, found.ci95) == (0.0, 0, (0.0, 0.0))


def test_the_interval_covers_the_rate_and_is_the_same_each_time():
    references = {f"u{n}": ["A"] * 10 for n in range(100)}
    hypotheses = {f"u{n}": ["A"] * (10 - n % 3) for n in range(100)}
    first, second = score(references, hypotheses), score(references, hypotheses)
    assert first == second
    low, high = first.ci95
    assert low < first.percent < high
    # Errors 0, 1, 2 of 10 in turn: standard error of the mean 0.82 / sqrt(100) errors.
    assert high - low == pytest.approx(2 * 1.96 * 0.82, rel=0.1)
    other = kaldialign.bootstrap_wer_ci(list(references.values()), list(hypotheses.values()))
    assert (low, high) == pytest.approx((100 * other["ci95min"], 100 * other["ci95max"]), rel=0.03)


def test_input_that_cannot_be_scored_is_refused():
    with pytest.raises(UserError, match="no hypothesis for u2"):
        score(REFERENCES, {name: [] for name in REFERENCES if name != "u2"})
    with pytest.raises(UserError, match="no words"):
        score({"u": []}, {"u": ["A"]})


def right_at(right, *grid):
    """Hypotheses for the word A, right at some pairs of weights."""
    return {"u": [["A"] if pair in right else ["B"] for pair in grid_of(*grid)]}


def test_tuning_takes_the_least_errors_and_prefers_the_middle():
    weights, penalties = [7, 8, 9, 10, 11], [0.0, 0.5, 1.0]
    references = {"u": ["A"]}

    def best(right):
        found = tune(right_at(right, weights, penalties), references, weights, penalties)
        assert len(found.table) == 15
        return found.lm_weight, found.penalty

    assert best({(7, 1.0)}) == (7, 1.0)
    every = {(w, p) for w in weights for p in penalties}
    assert best(every) == best(set()) == (9, 0.5)
    assert best({(7, 0.0), (11, 1.0), (10, 0.5)}) == (10, 0.5)
    assert best({(8, 0.5), (10, 0.5)}) == (8, 0.5)  # alike: the first
    with pytest.raises(UserError, match="at least one"):
        tune({"u": []}, references, [], penalties)
    with pytest.raises(UserError, match="no hypothesis for u"):
        tune({}, references, weights, penalties)


def test_settings_at_the_edge_of_the_grid_are_reported():
    settings = ["decode.lm_weights", "decode.insertion_penalties"]
    edges = {(7, 1.0): settings, (9, 0.5): settings[:1], (8, 0.0): settings[1:], (8, 0.5): []}
    grid = [9, 8, 7], [0.0, 0.5, 1.0]
    for right, expected in edges.items():
        assert tune(right_at({right}, *grid), {"u": ["A"]}, *grid).edge_settings == expected
    assert not tune({"u": [["A"]]}, {"u": ["A"]}, [7], [0.0]).edge_settings


def test_alignments_are_readable(tmp_path):
    write_alignments(tmp_path / "wer.txt", REFERENCES, HYPOTHESES)
    text = (tmp_path / "wer.txt").read_text()
    head, rest = text.split("\n\n", 1)
    assert head == (
        "WER 57.14 %: 4 errors in 7 words (1 substitutions, 2 insertions, 1 deletions)\n"
        "1 of 4 utterances without an error"
    )
    assert rest.startswith("u1: 2 errors in 4 words\nref A B C D\nhyp A X C ***\n      S   D\n")
    assert "u4: 0 errors in 1 words\nref B\nhyp B\n" in text
    assert text.endswith(
        "\nSubstitutions, the most frequent of 1 kinds:\n     1  B -> X\n"
        "\nDeletions, the most frequent of 1 kinds:\n     1  D\n"
        "\nInsertions, the most frequent of 2 kinds:\n     1  A\n     1  C\n"
    )


def test_long_utterances_are_wrapped_and_frequent_confusions_come_first(tmp_path):
    words = [f"WORD{n}" for n in range(60)]
    heard = ["AND" if n % 3 == 0 else word for n, word in enumerate(words)]
    long = {"long": words, **{f"u{n}": ["THE"] for n in range(5)}}
    write_alignments(tmp_path / "wer.txt", long, {**{n: ["A"] for n in long}, "long": heard})
    lines = (tmp_path / "wer.txt").read_text().splitlines()
    assert max(map(len, lines)) <= MAX_LINE_COLUMNS
    said = " ".join(line[4:] for line in lines if line.startswith("ref WORD"))
    assert said.split() == words
    first = lines.index("Substitutions, the most frequent of 21 kinds:") + 1
    assert lines[first : first + 2] == ["     5  THE -> A", "     1  WORD0 -> AND"]
