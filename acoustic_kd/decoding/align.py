"""Forced alignment: the best HMM-state path of a known transcript through the same graphs."""

from collections.abc import Sequence

import kaldi_decoder
import kaldifst
import numpy as np
from torch import nn

from acoustic_kd.alignment.segmentation import (
    STATES,
    AlignmentFailure,
    Segmentation,
    check_transcript,
)
from acoustic_kd.config import ModelConfig
from acoustic_kd.decoding.contexts import Inventory
from acoustic_kd.decoding.fst_arrays import to_kaldifst
from acoustic_kd.decoding.grammar import linear_grammar
from acoustic_kd.decoding.graph import compile_graph
from acoustic_kd.decoding.hmm_states import self_loop_probability
from acoustic_kd.ensemble import log_likelihoods, posteriors
from acoustic_kd.errors import UserError
from acoustic_kd.lexicon import Lexicon
from acoustic_kd.senones import SenoneInventory

WHOLE = 1e9  # a beam that drops nothing: graphs are small, and no best path can be missed


class DnnAligner:
    """Aligns utterances with trained models, which may be several: an ensemble.

    The best path maximises the HMM's likelihood: scaled likelihoods (posterior over prior) times
    the probabilities of going on in a state or leaving it, both with weight 1.

    Args:
        models: in evaluation mode.
        config: theirs.
        inventory: the senones they know.
        log_prior, durations: [K] of the senones, as `read_statistics` gives them.
        bfloat16: multiply matrices in bfloat16.

    Raises:
        UserError: the lexicon has a phone that the inventory lacks.
    """

    def __init__(
        self,
        models: list[nn.Module],
        config: ModelConfig,
        inventory: SenoneInventory,
        log_prior: np.ndarray,
        durations: np.ndarray,
        lexicon: Lexicon,
        bfloat16: bool = False,
    ) -> None:
        foreign = [phone for phone in lexicon.phones() if phone not in inventory.index]
        if foreign:
            raise UserError(
                f"lexicon: phone '{foreign[0]}' is not among the {len(inventory.phones)} phones of "
                "the models that align (align.model); use the lexicon that they were trained with"
            )
        self._models, self._config, self._bfloat16 = models, config, bfloat16
        self._inventory, self._log_prior, self._durations = inventory, log_prior, durations
        self._lexicon = lexicon

    def align(self, name: str, words: list[str], features: np.ndarray) -> Segmentation:
        """Segment one utterance.

        Args:
            name: its id.
            words: its transcript.
            features: float32 [T, D], normalised.

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the frames.
        """
        check_transcript(words, self._lexicon)
        phones = sum(min(map(len, self._lexicon[word])) for word in words)
        if len(features) < STATES * phones:
            raise AlignmentFailure(
                f"too short for its transcript: {len(features)} frames, and {phones} phones have "
                f"at least {STATES * phones}"
            )
        graph = alignment_graph(self._lexicon, words, self._inventory, self._durations)
        found = posteriors(self._models, self._config, features, self._bfloat16)
        path = force_align(graph, log_likelihoods(found, self._log_prior))
        if path is None:
            raise AlignmentFailure("the words do not fit the audio (no path)")
        return self._inventory.segmentation(name, path)


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
    acoustic_scale: float = 1.0,
    beam: float = WHOLE,
) -> np.ndarray | None:
    """The senone of every frame on the best path through an alignment graph.

    Args:
        graph: from `alignment_graph`.
        loglikes: [T, K] log-likelihoods of the senones, not scaled.
        acoustic_scale: their weight against the graph's costs.
        beam: a narrower one is faster and may miss the best path.

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
