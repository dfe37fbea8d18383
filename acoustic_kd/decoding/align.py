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
from acoustic_kd.decoding.contexts import Contexts, Inventory, contexts_of
from acoustic_kd.decoding.fst_arrays import to_kaldifst
from acoustic_kd.decoding.grammar import linear_grammar
from acoustic_kd.decoding.graph import compile_graph
from acoustic_kd.decoding.hmm_states import self_loop_probability
from acoustic_kd.ensemble import log_likelihoods, posteriors
from acoustic_kd.errors import UserError
from acoustic_kd.lexicon import Lexicon
from acoustic_kd.senones import SenoneInventory

WHOLE = 1e9  # a beam that drops nothing: graphs are small, and no best path can be missed


class Transcripts:
    """The best HMM-state paths of transcripts, given the log-likelihoods of an utterance's frames.

    Args:
        lexicon: pronunciations.
        inventory: the senones.
        durations: [K] their mean durations in frames; default 2 each.
        keep: hold on to the transcripts' graphs, which will be asked for again.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        inventory: SenoneInventory,
        durations: np.ndarray | None = None,
        keep: bool = False,
    ) -> None:
        self.lexicon, self.inventory, self._durations = lexicon, inventory, durations
        self._contexts = contexts_of(inventory)  # once, not once a transcript
        self._kept: dict[str, kaldifst.StdVectorFst] | None = {} if keep else None

    def check(self, words: list[str], frames: int) -> None:
        """Raise an AlignmentFailure if these words cannot be aligned to so many frames."""
        check_transcript(words, self.lexicon)
        phones = sum(min(map(len, self.lexicon[word])) for word in words)
        if frames < STATES * phones:
            raise AlignmentFailure(
                f"too short for its transcript: {frames} frames, and {phones} phones have "
                f"at least {STATES * phones}"
            )

    def path(self, words: list[str], loglikes: np.ndarray, beam: float = WHOLE) -> np.ndarray:
        """The senone of every frame, int32 [T].

        Args:
            words: that `check` has let pass.
            loglikes: [T, K].
            beam: the search drops what is worse than the best by more, unless that leaves no path.

        Raises:
            AlignmentFailure: the words do not fit the frames.
        """
        graph = self._graph(words)
        path = force_align(graph, loglikes, beam=beam)
        if path is None and beam < WHOLE:
            path = force_align(graph, loglikes)
        if path is None:
            raise AlignmentFailure("the words do not fit the audio (no path)")
        return path

    def _graph(self, words: list[str]) -> kaldifst.StdVectorFst:
        text = " ".join(words)
        if self._kept is not None and text in self._kept:
            return self._kept[text]
        inventory, durations = self.inventory, self._durations
        graph = alignment_graph(self.lexicon, words, inventory, durations, contexts=self._contexts)
        if self._kept is not None:
            self._kept[text] = graph
        return graph


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
        models: Sequence[nn.Module],
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
        self._log_prior = log_prior
        self._transcripts = Transcripts(lexicon, inventory, durations)

    def align(self, name: str, words: list[str], features: np.ndarray) -> Segmentation:
        """Segment one utterance.

        Args:
            name: its id.
            words: its transcript.
            features: float32 [T, D], normalised.

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the frames.
        """
        self._transcripts.check(words, len(features))
        found = posteriors(self._models, self._config, features, self._bfloat16)
        path = self._transcripts.path(words, log_likelihoods(found, self._log_prior))
        return self._transcripts.inventory.segmentation(name, path)


def alignment_graph(
    lexicon: Lexicon,
    words: Sequence[str],
    inventory: Inventory,
    mean_duration: np.ndarray | None = None,
    silence_probability: float = 0.5,
    contexts: Contexts | None = None,
) -> kaldifst.StdVectorFst:
    """The graph of one transcript: its words in order, optional silence, all pronunciations.

    The best path's input labels through it are the forced alignment, senone + 1 a frame.

    Args:
        contexts: of the inventory, where they are known; finding them takes longer than the rest.

    Raises:
        UserError: as `build_graph`.
    """
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    grammar = linear_grammar(words)
    builder = compile_graph(grammar, lexicon, inventory, loop, silence_probability, contexts)
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
