"""The rewritten graph gives sherpa-onnx's reader the words that the search finds."""

import kaldi_decoder
import kaldifst
import numpy as np
import pytest
import spelled_graphs as spelling
from spelled_graphs import SENONES, WIDE, WORDS

from acoustic_kd.decoding.graph.emitted_words import COPIES, emitted_words
from acoustic_kd.decoding.graph.fst import map_fst, to_kaldifst
from acoustic_kd.decoding.search import Decoder


def words_as_sherpa_reads(fst, scores, words):
    """The rule of its CTC decoder: only arcs with a label, and not one like the arc before."""
    decoder = kaldi_decoder.FasterDecoder(fst, kaldi_decoder.FasterDecoderOptions(beam=1e9))
    decoder.decode(kaldi_decoder.DecodableCtc(np.ascontiguousarray(scores, np.float32)))
    assert decoder.reached_final()
    _, path = decoder.get_best_path()
    previous, read = -1, []
    for line in path.to_str().splitlines():
        if len(fields := line.split()) < 4:  # the final state
            continue
        ilabel, olabel = map(int, fields[2:4])
        if ilabel not in (previous, 0) and olabel:
            read.append(words[olabel])
        previous = ilabel
    return read


@pytest.mark.parametrize("seed", range(30))
def test_the_words_are_those_of_the_search(graph_dir, seed):
    rng = np.random.default_rng(seed)
    decoder = Decoder(graph_dir, WIDE)
    rewritten = to_kaldifst(emitted_words(map_fst(graph_dir / "HCLG.fst"), SENONES.num_senones))
    words = list(rng.choice(WORDS, size=rng.integers(1, 6)))
    path = spelling.spell(words, SENONES, rng)
    scores = spelling.loglikes(path, SENONES.num_senones, 8.0)
    scores = scores + 4 * rng.standard_normal(scores.shape).astype(np.float32)
    expected = decoder.lattice(scores).best(5.0)
    assert (
        words_as_sherpa_reads(rewritten, 0.2 * np.tile(scores, COPIES), decoder.words) == expected
    )


def test_it_needs_the_rewriting(graph_dir):
    """Read so, the graph as it is loses words."""
    rng = np.random.default_rng(0)
    plain = kaldifst.StdVectorFst(kaldifst.StdConstFst.read(str(graph_dir / "HCLG.fst")))
    decoder, lost = Decoder(graph_dir, WIDE), 0
    for _ in range(20):
        words = list(rng.choice(WORDS, size=4))
        scores = spelling.loglikes(spelling.spell(words, SENONES, rng), SENONES.num_senones, 200.0)
        lost += words_as_sherpa_reads(plain, 0.2 * scores, decoder.words) != words
    assert lost
