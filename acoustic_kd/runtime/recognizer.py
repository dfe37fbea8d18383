"""The words of any recording, by the posteriors of a model and a graph; PyTorch is not imported.

A recording counts as one speaker and one utterance when frames are normalised. It is cut into
pieces at its quietest moments for the search alone: frames, their normalisation and the windows
around them are those of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.alignment.viterbi import Transcripts, align_words
from acoustic_kd.decoding.confidence import best_words
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search import Decoder, log_likelihoods
from acoustic_kd.features.audio import AudioError, Samples
from acoustic_kd.features.fbank import MIN_EMPTY, SHIFT_SECONDS, filter_edges
from acoustic_kd.features.fmllr import Labelled, SpeakerSpace
from acoustic_kd.features.gaps import Gaps
from acoustic_kd.features.normalise import Moments, loudest_levels
from acoustic_kd.features.recordings import highest_hz, recording_features
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.errors import UserError, warn
from acoustic_kd.system.hub import local_or_hub

if TYPE_CHECKING:
    from acoustic_kd.runtime.stream import Stream

MAX_PIECE_FRAMES = 3000
MIN_PIECE_FRAMES = 1000  # unless the recording is shorter
ENERGY_WINDOW_FRAMES = 25  # over which the energy is averaged to find the quietest moment


class Scorer(Protocol):
    """A model, or an ensemble, that gives the posteriors of senones.

    Attributes:
        log_prior: [K] of the senones.
        durations: [K] their mean durations in frames.
        window: frames before and after a frame that its posteriors depend on.
    """

    @property
    def log_prior(self) -> np.ndarray: ...

    @property
    def durations(self) -> np.ndarray: ...

    @property
    def window(self) -> tuple[int, int]: ...

    def posteriors(self, features: np.ndarray) -> np.ndarray:
        """The posteriors [T, K] for normalised frames [T, D]."""
        ...


def posteriors_of_piece(scorer: Scorer, features: np.ndarray, piece: slice) -> np.ndarray:
    """The posteriors [T', K] for a piece of a recording's normalised frames [T, D].

    Windows reach beyond the piece.
    """
    left, right = scorer.window
    first = max(0, piece.start - left)
    rows = scorer.posteriors(features[first : piece.stop + right])
    return rows[piece.start - first : piece.stop - first]


@dataclass(frozen=True)
class Word:
    """A recognised word: seconds from the beginning of the recording, and its confidence."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcription:
    """The words of a recording."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words, with spaces between them."""
        return " ".join(word.word for word in self.words)


# A piece of a recording, its log-likelihoods and its lattice.
Decoded = tuple[slice, np.ndarray, Lattice]
Audio = str | Path | Samples


@dataclass
class Recognizer:
    """Recognises recordings.

    Attributes:
        features: settings of the frames.
        scorer: gives the posteriors.
        decoder: of the graph.
        weights: LM weight and word insertion penalty.
        inventory: the senones.
        lexicon: file of the words, or pieces, that the graph recognises.
        join: joins what the graph recognises to words.
        trained_hz: frequency up to which the model learnt from sound.
        train_moments: of all frames that the model learnt from; None: unknown.
        speaker_space: of the transform of a recording's speaker; None: speakers have none. Streams
            have none.
    """

    features: FeatureConfig
    scorer: Scorer
    decoder: Decoder
    weights: tuple[float, float]
    inventory: SenoneInventory
    lexicon: Path
    join: Joiner
    trained_hz: float
    train_moments: Moments | None = None
    speaker_space: SpeakerSpace | None = None

    def __call__(self, audio: Audio | np.ndarray, sample_rate: int | None = None) -> Transcription:
        """The words of a recording, with times and confidences.

        Args:
            audio: a sound file, or samples: floats in [-1, 1] or 16-bit integers, [T] or
                [T, channels].
            sample_rate: hertz, of samples.

        Raises:
            AudioError: it cannot be read, or has no speech.
        """
        if not isinstance(audio, str | Path | Samples):
            if sample_rate is None:
                raise UserError("samples need their sample_rate, in hertz")
            audio = Samples(audio, sample_rate)
        return Transcription(tuple(self.timed_words(audio)))

    @classmethod
    def from_pretrained(cls, name: str | Path, int8: bool = False) -> "Recognizer":
        """The recogniser of a bundle, which `acoustic-kd bundle` wrote.

        Args:
            name: its directory, or a repository of the Hugging Face hub, such as `user/model`.
            int8: take the model with weights of 8 bits.
        """
        from acoustic_kd.runtime.bundle import CONFIG, MAY_HAVE, NEEDED, read_bundle

        return read_bundle(local_or_hub(name, (CONFIG, *NEEDED, *MAY_HAVE)), int8)

    def stream(self, sample_rate: int | None = None) -> "Stream":
        """A stream of speech, to recognise while it is spoken.

        Args:
            sample_rate: hertz; None: the model's.
        """
        from acoustic_kd.runtime.stream import Stream

        return Stream(self, self.features.sample_rate if sample_rate is None else sample_rate)

    def words(self, audio: Audio) -> list[str]:
        """The words of a recording; an AudioError if it cannot be read, or has no speech."""
        best = (lattice.best(*self.weights) for _, (*_, lattice) in self._lattices(audio))
        return [word for labels in best for word in self.join(labels)]

    def timed_words(self, audio: Audio) -> list[Word]:
        """The words of a recording with their times and confidences.

        A word of several pieces has the lowest confidence of its pieces. Errors are as of `words`.
        """
        timed: list[Word] = []
        for gaps, (piece, loglikes, lattice) in self._lattices(audio):
            for word in self.words_of(lattice, loglikes, piece.start):
                start, end = gaps.time(word.start), gaps.time(word.end, end=True)
                timed.append(replace(word, start=round(start, 2), end=round(end, 2)))
        return timed

    def words_of(self, lattice: Lattice, loglikes: np.ndarray, first_frame: int) -> Iterator[Word]:
        """The words of a lattice.

        Args:
            loglikes: [T, K] that the lattice was made from.
            first_frame: its number in the recording.
        """
        labels, confidences, places = best_words(lattice, *self.weights)
        spans = align_words(labels, loglikes, self._transcripts) if labels else []
        if spans is None:  # an unfinished last word: the places of the labels are rough times
            spans = list(zip(np.append(0, places[:-1]), places, strict=True))
        for part in self.join.word_slices(labels):
            (word,), confidence = self.join(labels[part]), min(confidences[part])
            frames = first_frame + spans[part][0][0], first_frame + spans[part][-1][1]
            start, end = (round(float(SHIFT_SECONDS * frame), 2) for frame in frames)
            yield Word(word, start, end, round(float(confidence), 4))

    @cached_property
    def _transcripts(self) -> Transcripts:
        """For the times of words alone, because it takes seconds with many phones."""
        return Transcripts(read_lexicon(self.lexicon), self.inventory, self.scorer.durations)

    @cached_property
    def silence(self) -> np.ndarray:
        """bool [K], which senones are of silence."""
        return np.array([leaf.phone == SILENCE for leaf in self.inventory.leaves])

    def _lattices(self, audio: Audio) -> Iterator[tuple[Gaps, Decoded]]:
        """The recording's gaps, and each piece with speech in it."""
        audio = audio if isinstance(audio, Samples) else Path(audio)
        features, gaps = recording_features(audio, self.features, warn)
        self._check_band(audio, features)
        pieces = cut(features)
        moments = self.train_moments if self.features.normalise == "global" else None
        loudest = loudest_levels([("", features)])[""]
        if moments is None:
            moments = Moments()
            for piece in pieces:
                moments.add(features[piece], loudest)
        for piece in pieces:  # in place: a long recording is held once
            features[piece] = moments.normalise(features[piece], loudest)
        if self.speaker_space is not None:
            self._transform(str(audio), features, pieces, self.speaker_space)
        speech = False
        for decoded in self._decoded(str(audio), features, pieces):
            speech = True
            yield gaps, decoded
        if not speech:
            raise AudioError(f"{audio}: no speech in it")

    def _check_band(self, audio: Path | Samples, features: np.ndarray) -> None:
        """Warn of a recording that lacks the upper part of the band that models learnt from."""
        edges = filter_edges(self.features)
        highest = highest_hz(audio, features, self.features)
        if ((edges > highest) & (edges < self.trained_hz)).sum() >= MIN_EMPTY:
            warn(
                f"{audio}: it holds nothing above {highest / 1000:.1f} kHz, but the models were "
                f"trained up to {self.trained_hz / 1000:.1f} kHz; expect more errors"
            )

    def _transform(
        self, name: str, features: np.ndarray, pieces: list[slice], space: SpeakerSpace
    ) -> None:
        """Change frames [T, D] by the transform of the recording's speaker, from a first decoding.

        Without words they stay as they are.
        """
        known = []
        for piece, _, lattice in self._decoded(name, features, pieces):
            if lattice.best(*self.weights):
                senones = lattice.senones(1 / self.decoder.settings.acoustic_scale)
                known.append(Labelled("", features[piece][: len(senones)], senones))
        for transform in space.transforms(known).values():  # one speaker, or none
            for piece in pieces:
                features[piece] = transform(features[piece])

    def _decoded(self, name: str, features: np.ndarray, pieces: list[slice]) -> Iterator[Decoded]:
        """Decode each piece with speech in it of normalised frames [T, D]."""
        for piece in pieces:
            posteriors = posteriors_of_piece(self.scorer, features, piece)
            if (posteriors[:, self.silence].sum(1) < 0.5).any():  # some frame is likely speech
                loglikes = log_likelihoods(posteriors, self.scorer.log_prior)
                yield piece, loglikes, self.decoder.lattice(loglikes, name)


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
