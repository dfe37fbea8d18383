"""Recognises speech while it is spoken.

Frames are normalised by the mean and variance of the stream so far, which start from those of the
training data. A segment ends in a pause. Between segments nothing is searched, and only the last
quarter of a second is kept, so memory does not grow.
"""

from pathlib import Path

import numpy as np

from acoustic_kd.decoding.search import Search, log_likelihoods
from acoustic_kd.features.audio import Samples, check_rate
from acoustic_kd.features.normalise import SILENCE_LEVEL, Moments, level
from acoustic_kd.features.recordings import Framer, Resampler
from acoustic_kd.runtime.recognizer import (
    MAX_PIECE_FRAMES,
    Recognizer,
    Transcription,
    posteriors_of_piece,
)
from acoustic_kd.system.errors import UserError

TRAIN_FRAMES = 300  # that the moments of train count for, beside what was heard
SPEECH_RANGE = 4.0  # of the levels of a stream with speech in it: 17 dB, in natural logs
BLOCK_FRAMES = 10  # scored together: 100 ms
PADDING_FRAMES = 25  # of a segment before its first frame of speech
PAUSE_FRAMES = 50  # of silence that end a segment
SHORT_PAUSE_FRAMES = 20  # that end a long one
LONG_FRAMES = 1500  # of a long segment; at MAX_PIECE_FRAMES any segment ends


class RunningMoments:
    """Normalises frames by the moments of those so far, which begin as the moments of train.

    Args:
        frames: that train counts for; None: frames are normalised over train alone.
    """

    def __init__(self, train: Moments, frames: int | None) -> None:
        self._is_fixed = frames is None
        count = frames or train.count
        share = count / train.count
        self._moments = Moments(count, share * train.sum, share * train.squares)
        self._loudest, self._quietest = -np.inf, np.inf  # levels so far

    def normalise(self, log_mels: np.ndarray) -> np.ndarray:
        """Normalise the next frames [T, D]; float32."""
        levels = level(log_mels)
        sounding = levels[levels >= SILENCE_LEVEL]
        self._loudest = max(self._loudest, float(levels.max()))
        self._quietest = min(self._quietest, float(sounding.min(initial=np.inf)))
        # Normalised by its own moments, the noise of a room would look like speech.
        if not self._is_fixed and self._loudest - self._quietest >= SPEECH_RANGE:
            self._moments.add(log_mels, self._loudest)
        return self._moments.normalise(log_mels, self._loudest)


class Stream:
    """A recogniser of one stream of samples.

    Args:
        recognizer: of a bundle.
        sample_rate: hertz.
    """

    def __init__(self, recognizer: Recognizer, sample_rate: int) -> None:
        if recognizer.train_moments is None:
            raise UserError("a stream needs a bundle: write one with acoustic-kd bundle EXP")
        check_rate("the stream", sample_rate)
        self._recognizer, self._rate = recognizer, sample_rate
        wanted, name = recognizer.features.sample_rate, Path("the stream")
        self._resampler = Resampler(name, sample_rate, wanted) if sample_rate != wanted else None
        self._framer = Framer(recognizer.features)
        is_global = recognizer.features.normalise == "global"
        self._moments = RunningMoments(
            recognizer.train_moments, None if is_global else TRAIN_FRAMES
        )
        self._left, self._right = recognizer.scorer.window
        none = np.zeros((0, recognizer.features.mel_bins), np.float32)
        self._log_mels = none  # that are not normalised yet
        self._frames, self._first = none, 0  # normalised, and the number of the first of them
        self._scored = 0  # frames
        self._recent = np.zeros((0, len(recognizer.silence)), np.float32)  # scores of silence
        self._search: Search | None = None  # of the present segment
        self._begin = self._pause = 0  # its first frame; frames of silence at its end

    def accept(self, samples: np.ndarray) -> list[Transcription]:
        """Hear further samples; returns the segments that they complete.

        Args:
            samples: floats in [-1, 1] or 16-bit integers, [T] or [T, channels].
        """
        mono = Samples(samples, self._rate).mono()
        resampled = mono if self._resampler is None else self._resampler.push(mono)
        return self._hear(self._framer.push(resampled))

    @property
    def partial(self) -> str:
        """The words of the present segment so far; they may still change."""
        if self._search is None:
            return ""
        return " ".join(self._recognizer.join(self._search.partial()))

    def final(self) -> list[Transcription]:
        """The remaining segments; the stream ends here."""
        rest = np.zeros(0, np.float32) if self._resampler is None else self._resampler.end()
        segments = self._hear(self._framer.push(rest), ends=True)
        return segments + ([] if self._search is None else [self._end_segment()])

    def _hear(self, log_mels: np.ndarray, ends: bool = False) -> list[Transcription]:
        # In blocks of one size, so that it does not matter how the samples come.
        self._log_mels = np.concatenate([self._log_mels, log_mels])
        whole = len(self._log_mels) if ends else len(self._log_mels) // BLOCK_FRAMES * BLOCK_FRAMES
        blocks = np.split(self._log_mels[:whole], range(BLOCK_FRAMES, whole, BLOCK_FRAMES))
        normalised = [self._moments.normalise(block) for block in blocks if len(block)]
        self._frames = np.concatenate([self._frames, *normalised])
        self._log_mels = self._log_mels[whole:]
        segments = []
        stop = self._first + len(self._frames) - (0 if ends else self._right)
        while self._scored < stop if ends else self._scored + BLOCK_FRAMES <= stop:
            end = min(self._scored + BLOCK_FRAMES, stop)
            piece = slice(self._scored - self._first, end - self._first)
            posteriors = posteriors_of_piece(self._recognizer.scorer, self._frames, piece)
            self._scored = end
            if (segment := self._advance(posteriors)) is not None:
                segments.append(segment)
        kept = max(0, self._scored - self._left - self._first)
        self._frames, self._first = self._frames[kept:], self._first + kept
        return segments

    def _advance(self, posteriors: np.ndarray) -> Transcription | None:
        """Search scored frames [T, K]; returns the segment if they end it."""
        silent = posteriors[:, self._recognizer.silence].sum(1) >= 0.5
        loglikes = log_likelihoods(posteriors, self._recognizer.scorer.log_prior)
        if self._search is None:
            self._recent = np.concatenate([self._recent, loglikes])
            if silent.all():
                self._recent = self._recent[-PADDING_FRAMES:]
                return None
            loglikes, self._recent = self._recent, self._recent[:0]
            self._begin = self._scored - len(loglikes)
            self._search = Search(self._recognizer.decoder, "stream", MAX_PIECE_FRAMES)
        self._search.advance(loglikes)
        speech = np.flatnonzero(~silent)
        self._pause = len(silent) - 1 - speech[-1] if len(speech) else self._pause + len(silent)
        length = self._search.num_frames
        pause = PAUSE_FRAMES if length < LONG_FRAMES else SHORT_PAUSE_FRAMES
        if self._pause >= pause or length >= MAX_PIECE_FRAMES:
            return self._end_segment()
        return None

    def _end_segment(self) -> Transcription:
        if self._search is None:
            raise ValueError("no segment has begun")
        lattice, loglikes = self._search.lattice(), self._search.loglikes
        self._search, self._pause = None, 0
        return Transcription(tuple(self._recognizer.words_of(lattice, loglikes, self._begin)))
