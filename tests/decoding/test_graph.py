"""The decoding graph: exactness against kaldifst's composition, path costs, files and refusals."""

import json
import re
import tempfile
from pathlib import Path

import kaldi_decoder
import kaldifst
import numpy as np
import pytest
import spelled_graphs as spelling
from composition import best_path, composed_alignment, composed_graph, from_kaldifst, read_fst
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.alignment.viterbi import alignment_graph
from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.decoding.graph.contexts import contexts_of
from acoustic_kd.decoding.graph.fst import to_kaldifst
from acoustic_kd.decoding.graph.hmm_states import self_loop_probability
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.system.errors import UserError

WORDS = sorted(spelling.LEXICON.entries)
SEEDS = st.integers(0, 2**32 - 1)


def random_lexicon(rng):
    """Few phones, so that words begin alike, sound alike, or are the beginning of others."""
    phones = [f"P{n}" for n in range(rng.integers(1, 5))]
    entries = {}
    for number in range(rng.integers(1, 9)):
        prons = {
            tuple(rng.choice(phones, size=min(rng.integers(1, 6), rng.integers(1, 6))).tolist())
            for _ in range(rng.integers(1, 3))
        }
        entries[f"w{number}"] = tuple(sorted(prons))
    return Lexicon(entries), ("SIL", *phones)


def random_inventory(rng, phones):
    """Random senones, which some phones share; silence depends on context in half of the cases."""
    count, senones = len(phones), int(rng.integers(3, 40))
    left, right = (rng.integers(rng.integers(1, 4), size=count) for _ in range(2))
    by_class = rng.integers(senones, size=(3, count, 3, 3))
    table = by_class[left[:, None, None], np.arange(count)[:, None], right]
    if rng.random() < 0.5:
        table[:, 0] = [0, 1, 2]
    return spelling.FakeInventory(phones, table.astype(np.int32), senones)


def random_arpa(rng, words, path):
    """A back-off model of order 1 to 4 with random numbers."""
    order = int(rng.integers(1, 5))
    levels = [[("<s>",), ("</s>",), *((word,) for word in words)]]
    while len(levels) < order:
        longer = [
            (*ngram, *last)
            for ngram in levels[-1]
            for last in levels[0]
            if ngram[-1] != "</s>" and last != ("<s>",) and rng.random() < 0.25
        ]
        levels.append(longer[:60])
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, start=1))]
    for n, level in enumerate(levels, start=1):
        lines += ["", f"\\{n}-grams:"]
        for ngram in level:
            backoff = f"\t{-rng.random():.6f}" if n < order and rng.random() < 0.9 else ""
            lines.append(f"{-2 * rng.random():.6f}\t{' '.join(ngram)}{backoff}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))


def check_equal_best_paths(rng, built, composed, num_senones, utterances=4):
    """Compare the best paths of random utterances of every length."""
    for _ in range(utterances):
        loglikes = rng.standard_normal((rng.integers(1, 50), num_senones)).astype(np.float32)
        loglikes *= rng.choice([1, 8])
        path, expected = best_path(built, loglikes), best_path(composed, loglikes)
        assert (path is None) == (expected is None)
        if path is not None:
            np.testing.assert_allclose(path[0], expected[0], rtol=1e-5, atol=0.02)
            assert path[1] == expected[1]


@settings(max_examples=16, derandomize=True)
@given(SEEDS)
def test_random_models_have_equal_best_paths(seed):
    rng = np.random.default_rng(seed)
    lexicon, phones = random_lexicon(rng)
    senones = random_inventory(rng, phones)
    durations = rng.uniform(1, 20, senones.num_senones)
    silence = float(rng.choice([0.1, 0.5, 0.8]))
    spoken = [(word, pron) for word, prons in lexicon.entries.items() for pron in prons]
    costs = {entry: rng.uniform(0, 3) for entry in spoken if rng.random() < 0.5}
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder, "lm.arpa")
        random_arpa(rng, list(lexicon.entries), arpa)
        build_graph(lexicon, arpa, senones, Path(folder, "g"), durations, silence, costs=costs)
        built = read_fst(Path(folder, "g", "HCLG.fst"))
        words = list(lexicon.entries)
        composed = composed_graph(lexicon, words, arpa, senones, durations, silence, costs)
    check_equal_best_paths(rng, built, composed, senones.num_senones)
    assert len(built.final) <= 3 * len(composed.final) + 20


@settings(max_examples=10, derandomize=True)
@given(SEEDS)
def test_random_transcripts_have_equal_best_paths(seed):
    rng = np.random.default_rng(seed)
    lexicon, phones = random_lexicon(rng)
    senones = random_inventory(rng, phones)
    words = rng.choice(list(lexicon.entries), size=rng.integers(0, 6)).tolist()
    built = from_kaldifst(alignment_graph(lexicon, words, senones, silence_probability=0.3))
    check_equal_best_paths(
        rng, built, composed_alignment(lexicon, words, senones, 0.3), senones.num_senones
    )


def graph(tmp_path, senones, **settings):
    spelling.arpa_uniform(tmp_path / "lm.arpa")
    build_graph(spelling.LEXICON, tmp_path / "lm.arpa", senones, tmp_path / "g", **settings)
    return read_fst(tmp_path / "g" / "HCLG.fst")


def test_path_costs_are_those_of_the_models(tmp_path):
    """B OH from a uniform unigram, one pause between: every factor computed by hand."""
    senones = spelling.inventory(1)
    duration = np.linspace(1.5, 6, senones.num_senones)
    loop = 1 - 1 / duration
    fst = to_kaldifst(graph(tmp_path, senones, mean_duration=duration, silence_probability=0.2))
    index = [senones.phones.index(p) for p in ("B", "IY", "SIL", "OW")]
    states = [senones.table[0, phone, 0, s] for phone in index for s in range(3)]
    frames = np.arange(12) % 4 + 1
    loglikes = spelling.loglikes(np.repeat(states, frames), senones.num_senones, 100.0)
    decoder = kaldi_decoder.FasterDecoder(fst, kaldi_decoder.FasterDecoderOptions(beam=500))
    decoder.decode(kaldi_decoder.DecodableCtc(loglikes))
    _, _, outputs, weight = kaldifst.get_linear_symbol_sequence(decoder.get_best_path()[1])
    assert [WORDS[label - 1] for label in outputs] == ["B", "OH"]
    hmm = sum(
        (n - 1) * np.log(loop[s]) + np.log(1 - loop[s]) for s, n in zip(states, frames, strict=True)
    )
    # No silence at the start, silence after B, none after OH.
    pauses = np.log(0.8) + np.log(0.2) + np.log(0.8)
    words = 3 * np.log(1 / (len(WORDS) + 1))
    np.testing.assert_allclose(weight.value1, -(hmm + pauses + words), rtol=1e-4)


def test_self_loop_probabilities_are_limited():
    found = self_loop_probability(np.array([1.0, 2.0, 4.0, 300.0]), 4)
    np.testing.assert_allclose(found, [0.01, 0.5, 0.75, 0.99])


def test_files_are_the_same_each_time_and_complete(tmp_path):
    senones = spelling.inventory(2)
    graph(tmp_path, senones)
    first = (tmp_path / "g" / "HCLG.fst").read_bytes()
    names = {path.name for path in (tmp_path / "g").iterdir()}
    assert names == {"HCLG.fst", "graph.json", "words.txt"}
    summary = json.loads((tmp_path / "g" / "graph.json").read_text())
    fst = graph(tmp_path, senones)
    assert (tmp_path / "g" / "HCLG.fst").read_bytes() == first
    assert summary["states"] == len(fst.final)
    assert (summary["words"], summary["senones"]) == (len(WORDS), senones.num_senones)
    lines = (tmp_path / "g" / "words.txt").read_text().splitlines()
    assert lines[:2] == ["<eps> 0", "A 1"]
    assert lines[-1] == f"</s> {len(WORDS) + 3}"


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("no pronunciation of a, b, c, d, e and 3 more", {"words": tuple("abcdefgh")}),
        ("phones ZH are not in the senone inventory", {"lexicon": {"A": (("ZH",),)}}),
        ("mean_duration", {"mean_duration": np.ones(3)}),
        ("silence_probability", {"silence_probability": 1.0}),
        ("no words in it", {"words": ()}),
        ("cut short", {"cut": 10}),
    ],
)
def test_input_that_does_not_fit_is_refused(tmp_path, message, change):
    lexicon = Lexicon(spelling.LEXICON.entries | change.pop("lexicon", {}))
    path = tmp_path / "lm.arpa"
    spelling.arpa_uniform(path, change.pop("words", tuple(WORDS)))
    path.write_text(path.read_text()[: -change.pop("cut", 1)])
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        build_graph(lexicon, path, spelling.inventory(1), tmp_path / "g", **change)
    assert "\n" not in str(caught.value) and not (tmp_path / "g").exists()


def test_triphones_are_joined_where_their_senones_are_the_same():
    table = np.random.default_rng(0).integers(0, 3, (6, 6, 6, 3)).astype(np.int32)
    table[:, 2], table[1] = table[0, 2], table[3]
    found = contexts_of(spelling.FakeInventory(tuple("ABCDEF"), table, 5))
    np.testing.assert_array_equal(found.senones, np.unique(table.reshape(-1, 3), axis=0))
    np.testing.assert_array_equal(found.senones[found.hmm[found.pair]], table)
    assert (found.centre[found.pair] == np.arange(6)).all()
    assert len({*found.pair[:, 2]}) == 1 and (found.pair[1] == found.pair[3]).all()
