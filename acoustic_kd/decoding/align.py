"""Forced alignment: the best HMM-state path of a known transcript through the same graphs."""

from collections.abc import Sequence

import kaldi_decoder
import kaldifst
import numpy as np

from acoustic_kd.decoding.contexts import Inventory
from acoustic_kd.decoding.fst_arrays import to_kaldifst
from acoustic_kd.decoding.grammar import linear_grammar
from acoustic_kd.decoding.graph import compile_graph
from acoustic_kd.decoding.hmm_states import self_loop_probability
from acoustic_kd.lexicon import Lexicon


def alignment_graph(
    lexicon: Lexicon,
    words: Sequence[str],
    inventory: Inventory,
    mean_duration: np.ndarray | None = None,
    silence_probability: float = 0.5,
) -> kaldifst.StdVectorFst:
    """The graph of one transcript: its words in order, optional silence, all pronunciations.

    The best path's input labels through it are the forced alignment, senone + 1 a frame.

    Raises:
        UserError: as `build_graph`.
    """
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    builder = compile_graph(linear_grammar(words), lexicon, inventory, loop, silence_probability)
    return to_kaldifst(builder.build())


def force_align(
    graph: kaldifst.StdVectorFst,
    loglikes: np.ndarray,
    acoustic_scale: float = 0.1,
    beam: float = 200.0,
) -> np.ndarray | None:
    """The senone of every frame on the best path through an alignment graph.

    Args:
        graph: from `alignment_graph`.
        loglikes: [T, K] log-likelihoods of the senones, not scaled.
        acoustic_scale: their weight against the graph's costs.
        beam: as the graph is small it can be wide; narrower is faster.

    Returns:
        [T] int32, or None if no path fits: the utterance is too short for its transcript, or the
        beam too narrow.
    """
    if not len(loglikes):
        return None
    scaled = np.ascontiguousarray(loglikes, dtype=np.float32) * np.float32(acoustic_scale)
    options = kaldi_decoder.FasterDecoderOptions(beam=beam)
    decoder = kaldi_decoder.FasterDecoder(graph, options)
    decoder.decode(kaldi_decoder.DecodableCtc(scaled))
    found, path = decoder.get_best_path()
    if not found or not decoder.reached_final():
        return None
    labels = kaldifst.get_linear_symbol_sequence(path)[1]
    return np.array(labels, dtype=np.int32) - 1
