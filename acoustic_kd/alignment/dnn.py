"""Forced alignment with trained acoustic models."""

from collections.abc import Sequence

import numpy as np

from acoustic_kd.alignment.segmentation import Segmentation
from acoustic_kd.alignment.senones import SenoneInventory
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.ensemble import posteriors
from acoustic_kd.training.model import AcousticModel


class DnnAligner:
    """Aligns utterances with a trained model or an ensemble of them.

    The best path maximises the HMM's likelihood: scaled likelihoods (posterior over prior) times
    the probabilities of staying in a state or leaving it, both with weight 1.

    Args:
        models: in evaluation mode.
        log_prior, durations: [K] of the senones, from `read_statistics`.
    """

    def __init__(
        self,
        models: Sequence[AcousticModel],
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
        self._models, self._bfloat16 = models, bfloat16
        self._log_prior = log_prior
        self._transcripts = Transcripts(lexicon, inventory, durations)

    def align(self, name: str, words: list[str], features: np.ndarray) -> Segmentation:
        """Segment one utterance.

        Args:
            features: float32 [T, D], normalised.

        Raises:
            AlignmentFailure: a word is not in the lexicon, or the words do not fit the frames.
        """
        self._transcripts.check(words, len(features))
        probabilities = posteriors(self._models, features, self._bfloat16)
        loglikes = log_likelihoods(probabilities, self._log_prior)
        path = self._transcripts.path(words, loglikes)
        return self._transcripts.inventory.segmentation(name, path)
