"""Readers of corpora from other packages, which are entry points (docs/corpora.md)."""

import math
import traceback
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from itertools import chain
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.utterances import (
    ALL_SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Normalise,
    Utterance,
    is_text,
)
from acoustic_kd.settings import READERS
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.json_types import WrongType, reader


def own_reader(name: str) -> Callable[[Any, Path, Normalise], Corpus] | None:
    """The reader of the entry point `name` in the group READERS; None: there is none.

    Whatever is wrong with it, or with the corpus that it returns, is a UserError. The reader may
    raise a UserError, too.
    """
    points = sorted(entry_points(group=READERS, name=name), key=_distribution)
    if len(points) > 1:
        both = " and ".join(map(_distribution, points[:2]))
        raise UserError(f"corpus '{name}' is in {both}; uninstall one of them")
    if not points:
        return None
    what = f"corpus '{name}' of {_distribution(points[0])}: {points[0].value}"
    try:
        read = points[0].load()
    except (Exception, SystemExit) as error:  # a script may call sys.exit
        raise UserError(f"{what} cannot be imported ({_text(error)})") from error
    if not callable(read):
        raise UserError(f"{what} is no function, but of type {type(read).__name__}")

    def checked(config: Any, folder: Path, normalise: Normalise) -> Corpus:
        try:
            corpus = read(config, folder, normalise)
            if not isinstance(corpus, Corpus):
                raise UserError(f"{what} returned a {type(corpus).__name__}, not a Corpus")
            splits = {split: [*utterances] for split, utterances in corpus.splits.items()}
            # A copy, because `load` changes it, and the reader may return the same one again.
            corpus = Corpus(splits, [*corpus.excluded], [*corpus.notes])
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            raise UserError(f"{what} failed at {where} ({_text(error)})") from error
        if problem := _problem(corpus):
            raise UserError(f"{what} returned {problem}")
        return corpus

    return checked


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "a package"


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _problem(corpus: Corpus) -> str | None:
    """What is wrong with the contents of a corpus."""
    if "train" not in corpus.splits or not set(corpus.splits) <= set(ALL_SPLITS):
        return f"the splits {list(corpus.splits)}; return train, and others of {ALL_SPLITS}"
    utterances = [*chain(*corpus.splits.values())]
    expected: list[tuple[type, list]] = [(Utterance, utterances), (Exclusion, corpus.excluded)]
    for kind, value in ((kind, value) for kind, values in expected for value in values):
        try:
            if not isinstance(value, kind):
                raise WrongType(f"must be an {kind.__name__}")
            reader(kind)(vars(value))
        except WrongType as error:
            return f"{value!r}: {error}"
    for split in (split for split in corpus.splits if split != UNTRANSCRIBED):
        for utterance in (u for u in corpus.splits[split] if u.text is None):
            return f"{utterance}: 'text' is missing; only {UNTRANSCRIBED} may lack it"
    for utterance in utterances:
        if (text := utterance.text) is not None and (not text or text != " ".join(text.split())):
            return f"{utterance}: 'text' must be words with one space between them: normalise(text)"
        if not is_text(f"{text}{utterance.speaker}"):
            return f"{utterance}: 'text' or 'speaker' has half of a character"
        if not Path(utterance.audio).is_absolute():
            return f"{utterance}: 'audio' must be an absolute path"
        if not 0 <= (utterance.start or 0) < (utterance.end or math.inf):
            return f"{utterance}: no sound in this segment"
    return None
