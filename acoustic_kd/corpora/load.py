"""Find and read a corpus: audio and transcripts → utterances of each split.

A new corpus is a module here and a row of `CORPORA`, or an entry point of another package.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from acoustic_kd.corpora import an4, demo, kaldi_dir, lhotse, librispeech, manifest
from acoustic_kd.corpora.own_reader import own_reader
from acoustic_kd.corpora.utterances import (
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Normalise,
    Utterance,
    check_excluded,
    check_ids,
    check_transcripts,
    is_text,
    normalise_text,
    shuffled_speakers,
    split_by_speaker,
    take_speakers,
)
from acoustic_kd.system.environment import DATA_VARIABLE, data_folder
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.remote import local_folder


@dataclass(frozen=True)
class Reader:
    """How a corpus is read.

    Attributes:
        read: (settings of the corpus, folder, function that normalises a transcript) → its
            utterances, in the splits that it comes with; without dev or test, they are split off
            train by speaker. English capitals need no normalising.
        synthesised: whether `read` writes audio to the folder instead of reading a corpus there.
        downloads: where the corpus is downloaded to if no folder is given; None: it is not.
        lexicon: folder → the pronouncing lexicon that comes with the corpus.
        file: whether one file may be read instead of a folder.
        listing: what lists utterances in a Kaldi data directory of the same kind: sound files, or
            features.
    """

    read: Callable[[Any, Path, Normalise], Corpus]
    synthesised: bool = False
    downloads: Path | None = None
    lexicon: Callable[[Path], Path] | None = None
    file: bool = False
    listing: str = kaldi_dir.SOUND


CORPORA = {
    "an4": Reader(lambda config, folder, normalise: an4.read(folder), lexicon=an4.lexicon_path),
    "demo": Reader(demo.read, synthesised=True),
    "kaldi_dir": Reader(lambda config, folder, normalise: kaldi_dir.read(folder, normalise)),
    "kaldi_feats": Reader(
        lambda config, folder, normalise: kaldi_dir.read(folder, normalise, kaldi_dir.FEATURES),
        listing=kaldi_dir.FEATURES,
    ),
    "lhotse": Reader(lambda config, folder, normalise: lhotse.read(folder, normalise)),
    "librispeech": Reader(
        lambda config, folder, normalise: librispeech.read(config, folder),
        downloads=librispeech.DOWNLOADS,
    ),
    "manifest": Reader(
        lambda config, folder, normalise: manifest.read(folder, normalise), file=True
    ),
}


def _reader(config: Any) -> Reader:
    if config.name in CORPORA:
        return CORPORA[config.name]
    if read := own_reader(config.name):
        return Reader(read, file=True)
    raise UserError(f"unknown corpus '{config.name}'; known: {', '.join(sorted(CORPORA))}")


def data_dir(config: Any) -> Path | None:
    """Where a corpus is read from, a folder or a file, or downloaded to; None: synthesised.

    It is `config.data_dir`, else $ACOUSTIC_KD_DATA, else the corpus's own folder for downloads.
    """
    reader = _reader(config)
    if reader.synthesised:
        return None
    given = config.data_dir or data_folder()
    if not given and reader.downloads:
        return reader.downloads.absolute()
    if not given:
        raise UserError(
            f"corpus '{config.name}' is read from a folder: "
            f"give --data-dir DIR or set {DATA_VARIABLE}"
        )
    folder = local_folder(given).expanduser().resolve()
    if not is_text(str(folder)):
        raise UserError(f"{folder}: the name of this folder is not UTF-8; rename it")
    if not folder.is_dir() and not (reader.file and folder.is_file()):
        kind = "file or folder" if reader.file else "folder"
        how = "; make it, to download the corpus to it" if reader.downloads else ""
        what = f"no such {kind}; corpus '{config.name}' is read from it"
        raise UserError(f"{folder}: {what}{how}")
    return folder


def librispeech_dir(config: Any) -> Path:
    """The folder of LibriSpeech's language models and lexicon, or to download them to.

    It is that of LibriSpeech's speech; for another corpus, the default folder for downloads.
    """
    own_folder = data_dir(config) if config.name == "librispeech" else None
    return own_folder or librispeech.DOWNLOADS.absolute()


def read_untranscribed(config: Any) -> list[Utterance]:
    """The speech without transcripts in `config.untranscribed`; empty where that is None."""
    if config.untranscribed is None:
        return []
    folder = local_folder(config.untranscribed).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; corpus.untranscribed must be a Kaldi data directory"
        )
    return kaldi_dir.read_untranscribed(folder, _reader(config).listing)


def has_features(config: Any) -> bool:
    """Whether the corpus consists of features, in Kaldi's archives, instead of sound."""
    return _reader(config).listing == kaldi_dir.FEATURES


def corpus_lexicon(config: Any) -> Path | None:
    """The pronouncing lexicon that comes with the corpus; None without one."""
    reader, folder = _reader(config), data_dir(config)
    return reader.lexicon(folder) if reader.lexicon and folder else None


def _split_off(
    split: str, utterances: list[Utterance], config: Any
) -> tuple[list[Utterance], list[Utterance]]:
    """Choose the speakers of test or dev by fold, number or share; return (kept, split off)."""
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
        alternative = f"a {split} split that comes with the corpus"
        return split_by_speaker(utterances, share, config.seed, alternative)
    if count >= len(order):
        raise UserError(
            f"setting 'corpus.{split}_speakers' is {count}; it must be less than the number of "
            f"remaining speakers, {len(order)}"
        )
    return take_speakers(utterances, order[:count])


def load(config: Any, out_dir: Path, normalise: Normalise | None = None) -> Corpus:
    """Read the corpus `config.name`: splits train, dev and test, each sorted by utterance id.

    A corpus without a test split gets one: whole speakers of train, chosen by `config.seed`; then
    the same for dev. With `config.folds` the corpus's own splits are joined to train before that.
    See `settings.CorpusConfig`. A split `untranscribed` has the corpus's own speech without
    transcripts, that of `config.untranscribed`, and whole speakers of train with about
    `config.untranscribed_share` of its utterances; it is absent if there is none of these.

    Args:
        out_dir: where the demo writes its audio; no other corpus writes anything there.
        normalise: for transcripts; None: `normalise_text`.
    """
    folder = data_dir(config)
    added = read_untranscribed(config)  # before the demo takes its time
    corpus = _reader(config).read(config, folder or Path(out_dir), normalise or normalise_text)
    _check_splits(config, corpus)
    # The folder `config.untranscribed` may be the corpus's own; its speech is taken once.
    own = [replace(utterance, text=None) for utterance in corpus.splits.pop(UNTRANSCRIBED, [])]
    untranscribed = list(dict.fromkeys([*own, *added]))
    check_ids(chain(*corpus.splits.values(), untranscribed))
    check_transcripts(chain(*corpus.splits.values()))
    if config.folds is not None and len(corpus.splits) > 1:
        corpus.notes.append(f"train: the corpus's {', '.join(corpus.splits)}, joined for the folds")
        corpus.splits = {"train": list(chain(*corpus.splits.values()))}
    for split in ("test", "dev"):
        if split not in corpus.splits:
            train, split_off = _split_off(split, corpus.splits["train"], config)
            corpus.splits |= {"train": train, split: split_off}
            alone = all(utterance.speaker == utterance.id for utterance in train)
            how = "utterance, because no speakers are given" if alone else "speaker"
            corpus.notes.append(f"{split}: split off train, by {how}")
    if config.untranscribed_share:
        share, alternative = config.untranscribed_share, "corpus.untranscribed_share=0"
        train, moved = split_by_speaker(corpus.splits["train"], share, config.seed, alternative)
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


def _check_splits(config: Any, corpus: Corpus) -> None:
    """Refuse empty splits and too many exclusions."""
    for split, utterances in corpus.splits.items():
        excluded = [exclusion for exclusion in corpus.excluded if exclusion.split == split]
        check_excluded(split, len(utterances), excluded)
        if not utterances:
            raise UserError(f"{split}: no utterances in this split of corpus '{config.name}'")
