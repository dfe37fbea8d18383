"""`acoustic-kd transcribe`: any recording → its words, with the models of a finished experiment.

A recording counts as one speaker and one utterance when frames are normalised. It is cut into
pieces at its quietest moments for the search alone: frames, their normalisation and the windows
around them are those of the whole.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np

from acoustic_kd.alignment.viterbi import Transcripts, align_words
from acoustic_kd.decoding.confidence import best_words
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search import Decoder, SearchSettings
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import Recogniser, find_system
from acoustic_kd.experiment.normalised import Normaliser
from acoustic_kd.experiment.options import add_finished_experiment
from acoustic_kd.experiment.outputs import graph_lexicon, inventory_of, stored_frames
from acoustic_kd.experiment.stages import DEFAULT_MODEL, open_experiment
from acoustic_kd.features.audio import AudioError
from acoustic_kd.features.bandwidth import MIN_EMPTY, filter_edges
from acoustic_kd.features.bandwidth import highest_hz as highest_hz_of_frames
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.features.frames import NO_TARGET, FrameSequence
from acoustic_kd.features.gaps import Gaps
from acoustic_kd.features.normalise import Moments, loudest_levels
from acoustic_kd.features.recordings import highest_hz, recording_features
from acoustic_kd.language.lexicon import SILENCE
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.reports.stored import read_measurement
from acoustic_kd.system.errors import USAGE_ERROR, UserError, print_error, printable
from acoustic_kd.training.ensemble import log_likelihoods

MAX_PIECE_FRAMES = 3000
MIN_PIECE_FRAMES = 1000  # unless the recording is shorter
TRAIN_UTTERANCES = 100  # that show up to which frequency train holds sound
ENERGY_WINDOW_FRAMES = 25  # over which the energy is averaged to find the quietest moment


@dataclass(frozen=True)
class Word:
    """A recognised word: seconds from the beginning of the recording, and its confidence."""

    word: str
    start: float
    end: float
    confidence: float


class Transcriber:
    """Transcribes recordings with one system of a finished experiment.

    Args:
        model: `distilled/01`, `members/01` or `ensemble`.
    """

    def __init__(self, directory: Path, model: str = DEFAULT_MODEL) -> None:
        self.experiment = open_experiment(directory)
        config, system = self.experiment.config, find_system(self.experiment, model)
        self.recogniser = Recogniser.of(self.experiment, system)
        self.experiment.verify("decode", f"{system.name}/measurement.json")
        measured = read_measurement(self.experiment.path("decode") / system.name)
        self.weights = float(measured.lm_weight), float(measured.penalty)
        self.experiment.verify("graph")
        limits = SearchSettings.of(config.decode)
        self.decoder = Decoder(self.experiment.path("graph"), limits)
        self.inventory = inventory_of(self.experiment)
        self.silence = np.array([leaf.phone == SILENCE for leaf in self.inventory.leaves])
        self.join = Joiner.of(self.experiment.path("graph"))
        self.moments = _global_moments(self.experiment)

    @cached_property
    def _trained_hz(self) -> float:
        """The frequency up to which train holds sound."""
        config = self.experiment.config.features
        train = self.experiment.path("features") / "train"
        if not train.is_dir():
            return float(filter_edges(config)[-1])
        some = [u.features for u in islice(stored_frames(train), TRAIN_UTTERANCES)]
        return highest_hz_of_frames(np.concatenate(some), config)

    def _check_band(self, path: Path, features: np.ndarray) -> None:
        """Warn of a recording that lacks the upper part of the band that models learnt from."""
        config = self.experiment.config.features
        edges = filter_edges(config)
        highest = highest_hz(path, features, config)
        if ((edges > highest) & (edges < self._trained_hz)).sum() >= MIN_EMPTY:
            _warn(
                f"{path}: it holds nothing above {highest / 1000:.1f} kHz, but the models were "
                f"trained up to {self._trained_hz / 1000:.1f} kHz; expect more errors"
            )

    @cached_property
    def _transcripts(self) -> Transcripts:
        """For the times of words alone, because it takes seconds with many phones."""
        lexicon = graph_lexicon(self.experiment)
        return Transcripts(lexicon, self.inventory, self.recogniser.durations)

    def words(self, path: Path) -> list[str]:
        """The words of a recording; an AudioError if it cannot be read, or has no speech."""
        best = (lattice.best(*self.weights) for *_, lattice in self._lattices(path))
        return [word for labels in best for word in self.join(labels)]

    def timed_words(self, path: Path) -> list[Word]:
        """The words of a recording with their times and confidences.

        A word of several pieces has the lowest confidence of its pieces. Errors are as of `words`.
        """
        timed: list[Word] = []
        for piece, gaps, loglikes, lattice in self._lattices(path):
            labels, confidences, places = best_words(lattice, *self.weights)
            spans = labels and align_words(labels, loglikes, self._transcripts)
            if spans is None:  # an unfinished last word: the places of the labels are rough times
                spans = list(zip(np.append(0, places[:-1]), places, strict=True))
            for part in self.join.word_slices(labels):
                (word,), confidence = self.join(labels[part]), min(confidences[part])
                first, last = spans[part][0][0], spans[part][-1][1]
                start = round(gaps.time(float((piece.start + first) * SHIFT_SECONDS)), 2)
                end = round(gaps.time(float((piece.start + last) * SHIFT_SECONDS), end=True), 2)
                timed.append(Word(word, start, end, round(float(confidence), 4)))
        return timed

    def _lattices(self, path: Path) -> Iterator[tuple[slice, Gaps, np.ndarray, Lattice]]:
        """Each piece of a recording with the recording's gaps, its log-likelihoods and lattice."""
        features, gaps = recording_features(path, self.experiment.config.features, _warn)
        self._check_band(path, features)
        pieces = cut(features)
        moments = self.moments
        loudest = loudest_levels([("", features)])[""]
        if moments is None:
            moments = Moments(features.shape[1])
            for piece in pieces:
                moments.add(features[piece], loudest)
        for piece in pieces:  # in place: a long recording is held once
            features[piece] = moments.normalise(features[piece], loudest)
        decode = partial(self._decode, str(path), features, pieces)
        decoded = decode(self.recogniser)
        if epochs := self.experiment.config.decode.adaptation_epochs:
            decoded = decode(self._adapted(features, decoded, epochs))
        speech = False
        for piece, loglikes, lattice in decoded:
            speech = True
            yield piece, gaps, loglikes, lattice
        if not speech:
            raise AudioError(f"{path}: no speech in it")

    def _decode(
        self, name: str, features: np.ndarray, pieces: list[slice], recogniser: Recogniser
    ) -> Iterator[tuple[slice, np.ndarray, Lattice]]:
        """Each piece with speech in it, its log-likelihoods and its lattice."""
        for piece in pieces:
            posteriors = recogniser.posteriors(features, piece)
            if (posteriors[:, self.silence].sum(1) < 0.5).any():  # some frame is likely speech
                loglikes = log_likelihoods(posteriors, recogniser.log_prior)
                yield piece, loglikes, self.decoder.lattice(loglikes, name)

    def _adapted(
        self,
        features: np.ndarray,
        decoded: Iterable[tuple[slice, np.ndarray, Lattice]],
        epochs: int,
    ) -> Recogniser:
        """The recogniser adapted to the speaker of a recording by its first decoding.

        As in the decode stage: the path is the search's own, and without words nothing is adapted.
        """
        senones, words = np.full(len(features), NO_TARGET), 0
        for piece, _, lattice in decoded:
            found = lattice.senones(1 / self.decoder.settings.acoustic_scale)
            senones[piece.start : piece.start + len(found)] = found
            words += len(lattice.best(*self.weights))
        if not words:
            return self.recogniser
        utterance = FrameSequence("", features, None)
        rate = self.experiment.config.decode.adaptation_rate
        return self.recogniser.adapted([utterance], [senones], epochs, rate)


def _warn(text: str) -> None:
    print(printable(f"acoustic-kd transcribe: warning: {text}"), file=sys.stderr)


def _global_moments(experiment: Experiment) -> Moments | None:
    """The moments of train for global normalisation; None otherwise."""
    if experiment.config.features.normalise != "global":
        return None
    experiment.verify("features", "train/*")
    return Normaliser(experiment, experiment.path("features"), "train").moments["", ""]


def cut(
    features: np.ndarray, max_frames: int = MAX_PIECE_FRAMES, min_frames: int = MIN_PIECE_FRAMES
) -> list[slice]:
    """Cut the unnormalised frames [T, D] of a recording into pieces of at most `max_frames`.

    Each ends at the quietest moment that leaves it and the rest no shorter than `min_frames`
    (if possible): that is mostly a pause between two words.
    """
    energy = np.pad(features.mean(1, dtype=np.float64), ENERGY_WINDOW_FRAMES // 2, mode="edge")
    around = np.convolve(energy, np.ones(ENERGY_WINDOW_FRAMES) / ENERGY_WINDOW_FRAMES, "valid")
    pieces, first = [], 0
    while len(features) - first > max_frames:
        left = len(features) - first
        last = max(min_frames, min(max_frames, left - min_frames))
        # A moment is that before a frame.
        place = first + min_frames + int(around[first + min_frames : first + last + 1].argmin())
        pieces.append(slice(first, place))
        first = place
    return [*pieces, slice(first, len(features))]


def transcribe(
    directory: Path, files: Sequence[Path], model: str = DEFAULT_MODEL, as_json: bool = False
) -> int:
    """Print the words of each recording, a line each; returns the number of failures.

    An error in a recording is reported on standard error; the other recordings are transcribed.
    """
    transcriber = Transcriber(directory, model)
    failed = 0
    for path in files:
        try:
            if as_json:
                rows = [dataclasses.asdict(word) for word in transcriber.timed_words(path)]
                text = " ".join(row["word"] for row in rows)
                print(json.dumps({"file": str(path), "text": text, "words": rows}), flush=True)
            else:
                words = " ".join(transcriber.words(path))
                print(f"{printable(str(path))}\t{printable(words)}", flush=True)
        except UserError as error:
            failed += 1
            print_error("acoustic-kd transcribe", error)
    return failed


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The words of recordings of any format and length, FILE and words a line; "
        "ends with status 2 if one of them cannot be transcribed."
    )
    parser.epilog = "Example: acoustic-kd transcribe exp/an4 talk.flac --json"
    add_finished_experiment(parser)
    parser.add_argument("files", type=Path, metavar="FILE", nargs="+", help="recordings")
    parser.add_argument(
        "--json", action="store_true", help="an object a line, with word times and confidences"
    )


def run(options: argparse.Namespace) -> int:
    failed = transcribe(options.experiment, options.files, options.model, options.json)
    return USAGE_ERROR if failed else 0
