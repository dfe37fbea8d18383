"""Copies of utterances that sound like other speech: their ids, frames and targets.

A copy has another vocal tract length (Jaitly and Hinton, *Vocal tract length perturbation*, 2013),
another tempo, or the sound of an MP3 coder. The alignment of its original gives its targets.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import soundfile

from acoustic_kd.corpora.utterances import COPY_MARK
from acoustic_kd.features.fbank import log_mels
from acoustic_kd.settings import MP3_KBITS, FeatureConfig

TEMPO_MARK, MP3_MARK = "tempo", "mp3"  # after COPY_MARK and a warp
CODER_DELAY = 1105  # samples: of LAME's coder, and of a decoder that does not know it


@dataclass(frozen=True)
class Copy:
    """How a copy differs from its original.

    Attributes:
        warp: the factor on the frequency axis, as `log_mels` takes it.
        tempo: 1.1 for speech that is 1.1 times as fast, at the same pitch.
        mp3: whether it passes through an MP3 coder.
    """

    warp: float = 1.0
    tempo: float = 1.0
    mp3: bool = False

    def id_of(self, utterance: str) -> str:
        """The id of the copy of an utterance."""
        if self == Copy():
            return utterance
        tempo = f"{TEMPO_MARK}{self.tempo:g}" if self.tempo != 1 else ""
        return f"{utterance}{COPY_MARK}{self.warp:g}{tempo}{MP3_MARK if self.mp3 else ''}"


def original_id(copy: str) -> str:
    """The id of the utterance that a copy was made from."""
    return copy.partition(COPY_MARK)[0]


def copy_mark(copy: str) -> str:
    """The part of a copy's id after its original's; empty for an original."""
    return copy[len(original_id(copy)) :]


def is_warped(copy: str) -> bool:
    """Whether a copy has another vocal tract length than its original."""
    warp = copy_mark(copy).removesuffix(MP3_MARK).partition(TEMPO_MARK)[0]
    return warp not in ("", f"{COPY_MARK}1")


def train_copies(config: FeatureConfig) -> list[Copy]:
    """The copies of each train utterance, without the utterance itself."""
    return [copy for copy in _copies(config, config.vtlp_warps) if copy != Copy()]


def transfer_copies(config: FeatureConfig) -> list[Copy]:
    """The further copies from which only the distilled models and their control learn."""
    return _copies(config, config.transfer_vtlp_warps)


def _copies(config: FeatureConfig, warps: Iterable[float]) -> list[Copy]:
    coded = (False,) if config.mp3_kbits is None else (False, True)
    return [Copy(warp, tempo, mp3) for mp3 in coded for tempo in config.tempos for warp in warps]


def copies_of(
    waveform: np.ndarray, config: FeatureConfig, copies: Iterable[Copy]
) -> list[np.ndarray]:
    """The frames [T, D] of each copy of a waveform, as `log_mels` computes them.

    Args:
        waveform: float32 [samples] in [-1, 1].
    """
    sounds, made = {False: waveform}, list[np.ndarray]()
    if config.mp3_kbits is not None:
        sounds[True] = through_mp3(waveform, config.sample_rate, config.mp3_kbits)
    for (mp3, tempo), alike in groupby(copies, lambda copy: (copy.mp3, copy.tempo)):
        made += log_mels(sounds[mp3], config, [copy.warp for copy in alike], tempo)
    return made


def through_mp3(waveform: np.ndarray, sample_rate: int, kbits: float) -> np.ndarray:
    """A waveform after an MP3 coder: float32, as many samples, not delayed.

    Args:
        sample_rate, kbits: in Hz, and thousands of bits a second, within `MP3_KBITS`. The coder
            takes the nearest bit rate that it has.
    """
    low, high = MP3_KBITS[sample_rate]
    level = (high - kbits) / (high - low)
    file = io.BytesIO()
    soundfile.write(
        file, waveform, sample_rate, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT", compression_level=min(level, 0.99),
    )  # fmt: skip
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    if len(decoded) > len(waveform):  # the file does not say how long the coder's delay is
        decoded = decoded[CODER_DELAY:]
    decoded = decoded[: len(waveform)]
    return np.pad(decoded, (0, len(waveform) - len(decoded)))


def targets_of_copy(copy: str, targets: np.ndarray | None, length: int) -> np.ndarray | None:
    """The targets of a copy's frames, from those [T] of its original, if it has any.

    Args:
        copy: its id.
        length: its number of frames; frame n is at frame n · tempo of the original.
    """
    tempo = copy_mark(copy).removesuffix(MP3_MARK).partition(TEMPO_MARK)[2]
    if not tempo or targets is None:
        return targets
    places = np.round(np.arange(length) * float(tempo)).astype(np.int64)
    return targets[np.minimum(places, len(targets) - 1)]
