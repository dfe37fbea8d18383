"""Forced alignment of English with the acoustic model inside pocketsphinx's wheel.

Two passes: the first finds the words and pauses of the transcript in the audio, the second the
HMM states within them. Its phones are the 39 of the CMU dictionary.
"""

import tempfile
from pathlib import Path

import numpy as np
import pocketsphinx

from acoustic_kd.alignment.segmentation import AlignmentFailure, Segmentation, check_transcript
from acoustic_kd.language.cmu_phones import CMU_PHONES
from acoustic_kd.language.lexicon import SILENCE, Lexicon
from acoustic_kd.system.errors import UserError


def bundled_lexicon() -> Path:
    """The English dictionary inside pocketsphinx's wheel (134k words)."""
    return Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))


class PocketsphinxAligner:
    """Aligns utterances to the three states of each phone."""

    def __init__(self, lexicon: Lexicon) -> None:
        foreign = [phone for phone in lexicon.phones() if phone not in CMU_PHONES]
        if foreign:
            raise UserError(
                f"lexicon: phone '{foreign[0]}' is not among the 39 CMU phones that pocketsphinx "
                "aligns; map it to them"
            )
        self._lexicon = lexicon
        with tempfile.TemporaryDirectory() as folder:
            dictionary = Path(folder) / "lexicon.dict"
            dictionary.write_text(dictionary_text(lexicon), encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(
                hmm=pocketsphinx.get_model_path("en-us/en-us"),
                dict=str(dictionary),
                lm=None,
                # With the best-path search over the word lattice, one utterance in eight fails.
                bestpath=False,
                loglevel="FATAL",
            )

    def align(self, name: str, words: list[str], waveform: np.ndarray) -> Segmentation:
        """Segment one utterance.

        Args:
            waveform: float32 [samples] in [-1, 1] at 16 kHz.

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the audio.
        """
        check_transcript(words, self._lexicon)
        samples = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decode(samples)
            self._decoder.set_alignment()
            self._decode(samples)
            alignment = self._decoder.get_alignment()
        except RuntimeError as error:
            raise AlignmentFailure(f"the words do not fit the audio ({error})") from None
        if alignment is None:
            raise AlignmentFailure("the words do not fit the audio (no path)")
        # One pass from the outside in: a phone is gone once its word's iterator moves on.
        phones = [
            (phone.name, [state.duration for state in phone])
            for word in alignment
            for phone in word
        ]
        names = tuple(phone if phone in CMU_PHONES else SILENCE for phone, _ in phones)
        return Segmentation(name, names, np.array([d for _, d in phones], np.int64))

    def _decode(self, samples: bytes) -> None:
        # Without this the front end remembers the last utterance, and the result depends on it.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(samples, full_utt=True)
        finally:
            self._decoder.end_utt()


def dictionary_text(lexicon: Lexicon) -> str:
    """The lexicon in pocketsphinx's format, second and later pronunciations numbered."""
    lines = []
    for word, pronunciations in lexicon.entries.items():
        for number, phones in enumerate(pronunciations, start=1):
            label = word if number == 1 else f"{word}({number})"
            lines.append(f"{label} {' '.join(phones)}\n")
    return "".join(lines)
