"""Words that are spelled: what `lang.units` makes of transcripts, lexicon and language model.

docs/units.md
"""

from collections import Counter
from functools import partial
from pathlib import Path

from acoustic_kd.alignment.segmentation import STATES
from acoustic_kd.config import Config
from acoustic_kd.corpora.manifest import Normalise, read_manifest
from acoustic_kd.errors import UserError
from acoustic_kd.files import file_digest
from acoustic_kd.lexicon import SILENCE, Lexicon
from acoustic_kd.senones import read_inventory
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.realign import Trained, find_trained
from acoustic_kd.units.graphemes import FORMAT, Alphabet
from acoustic_kd.units.text import normalise_spelled
from acoustic_kd.work import read_done


def is_spelled(config: Config) -> bool:
    """Whether words are made of what they are written in."""
    return config.lang.units != "phones"


def normaliser(config: Config) -> Normalise | None:
    """What makes words of transcripts and other text; None: they are as a lexicon has them."""
    return partial(normalise_spelled, case=config.lang.case) if is_spelled(config) else None


def spelling_source(config: Config) -> dict[str, str]:
    """What the corpus stage records; the same for graphemes and for pieces, which come later."""
    if not is_spelled(config):
        return {}
    sources = {"units": _units(config)}
    if config.align.method == "dnn":
        sources["model's units"] = file_digest(_model(config).inventory)
    return sources


def _units(config: Config) -> str:
    """What words are made of, in a word."""
    if not is_spelled(config):
        return "phones"
    places = " by place" if config.lang.positions else ""
    return f"graphemes {FORMAT} {config.lang.case}{places}"


def check_spelled(experiment: Experiment) -> None:
    """Are the words of the corpus stage made of what the settings say?

    Raises:
        UserError: no.
    """
    then = experiment.done("corpus")["inputs"].get("units", "phones")
    now = _units(experiment.config)
    if then != now:
        raise UserError(
            f"{experiment.path('corpus')}: words are made of {then} there, and the settings of "
            f"'lang' say {now}; run stage {experiment.number('corpus')} (corpus) again, and those "
            "that follow"
        )


def _model(config: Config) -> Trained:
    """What aligns: `align.model`."""
    return find_trained(str(config.align.model))


def alphabet_of(experiment: Experiment, stage: str) -> Alphabet:
    """What words are spelled in.

    Args:
        stage: "corpus": the graphemes of the train transcripts, or those of the models that align
            them; "graph": those that have senones.

    Raises:
        UserError: they are too many, or none; or these models' words are spelled otherwise.
    """
    config = experiment.config
    if stage == "graph":
        return _in_units_of(experiment.path("senones") / "inventory.json")
    if config.align.method == "dnn":
        model = _model(config)
        then = (read_done(model.experiment / "corpus") or {}).get("inputs", {})
        known, asked = then.get("units", "phones"), _units(config)
        if known != asked:
            raise UserError(
                f"setting 'align.model' is {config.align.model}: its words are made of {known}, "
                f"and the settings of 'lang' say {asked}; the models that align must know the same"
            )
        return _in_units_of(model.inventory)
    path = experiment.path("corpus") / "train.jsonl"
    words = Counter(w for u in read_manifest(path) for w in (u.text or "").split())
    return Alphabet(words, config.lang.positions)


def _in_units_of(inventory: Path) -> Alphabet:
    return Alphabet.of(set(read_inventory(inventory).phones) - {SILENCE})


def check_leaves(config: Config, lexicon: Lexicon) -> None:
    """Are there senones enough for the letters? Asked before anything is aligned.

    Raises:
        UserError: there are not.
    """
    states = STATES * (1 + len(lexicon.phones()))
    if config.senones.leaves < states:
        raise UserError(
            f"setting 'senones.leaves' is {config.senones.leaves}; silence and "
            f"{len(lexicon.phones())} letters, some by their place in a word, need at least "
            f"{states}, and better twice as many; or give lang.positions=false"
        )
