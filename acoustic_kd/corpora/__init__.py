"""Corpora: audio and transcripts → utterances. One small file a corpus, one line in `CORPORA`."""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from acoustic_kd.corpora import an4, demo, kaldi_dir
from acoustic_kd.corpora.manifest import (
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Utterance,
    check_excluded,
    check_unique,
    split_by_speaker,
)
from acoustic_kd.errors import UserError

DATA_VARIABLE = "ACOUSTIC_KD_DATA"


def data_dir(config: Any) -> Path | None:
    """The folder a corpus is read from, `config.data_dir` or $ACOUSTIC_KD_DATA; None for the demo.

    Raises:
        UserError: no folder is given, there is none, or no such corpus is known.
    """
    if config.name not in CORPORA:
        raise UserError(f"unknown corpus '{config.name}'; known: {', '.join(sorted(CORPORA))}")
    if config.name == "demo":
        return None
    given = config.data_dir or os.environ.get(DATA_VARIABLE)
    if not given:
        raise UserError(
            f"corpus '{config.name}' is read from a folder: "
            f"give --data-dir DIR or set {DATA_VARIABLE}"
        )
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; corpus '{config.name}' is read from it")
    return folder


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
    return kaldi_dir.read_untranscribed(folder)


def own_lexicon(config: Any) -> Path | None:
    """The pronouncing lexicon that comes with the corpus, if one does."""
    return an4.lexicon_path(data_dir(config)) if config.name == "an4" else None


def _from_folder(read: Callable[[Path], Corpus]) -> Callable[[Any, Path], Corpus]:
    """The reader of a corpus that lies in a folder."""
    return lambda config, out_dir: read(data_dir(config))


# name → reader(config, out_dir); only the demo writes (audio, under `out_dir`).
CORPORA: dict[str, Callable[[Any, Path], Corpus]] = {
    "an4": _from_folder(an4.read),
    "demo": demo.read,
    "kaldi_dir": _from_folder(kaldi_dir.read),
}


def load(config: Any, out_dir: Path) -> Corpus:
    """Read the corpus `config.name`: splits train, dev and test, each sorted by utterance id.

    Where the corpus has no dev split, about `config.dev_share` of train is split off, whole
    speakers, chosen by `config.seed`. A split `untranscribed` is there if there is anything for it:
    the corpus's own speech without transcripts, that of `config.untranscribed`, and of train as it
    is then whole speakers with about `config.untranscribed_share` of the utterances.

    Args:
        config: has `name`, `data_dir`, `dev_share`, `untranscribed`, `untranscribed_share`, `seed`,
            and what `demo.read` asks for.
        out_dir: where the demo writes its audio; the others write nothing.

    Raises:
        UserError: unknown corpus, missing or malformed files, an id used twice, or more than
            5 % of a split left out.
    """
    data_dir(config)  # refuses a corpus that nobody knows
    more = read_untranscribed(config)  # before the demo takes its time
    corpus = CORPORA[config.name](config, Path(out_dir))
    for split, utterances in corpus.splits.items():
        excluded = [exclusion for exclusion in corpus.excluded if exclusion.split == split]
        check_excluded(split, len(utterances), excluded)
        if not utterances:
            raise UserError(f"{split}: no utterances in this split of corpus '{config.name}'")
    # The folder that was named may be the corpus's own: then its speech is there once.
    untranscribed = list(dict.fromkeys([*corpus.splits.pop(UNTRANSCRIBED, []), *more]))
    check_unique(chain(*corpus.splits.values(), untranscribed))
    if "dev" not in corpus.splits:
        train, dev = split_by_speaker(corpus.splits["train"], config.dev_share, config.seed)
        corpus.splits |= {"train": train, "dev": dev}
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
