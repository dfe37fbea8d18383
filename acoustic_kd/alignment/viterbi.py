"""Forced alignment: the best HMM-state path of a known transcript, and the times of its words.

The labels of a lattice stand where a word diverges from all others, which is not where it ends. So
recognised words are aligned like a transcript, and their phones counted.
"""

from collections.abc import Sequence

import kaldi_decoder
import kaldifst
import numpy as np

from acoustic_kd.alignment.segmentation import AlignmentFailure, check_transcript
from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.alignment.spoken_words import word_spans
from acoustic_kd.decoding.graph.compile import compile_graph
from acoustic_kd.decoding.graph.contexts import STATES, Contexts, Inventory, contexts_of
from acoustic_kd.decoding.graph.fst import to_kaldifst
from acoustic_kd.decoding.graph.grammar import linear_grammar
from acoustic_kd.decoding.graph.hmm_states import self_loop_probability
from acoustic_kd.language.lexicon import Lexicon

UNLIMITED_BEAM = 1e9  # graphs of transcripts are small enough to drop nothing


class Transcripts:
    """The best HMM-state paths of transcripts, given the log-likelihoods of an utterance's frames.

    Args:
        durations: [K] mean duration of each senone in frames; default 2 each.
        keep: keep the graphs of transcripts, for aligning them again.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        inventory: SenoneInventory,
        durations: np.ndarray | None = None,
        keep: bool = False,
    ) -> None:
        self.lexicon, self.inventory = lexicon, inventory
        self.durations = np.full(inventory.num_senones, 2.0) if durations is None else durations
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

    def path(
        self, words: list[str], loglikes: np.ndarray, beam: float = UNLIMITED_BEAM
    ) -> np.ndarray:
        """The senone of every frame, int32 [T].

        Args:
            words: that `check` accepts.
            loglikes: [T, K].
            beam: the search drops paths worse than the best by more, unless that leaves no path.

        Raises:
            AlignmentFailure: the words do not fit the frames.
        """
        graph = self._graph(words)
        path = force_align(graph, loglikes, beam=beam)
        if path is None and beam < UNLIMITED_BEAM:
            path = force_align(graph, loglikes)
        if path is None:
            raise AlignmentFailure("the words do not fit the audio (no path)")
        return path

    def _graph(self, words: list[str]) -> kaldifst.StdVectorFst:
        text = " ".join(words)
        if self._kept is not None and text in self._kept:
            return self._kept[text]
        inventory, durations = self.inventory, self.durations
        graph = alignment_graph(self.lexicon, words, inventory, durations, contexts=self._contexts)
        if self._kept is not None:
            self._kept[text] = graph
        return graph


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
        contexts: of the inventory, if they are known; finding them takes longer than the rest.
    """
    loop = self_loop_probability(mean_duration, inventory.num_senones)
    grammar = linear_grammar(words)
    builder = compile_graph(grammar, lexicon, inventory, loop, silence_probability, contexts)
    return to_kaldifst(builder.build())


def force_align(
    graph: kaldifst.StdVectorFst, loglikes: np.ndarray, beam: float = UNLIMITED_BEAM
) -> np.ndarray | None:
    """The senone of every frame on the best path through an alignment graph.

    Args:
        graph: from `alignment_graph`.
        loglikes: [T, K] log-likelihoods of the senones, not scaled.
        beam: a narrower one is faster and may miss the best path.

    Returns:
        [T] int32, or None if no path fits: the utterance is too short for its transcript, or the
        beam too narrow.
    """
    if not len(loglikes):
        return None
    options = kaldi_decoder.FasterDecoderOptions(beam=beam)
    decoder = kaldi_decoder.FasterDecoder(graph, options)
    decoder.decode(kaldi_decoder.DecodableCtc(np.ascontiguousarray(loglikes, dtype=np.float32)))
    exists, path = decoder.get_best_path()
    if not exists or not decoder.reached_final():
        return None
    labels = kaldifst.get_linear_symbol_sequence(path)[1]
    return np.array(labels, dtype=np.int32) - 1


def align_words(
    words: Sequence[str], loglikes: np.ndarray, transcripts: Transcripts
) -> list[tuple[int, int]] | None:
    """The frames [first, last + 1) of each word.

    Args:
        words: N ≥ 1 words, all of them in the lexicon of `transcripts`.
        loglikes: [T, K] log-likelihoods of the senones, not scaled.

    Returns:
        None if the words do not fit the frames.
    """
    try:
        path = transcripts.path(list(words), loglikes)
    except AlignmentFailure:
        return None
    segmentation = transcripts.inventory.segmentation("", path)
    return word_spans(segmentation, words, transcripts.lexicon)
