"""The decoding graph: what paths it has, what they cost, and input that does not fit together."""

import json
import re
from types import SimpleNamespace

import kaldi_decoder
import kaldifst
import numpy as np
import pytest
import spelled_graphs as spelling

from acoustic_kd.alignment.viterbi import alignment_graph, force_align
from acoustic_kd.decoding.graph.compile import build_graph
from acoustic_kd.decoding.graph.contexts import contexts_of
from acoustic_kd.decoding.graph.fst import from_kaldifst, read_fst, to_kaldifst
from acoustic_kd.language.arpa import read_arpa
from acoustic_kd.language.lexicon import Lexicon, read_lexicon
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.system.errors import UserError

WORDS = sorted(spelling.LEXICON.entries)


def graph(tmp_path, senones, **settings):
    spelling.arpa_uniform(tmp_path / "lm.arpa")
    build_graph(spelling.LEXICON, tmp_path / "lm.arpa", senones, tmp_path / "g", **settings)
    return read_fst(tmp_path / "g" / "HCLG.fst")


def best_path(fst, path, num_senones):
    """Input labels, output labels and graph cost of the best path for a spelled senone path."""
    options = kaldi_decoder.FasterDecoderOptions(beam=500)
    decoder = kaldi_decoder.FasterDecoder(fst, options)
    decoder.decode(kaldi_decoder.DecodableCtc(spelling.loglikes(path, num_senones, 100.0)))
    assert decoder.reached_final()
    _, best = decoder.get_best_path()
    _, inputs, outputs, weight = kaldifst.get_linear_symbol_sequence(best)
    return inputs, outputs, weight.value1


@pytest.mark.parametrize("contexts", [1, 2, 50])
def test_the_best_path_has_the_senone_of_every_frame(tmp_path, contexts):
    senones = spelling.inventory(contexts)
    fst = to_kaldifst(graph(tmp_path, senones))
    rng = np.random.default_rng(contexts)
    for _ in range(10):
        words = list(rng.choice(WORDS, size=rng.integers(1, 7)))
        path = spelling.spell(words, senones, rng)
        inputs, outputs, _ = best_path(fst, path, senones.num_senones)
        assert [label - 1 for label in inputs] == path.tolist()
        # Without contexts B EAT and BEET are alike; with many, words are told apart.
        if contexts == 50:
            assert [WORDS[label - 1] for label in outputs] == words


def test_path_costs_are_those_of_the_models(tmp_path):
    """B OH from a uniform unigram, one pause between: every factor by hand."""
    senones = spelling.inventory(1)
    duration = np.linspace(1.5, 6, senones.num_senones)
    loop = 1 - 1 / duration
    fst = to_kaldifst(graph(tmp_path, senones, mean_duration=duration, silence_probability=0.2))
    index = [senones.phones.index(p) for p in ("B", "IY", "SIL", "OW")]
    states = [senones.table[0, phone, 0, s] for phone in index for s in range(3)]
    frames = np.arange(12) % 4 + 1
    _, outputs, cost = best_path(fst, np.repeat(states, frames), senones.num_senones)
    assert [WORDS[label - 1] for label in outputs] == ["B", "OH"]
    hmm = sum(
        (n - 1) * np.log(loop[s]) + np.log(1 - loop[s]) for s, n in zip(states, frames, strict=True)
    )
    # No silence at the start, silence after B, none after OH.
    pauses = np.log(0.8) + np.log(0.2) + np.log(0.8)
    words = 3 * np.log(1 / (len(WORDS) + 1))
    np.testing.assert_allclose(cost, -(hmm + pauses + words), rtol=1e-4)


def test_a_back_off_model_costs_what_it_says(tmp_path):
    """With a trigram, the cheapest way through G is the model's probability."""
    senones = spelling.inventory(3)
    text = [["B", "OH", "TEA"], ["OH", "TEA", "B"], ["EAT", "BEET"], ["TEAL"]] * 3
    train_lm(text, WORDS, tmp_path / "lm.arpa")
    build_graph(spelling.LEXICON, tmp_path / "lm.arpa", senones, tmp_path / "g")
    fst = to_kaldifst(read_fst(tmp_path / "g" / "HCLG.fst"))
    model = read_arpa(tmp_path / "lm.arpa")
    rng = np.random.default_rng(0)
    for words in (["B", "OH", "TEA"], ["TEAL", "B", "OH", "TEA"], ["OH", "OH"]):
        path = spelling.spell(words, senones, rng, pauses=False)
        _, outputs, cost = best_path(fst, path, senones.num_senones)
        assert [WORDS[label - 1] for label in outputs] == words
        lm = sum(
            model.logprob(("<s>", *words[:i]), word) * np.log(10)
            for i, word in enumerate([*words, "</s>"])
        )
        wanted = -lm - len(path) * np.log(0.5) - (len(words) + 1) * np.log(0.5)
        assert cost <= wanted + 1e-2  # back-off paths may be cheaper than the model's own
        assert cost >= wanted - 0.5


def test_self_loops_are_one_a_state_and_add_up(tmp_path):
    senones = spelling.inventory(4)
    duration = np.random.default_rng(0).uniform(1.0, 300.0, senones.num_senones)
    fst = graph(tmp_path, senones, mean_duration=duration)
    p = np.clip(1 - 1 / duration, 0.01, 0.99)
    is_loop = fst.arcs["nextstate"] == fst.source
    assert len(np.unique(fst.source[is_loop])) == np.count_nonzero(is_loop)
    senone = fst.arcs["ilabel"][is_loop] - 1
    np.testing.assert_allclose(fst.arcs["weight"][is_loop], -np.log(p[senone]), rtol=1e-5)
    # Whatever enters a state with a self-loop has the self-loop's senone.
    of_state = np.full(fst.num_states, -1)
    of_state[fst.source[is_loop]] = senone
    entered = of_state[fst.arcs["nextstate"]]
    emitting = fst.arcs["ilabel"] > 0
    assert np.array_equal(fst.arcs["ilabel"][emitting] - 1, entered[emitting])
    assert np.all(entered[~emitting] == -1)


def test_files_are_the_same_each_time_and_complete(tmp_path):
    senones = spelling.inventory(2)
    graph(tmp_path, senones)
    first = (tmp_path / "g" / "HCLG.fst").read_bytes()
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == [
        "HCLG.fst",
        "graph.json",
        "words.txt",
    ]
    summary = json.loads((tmp_path / "g" / "graph.json").read_text())
    fst = graph(tmp_path, senones)
    assert (tmp_path / "g" / "HCLG.fst").read_bytes() == first
    assert summary["states"] == fst.num_states
    assert (summary["words"], summary["senones"]) == (len(WORDS), senones.num_senones)
    lines = (tmp_path / "g" / "words.txt").read_text().splitlines()
    assert lines[:2] == ["<eps> 0", "A 1"]
    assert lines[-1] == f"</s> {len(WORDS) + 3}"


def test_arrays_and_kaldifst_agree(tmp_path):
    fst = graph(tmp_path, spelling.inventory(2))
    again = from_kaldifst(to_kaldifst(fst))
    assert again.start == fst.start
    np.testing.assert_array_equal(again.arcs, fst.arcs)
    np.testing.assert_array_equal(again.source, fst.source)
    np.testing.assert_array_equal(again.final, fst.final)


def test_forced_alignment_finds_every_frame(tmp_path):
    senones = spelling.inventory(5)
    rng = np.random.default_rng(3)
    for words in (["A"], ["B", "B"], ["BEETLE", "EAT", "ILL", "A"]):
        path = spelling.spell(words, senones, rng)
        fst = alignment_graph(spelling.LEXICON, words, senones)
        found = force_align(fst, spelling.loglikes(path, senones.num_senones), acoustic_scale=1.0)
        assert found.tolist() == path.tolist()
    assert force_align(fst, np.zeros((5, senones.num_senones), np.float32)) is None
    assert force_align(fst, np.zeros((0, senones.num_senones), np.float32)) is None


def test_a_transcript_without_words_is_silence():
    senones = spelling.inventory(2)
    fst = alignment_graph(spelling.LEXICON, [], senones)
    path = np.array([0, 0, 1, 2, 2, 2])
    found = force_align(fst, spelling.loglikes(path, senones.num_senones))
    assert found.tolist() == path.tolist()


def test_homophones_and_phones_that_share_all_senones_can_be_determinised(tmp_path):
    """The language model decides between words that sound alike."""
    lexicon = Lexicon(
        {"TO": (("T", "UW"),), "TWO": (("T", "UW"),), "TOOT": (("T", "UW", "T"),), "B": (("B",),)}
    )
    full = spelling.inventory(1, phones=("SIL", *lexicon.phones()))
    table = np.broadcast_to(full.table[:, :1], full.table.shape)  # every phone is like silence
    alike = spelling.FakeInventory(full.phones, table, full.num_senones)
    train_lm([["TWO", "B"], ["TO"], ["TO"]], lexicon.entries, tmp_path / "lm.arpa")
    for senones in (full, alike):
        build_graph(lexicon, tmp_path / "lm.arpa", senones, tmp_path / "g")
    build_graph(lexicon, tmp_path / "lm.arpa", full, tmp_path / "g")
    fst = to_kaldifst(read_fst(tmp_path / "g" / "HCLG.fst"))
    names = sorted(lexicon.entries)
    for phones, words in ((("T", "UW"), ["TO"]), (("T", "UW", "B"), ["TWO", "B"])):
        index = [full.phones.index(phone) for phone in phones]
        path = np.array([full.table[0, phone, 0, state] for phone in index for state in range(3)])
        _, outputs, _ = best_path(fst, path, full.num_senones)
        assert [names[label - 1] for label in outputs] == words


def refused(tmp_path, says, lexicon=spelling.LEXICON, **settings):
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        build_graph(lexicon, tmp_path / "lm.arpa", settings.pop("senones", spelling.inventory(1)),
                    tmp_path / "g", **settings)  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "g").exists()


def test_words_that_the_lexicon_lacks_are_named(tmp_path):
    spelling.arpa_uniform(tmp_path / "lm.arpa", tuple("abcdefgh"))
    refused(tmp_path, "no pronunciation of a, b, c, d, e and 3 more")


def test_input_that_does_not_fit_is_refused(tmp_path):
    spelling.arpa_uniform(tmp_path / "lm.arpa")
    other = Lexicon({**spelling.LEXICON.entries, "A": (("ZH",),)})
    refused(tmp_path, "phones ZH are not in the senone inventory", lexicon=other)
    refused(tmp_path, "mean_duration", mean_duration=np.ones(3))
    refused(tmp_path, "silence_probability", silence_probability=1.0)
    spelling.arpa_uniform(tmp_path / "lm.arpa", ())
    refused(tmp_path, "no words in it")
    text = (tmp_path / "lm.arpa").read_text()
    (tmp_path / "lm.arpa").write_text(text[:-10])
    refused(tmp_path, "cut short")


def test_a_damaged_graph_is_named(tmp_path):
    graph(tmp_path, spelling.inventory(1))
    path = tmp_path / "g" / "HCLG.fst"
    for data in (path.read_bytes()[:-1], path.read_bytes()[:10], b"", b"no graph at all"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"HCLG\.fst: damaged"):
            read_fst(path)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_fst(path)


def test_an4(tmp_path, shared_data):
    """The real lexicon and transcripts, trigram, 500 senones."""
    etc = shared_data / "an4" / "etc"
    lexicon = read_lexicon(etc / "an4.dic")
    lines = (etc / "an4_train.transcription").read_text().splitlines()
    text = [re.sub(r"</?s>|\(.*\)", "", line).split() for line in lines]
    train_lm(text, lexicon.entries, tmp_path / "lm.arpa")
    senones = spelling.inventory(5, phones=("SIL", *lexicon.phones()))
    summary = build_graph(lexicon, tmp_path / "lm.arpa", senones, tmp_path / "g")
    assert summary["words"] == len(lexicon.entries)
    assert summary["states"] > 1000


def test_triphones_are_joined_where_their_senones_are_the_same():
    table = np.random.default_rng(0).integers(0, 3, (6, 6, 6, 3)).astype(np.int32)
    table[:, 2], table[1] = table[0, 2], table[3]
    found = contexts_of(SimpleNamespace(phones=tuple("ABCDEF"), table=table, num_senones=5))
    np.testing.assert_array_equal(found.senones, np.unique(table.reshape(-1, 3), axis=0))
    np.testing.assert_array_equal(found.senones[found.hmm[found.pair]], table)
    assert (found.centre[found.pair] == np.arange(6)).all()
    assert len({*found.pair[:, 2]}) == 1 and (found.pair[1] == found.pair[3]).all()
