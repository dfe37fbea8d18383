"""The search: known sentences come back, and lattices answer for all weights."""

import itertools
import multiprocessing
from dataclasses import replace

import kaldi_decoder
import kaldifst
import numpy as np
import pytest
import spelled_graphs as spelling
from composition import best_path, read_fst, word_hash
from spelled_graphs import SENONES, WIDE, WORDS

from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.decoding.graph.fst import to_kaldifst
from acoustic_kd.decoding.search import Decoder, Search, SearchSettings
from acoustic_kd.decoding.workers import decoder_pool
from acoustic_kd.system.errors import UserError


def noisy(words, seed, noise=6.0, contrast=8.0):
    """[T, K] log-likelihoods of words that are hard to hear."""
    rng = np.random.default_rng(seed)
    path = spelling.spell(words, SENONES, rng)
    matrix = spelling.loglikes(path, SENONES.num_senones, contrast)
    return matrix + noise * rng.standard_normal(matrix.shape).astype(np.float32)


def test_log_likelihoods_that_spell_a_sentence_decode_to_it(graph_dir):
    decoder = Decoder(graph_dir)
    rng = np.random.default_rng(0)
    sentences = [["B", "B"], ["A"], ["OH", "OH", "OH"], ["BEET", "BEETLE"], ["B", "EAT"]]
    sentences += [list(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(40)]
    for words in sentences:
        path = spelling.spell(words, SENONES, rng)
        lattice = decoder.lattice(spelling.loglikes(path, SENONES.num_senones, 200.0))
        assert lattice.reached_final
        assert lattice.best(10.0) == words
        assert lattice.num_frames == len(path)


@pytest.mark.parametrize("piece", [1, 7, 60])
def test_frames_in_pieces_give_the_lattice_of_the_whole(graph_dir, piece):
    decoder = Decoder(graph_dir, WIDE)
    matrix = noisy(["BEETLE", "B", "EAT", "OH"], 3)
    search = Search(decoder)
    for first in range(0, len(matrix), piece):
        search.advance(matrix[first : first + piece])
    assert search.num_frames == len(matrix)
    found, expected = search.lattice(), decoder.lattice(matrix)
    for name in ("source", "target", "word", "level", "senone", "graph", "acoustic", "final"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_words_so_far_are_those_of_the_best_path(graph_dir):
    settings = replace(WIDE, beam=10)
    decoder = Decoder(graph_dir, settings)
    matrix = noisy(["B", "EAT", "BEETLE", "OH", "A"], 1, noise=1.0)
    search, compared = Search(decoder), 0
    for number, row in enumerate(matrix, start=1):
        search.advance(row[None])
        lattice = decoder.lattice(matrix[:number])
        if not lattice.reached_final:  # else the cost of ending counts, too
            assert search.partial() == lattice.best(1 / settings.acoustic_scale)
            compared += len(search.partial()) > 1
    assert compared > 5


def test_every_weight_gives_the_best_path_of_the_graph(tmp_path):
    """A sweep of a wide lattice equals exact decoding with each pair of weights."""
    senones = spelling.inventory(2)
    spelling.arpa_uniform(tmp_path / "lm.arpa")
    build_graph(spelling.LEXICON, tmp_path / "lm.arpa", senones, tmp_path / "g")
    rng = np.random.default_rng(7)
    path = spelling.spell(["B", "OH"], senones, rng)
    matrix = spelling.loglikes(path, senones.num_senones, 4.0)
    matrix += 4 * rng.standard_normal(matrix.shape).astype(np.float32)
    lattice = Decoder(tmp_path / "g", WIDE).lattice(matrix)
    pairs = [(weight, penalty) for weight in (2.0, 5.0, 12.0) for penalty in (-1.0, 0.0, 2.0)]
    answers = set()
    for (weight, penalty), arcs in zip(pairs, lattice.best_arcs(pairs), strict=True):
        fst = read_fst(tmp_path / "g" / "HCLG.fst")
        fst.arcs["weight"] += penalty * (fst.arcs["olabel"] > 0)
        expected, words = best_path(fst, matrix.astype(np.float64) / weight)
        cost = lattice.graph[arcs].sum() + lattice.acoustic[arcs].sum() / weight
        cost += penalty * np.count_nonzero(lattice.word[arcs])
        cost += lattice.final[lattice.target[arcs[-1]]]
        np.testing.assert_allclose(cost, expected, rtol=1e-4)
        assert int(word_hash(lattice.word[arcs]).sum()) == words
        labels = lattice.word[arcs][lattice.word[arcs] > 0]
        assert lattice.best(weight, penalty) == [lattice.words[label] for label in labels]
        answers.add(words)
    assert len(answers) > 1


def test_the_search_finds_what_kaldi_decoder_finds(graph_dir):
    fst = to_kaldifst(read_fst(graph_dir / "HCLG.fst"))
    scale = 0.2
    for seed in range(8):
        matrix = noisy(list(np.random.default_rng(seed).choice(WORDS, size=5)), seed)
        lattice = Decoder(graph_dir, WIDE).lattice(matrix)
        reference = kaldi_decoder.FasterDecoder(fst, kaldi_decoder.FasterDecoderOptions(beam=40))
        reference.decode(kaldi_decoder.DecodableCtc(matrix * np.float32(scale)))
        _, best = reference.get_best_path()
        _, _, labels, weight = kaldifst.get_linear_symbol_sequence(best)
        arcs = lattice.best_arcs([(1 / scale, 0.0)])[0]
        cost = lattice.graph[arcs].sum() + scale * lattice.acoustic[arcs].sum()
        cost += lattice.final[lattice.target[arcs[-1]]]
        np.testing.assert_allclose(cost, weight.value1 + weight.value2, rtol=1e-4)
        assert lattice.best(1 / scale) == [lattice.words[label] for label in labels]


def test_limits_narrow_the_lattice_but_keep_the_best_path(graph_dir):
    matrix = noisy(["BEET", "OH", "A", "TEAL", "EAT"], 1, noise=3.0)
    narrow = SearchSettings(beam=12, max_active=200, lattice_beam=4, acoustic_scale=0.2)
    small = Decoder(graph_dir, narrow).lattice(matrix)
    large = Decoder(graph_dir, WIDE).lattice(matrix)
    assert len(small.source) < len(large.source) / 4
    few = replace(WIDE, max_lattice_arcs=20)
    limited = Decoder(graph_dir, few).lattice(matrix)
    assert len(limited.source) <= 20 * (len(matrix) + 1) < len(large.source)
    assert small.best(5.0) == limited.best(5.0) == large.best(5.0)


def test_levels_order_the_lattice_and_every_arc_leads_to_the_end(graph_dir):
    lattice = Decoder(graph_dir).lattice(noisy(["OH", "B", "B"] * 12, 2))
    assert lattice.num_frames > 100  # more than one pruning on the way
    assert np.all(np.diff(lattice.level) >= 0)
    level = np.zeros(len(lattice.final), int)
    level[lattice.target] = lattice.level
    assert np.all(level[lattice.source] < lattice.level)
    has_end = np.isfinite(lattice.final)
    has_end[lattice.source] = True
    assert has_end.all()


def test_an_utterance_that_ends_too_early_gives_its_best_part(graph_dir):
    path = spelling.spell(["BEETLE", "OH"], SENONES, np.random.default_rng(0), pauses=False)
    decoder = Decoder(graph_dir)
    matrix = spelling.loglikes(path, SENONES.num_senones, 200.0)
    for frames, words in ((len(path), ["BEETLE", "OH"]), (0, [])):
        assert decoder.lattice(matrix[:frames]).best(10.0) == words
    cut = decoder.lattice(matrix[:-1][: len(path) - 4])
    assert not cut.reached_final
    assert cut.best(10.0)[:1] == ["BEETLE"]
    assert not decoder.lattice(matrix[:1]).reached_final


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_wrong_log_likelihoods_are_refused(graph_dir, value):
    decoder = Decoder(graph_dir)
    with pytest.raises(UserError, match="utt7: log-likelihoods of shape"):
        decoder.lattice(np.zeros((3, 5), np.float32), "utt7")
    matrix = np.zeros((9, SENONES.num_senones), np.float32)
    matrix[4, 4] = value
    with pytest.raises(UserError, match=r"utt7: .*not finite"):
        decoder.lattice(matrix, "utt7")


def test_a_lattice_that_would_not_fit_in_memory_is_refused_while_searching(graph_dir, monkeypatch):
    decoder = Decoder(graph_dir)
    matrix = noisy(["OH", "B", "B"] * 16, 3)
    assert len(matrix) > 150
    enough = decoder.lattice(matrix)
    monkeypatch.setattr("acoustic_kd.decoding.search.free_host_memory", lambda: 100)
    message = rf"utt7: the lattice of {len(matrix) / 100:.0f} s of speech would take .* GB"
    with pytest.raises(UserError, match=message):
        decoder.lattice(matrix, "utt7")
    short = decoder.lattice(matrix[:90])
    assert short.num_frames == 90
    monkeypatch.setattr("acoustic_kd.decoding.search.free_host_memory", lambda: None)
    again = decoder.lattice(matrix)  # nothing is left behind by what was refused
    for field in ("source", "target", "word", "graph", "acoustic", "final"):
        np.testing.assert_array_equal(getattr(again, field), getattr(enough, field))


def test_any_number_of_processes_gives_the_same_in_the_same_order(graph_dir):
    items = [(f"u{n}", noisy(["B", "OH", "A"], n)) for n in (3, 1, 2, 5, 4)]
    weights = [(8.0, 0.5), (8.0, 0.5), (1.0, -2.0)]
    with decoder_pool(graph_dir) as decode:
        in_one = decode(iter(items), weights)
    with pytest.raises(UserError, match="bad: "), decoder_pool(graph_dir, jobs=2) as decode:
        in_two = decode(iter(items[:2]), weights) | decode(iter(items[2:]), weights)
        decode([("bad", np.zeros((2, 2), np.float32))], weights)
    assert not multiprocessing.active_children()
    assert list(in_one) == list(in_two) == [name for name, _ in items]
    decoder = Decoder(graph_dir)
    for name, matrix in items:
        lattice = decoder.lattice(matrix)
        for result in (in_one[name], in_two[name]):
            assert result.words == [lattice.best(*pair) for pair in weights]
            assert result.reached_final == lattice.reached_final
            assert result.num_frames == lattice.num_frames and result.seconds > 0
            assert result.words[0] is result.words[1]  # the same words, one list


def test_a_sweep_gives_what_each_setting_gives_alone(graph_dir):
    lattice = Decoder(graph_dir).lattice(noisy(["BEET", "A", "OH"] * 10, 0))
    settings = list(itertools.product(range(1, 17, 3), (-9, -1, 0, 0.5, 2, 9)))
    swept = lattice.best_of_all(settings)
    assert swept == [lattice.best(*setting) for setting in settings]
    assert len({tuple(words) for words in swept}) > 1
