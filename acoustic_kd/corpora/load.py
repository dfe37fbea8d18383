"""Corpora: audio and transcripts → utterances. One small file a corpus, one line in `CORPORA`."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from acoustic_kd.corpora import an4, demo, kaldi_dir, lhotse, librispeech
from acoustic_kd.corpora.utterances import (
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Normalise,
    Utterance,
    check_excluded,
    check_ids,
    normalise_text,
    shuffled_speakers,
    split_by_speaker,
    take_speakers,
)
from acoustic_kd.system.errors import UserError

DATA_VARIABLE = "ACOUSTIC_KD_DATA"


def data_dir(config: Any) -> Path | None:
    """The folder a corpus is read from, `config.data_dir` or $ACOUSTIC_KD_DATA; None for the demo.

    Of a corpus that can be downloaded there is a folder even where none is given.

    Raises:
        UserError: no folder is given, there is none, or no such corpus is known.
    """
    if config.name not in CORPORA:
        raise UserError(f"unknown corpus '{config.name}'; known: {', '.join(sorted(CORPORA))}")
    return None if config.name == "demo" else _folder(config)


def _folder(config: Any) -> Path:
    """The same for a corpus that is known and read from a folder."""
    given = config.data_dir or os.environ.get(DATA_VARIABLE)
    if not given and config.name == "librispeech":
        return librispeech.DOWNLOADS.absolute()
    if not given:
        raise UserError(
            f"corpus '{config.name}' is read from a folder: "
            f"give --data-dir DIR or set {DATA_VARIABLE}"
        )
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        how = "; make it, to download the corpus to it" if config.name == "librispeech" else ""
        raise UserError(f"{folder}: no such folder; corpus '{config.name}' is read from it{how}")
    return folder


def librispeech_dir(config: Any) -> Path:
    """Where LibriSpeech's own language models and lexicon are, or are downloaded to.

    Beside its speech; where the corpus is another, not in that one's folder.
    """
    return _folder(config) if config.name == "librispeech" else librispeech.DOWNLOADS.absolute()


def read_untranscribed(config: Any) -> list[Utterance]:
    """The speech without transcripts in the folder `config.untranscribed`; none without a folder.

    Raises:
        UserError: there is no such folder, or what is in it is malformed.
    """
    if config.untranscribed is None:
        return []
    folder = Path(config.untranscribed).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; corpus.untranscribed must be a Kaldi data directory"
        )
    return kaldi_dir.read_untranscribed(folder, _listing(config))


def _listing(config: Any) -> str:
    return kaldi_dir.FEATURES if is_of_features(config) else kaldi_dir.SOUND


def is_of_features(config: Any) -> bool:
    """Whether the corpus is one of frames, in Kaldi's archives, and not of sound."""
    return config.name == "kaldi_feats"


def own_lexicon(config: Any) -> Path | None:
    """The pronouncing lexicon that comes with the corpus, if one does."""
    return an4.lexicon_path(_folder(config)) if config.name == "an4" else None


def _in_capitals(read: Callable[[Any, Path], Corpus]) -> Callable[..., Corpus]:
    """The reader of a corpus whose transcripts are English capitals, which normalising keeps."""
    return lambda config, out_dir, normalise=normalise_text: read(config, out_dir)


def _of_ones_own(read: Callable[[Path, Normalise], Corpus]) -> Callable[..., Corpus]:
    """The reader of a corpus in a folder, in any language."""
    return lambda config, out_dir, normalise=normalise_text: read(_folder(config), normalise)


# name → reader(config, out_dir[, normalise]); only the demo writes there (audio). LibriSpeech is
# downloaded to its `data_dir`.
CORPORA: dict[str, Callable[..., Corpus]] = {
    "an4": _in_capitals(lambda config, out_dir: an4.read(_folder(config))),
    "demo": demo.read,
    "kaldi_dir": _of_ones_own(kaldi_dir.read),
    "kaldi_feats": _of_ones_own(partial(kaldi_dir.read, listing=kaldi_dir.FEATURES)),
    "lhotse": _of_ones_own(lhotse.read),
    "librispeech": _in_capitals(lambda config, out_dir: librispeech.read(config, _folder(config))),
}


def _split_off(
    split: str, utterances: list[Utterance], config: Any
) -> tuple[list[Utterance], list[Utterance]]:
    """(kept, split off) for test or dev: speakers by fold, number or share."""
    share, count = (getattr(config, f"{split}_{what}") for what in ("share", "speakers"))
    order = shuffled_speakers((utterance.speaker for utterance in utterances), config.seed)
    if split == "test" and config.folds is not None:
        if config.folds > len(order):
            raise UserError(
                f"setting 'corpus.folds' is {config.folds}; it must be at most the number of "
                f"speakers, {len(order)}"
            )
        return take_speakers(utterances, order[config.fold :: config.folds])
    if count is None:
        instead = f"a {split} split of the corpus itself"
        return split_by_speaker(utterances, share, config.seed, instead)
    if count >= len(order):
        raise UserError(
            f"setting 'corpus.{split}_speakers' is {count}; it must be less than the number of "
            f"speakers that are left, {len(order)}"
        )
    return take_speakers(utterances, order[:count])


def load(config: Any, out_dir: Path, normalise: Normalise | None = None) -> Corpus:
    """Read the corpus `config.name`: splits train, dev and test, each sorted by utterance id.

    Where the corpus has no test split, whole speakers of train are split off, chosen by
    `config.seed`; then likewise for dev: see `config.CorpusConfig`. A split `untranscribed` is
    there if there is anything for it: the corpus's own speech without transcripts, that of
    `config.untranscribed`, and of train as it is then whole speakers with about
    `config.untranscribed_share` of the utterances.

    Args:
        config: `config.CorpusConfig`.
        out_dir: where the demo writes its audio; the others write nothing.
        normalise: for transcripts; None: `normalise_text`.

    Raises:
        UserError: unknown corpus, missing or malformed files, an id with a space in it or used
            twice, more than 5 % of a split left out, or too few speakers to split off as many.
    """
    data_dir(config)  # refuses a corpus that nobody knows
    more = read_untranscribed(config)  # before the demo takes its time
    given = () if normalise is None else (normalise,)
    corpus = CORPORA[config.name](config, Path(out_dir), *given)
    for split, utterances in corpus.splits.items():
        excluded = [exclusion for exclusion in corpus.excluded if exclusion.split == split]
        check_excluded(split, len(utterances), excluded)
        if not utterances:
            raise UserError(f"{split}: no utterances in this split of corpus '{config.name}'")
    # The folder that was named may be the corpus's own: then its speech is there once.
    untranscribed = list(dict.fromkeys([*corpus.splits.pop(UNTRANSCRIBED, []), *more]))
    check_ids(chain(*corpus.splits.values(), untranscribed))
    if config.folds is not None and "test" in corpus.splits:
        raise UserError(
            f"setting 'corpus.folds' is {config.folds}; it must be null, for corpus "
            f"'{config.name}' has a test split of its own"
        )
    for split in ("test", "dev"):
        if split not in corpus.splits:
            train, split_off = _split_off(split, corpus.splits["train"], config)
            corpus.splits |= {"train": train, split: split_off}
    if config.untranscribed_share:
        share, instead = config.untranscribed_share, "corpus.untranscribed_share=0"
        train, moved = split_by_speaker(corpus.splits["train"], share, config.seed, instead)
        corpus.splits["train"] = train
        untranscribed += [replace(utterance, text=None) for utterance in moved]
    splits = {split: corpus.splits[split] for split in SPLITS}
    if untranscribed:
        splits[UNTRANSCRIBED] = untranscribed
    corpus.splits = {
        split: sorted(utterances, key=lambda utterance: utterance.id)
        for split, utterances in splits.items()
    }
    return corpus
