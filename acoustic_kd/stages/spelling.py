"""Words that are spelled: what `lang.units` makes of transcripts, lexicon and language model.

docs/units.md
"""

from collections import Counter
from functools import lru_cache, partial
from pathlib import Path

from acoustic_kd.config import Config
from acoustic_kd.corpora.manifest import Normalise, read_manifest
from acoustic_kd.errors import UserError
from acoustic_kd.files import file_digest
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.units.graphemes import FORMAT, Alphabet
from acoustic_kd.units.text import normalise_spelled


def is_spelled(config: Config) -> bool:
    """Whether words are made of what they are written in."""
    return config.lang.units != "phones"


def normaliser(config: Config) -> Normalise | None:
    """What makes words of transcripts and other text; None: they are as a lexicon has them."""
    return partial(normalise_spelled, case=config.lang.case) if is_spelled(config) else None


def spelling_source(config: Config) -> dict[str, str]:
    """What the corpus stage records; the same for graphemes and for pieces, which come later."""
    places = " by place" if config.lang.positions else ""
    spelling = f"graphemes {FORMAT} {config.lang.case}{places}"
    return {"units": spelling} if is_spelled(config) else {}


def check_spelled(experiment: Experiment) -> None:
    """Are the words of the corpus stage made of what the settings say?

    Raises:
        UserError: no.
    """
    then = experiment.done("corpus")["inputs"].get("units", "phones")
    now = spelling_source(experiment.config).get("units", "phones")
    if then != now:
        raise UserError(
            f"{experiment.path('corpus')}: words are made of {then} there, and the settings of "
            f"'lang' say {now}; run stage {experiment.number('corpus')} (corpus) again, and those "
            "that follow"
        )


def alphabet_of(experiment: Experiment) -> Alphabet:
    """The graphemes of the train transcripts.

    Raises:
        UserError: they are too many, or none.
    """
    path = experiment.path("corpus") / "train.jsonl"
    return _alphabet(path, file_digest(path), experiment.config.lang.positions)


@lru_cache(maxsize=1)
def _alphabet(path: Path, content: str, positions: bool) -> Alphabet:
    words = Counter(w for u in read_manifest(path) for w in (u.text or "").split())
    return Alphabet(words, positions)
