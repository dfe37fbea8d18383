"""LibriSpeech and Mini LibriSpeech: 5 to 960 hours of audio books, in parts.

    DIR/LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac   16 kHz; or DIR/PART/…
                                         SPEAKER-CHAPTER.trans.txt   utterance-id WORDS …

Own recordings may have the same layout: sound in any format of `sound_files.SUFFIXES`, and any
names, as long as the ids in `*.trans.txt` are the names of the sound files.

A part is any folder; a missing one of LibriSpeech's own is downloaded. https://www.openslr.org/12, https://www.openslr.org/31
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.openslr import PARTS, fetch_part
from acoustic_kd.corpora.sound_files import SUFFIXES
from acoustic_kd.corpora.utterances import (
    ALL_SPLITS,
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Utterance,
    normalise_text,
    pair,
)
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines, unique

DOWNLOADS = Path("exp") / "librispeech-data"  # if no folder is given
_UNEXPECTED = re.compile("[^A-Z' ]")  # in a transcript


def read(config: Any, data_dir: Path) -> Corpus:
    """Read the parts that `config` names for each split, from `data_dir` or downloaded to it.

    An utterance without audio, without words, or with characters other than A to Z, apostrophe
    and space is left out and listed in `excluded`. Speakers of the transcribed parts are left out
    of the untranscribed ones, because these might hold speech of the test: train-clean-5 is a
    piece of train-clean-100, and dev-clean-2 of dev-clean.

    Args:
        config: has `train_parts`, `dev_parts`, `test_parts`, `untranscribed_parts`: names.
    """
    corpus = Corpus(splits={})
    parts = {split: getattr(config, f"{split}_parts") for split in ALL_SPLITS}
    # What cannot be downloaded first, so that a wrong name is refused before any download.
    named = sorted((name for names in parts.values() for name in names), key=PARTS.__contains__)
    folders = {name: fetch_part(name, data_dir) for name in named}
    for split in SPLITS:
        for chapter in (chapter for name in parts[split] for chapter in _chapters(folders[name])):
            utterances, excluded = _read_chapter(chapter, split)
            corpus.splits.setdefault(split, []).extend(utterances)
            corpus.excluded += excluded
    transcribed = {u.speaker for utterances in corpus.splits.values() for u in utterances}
    for name in parts[UNTRANSCRIBED]:
        utterances = [
            _utterance(path)
            for chapter in _chapters(folders[name])
            if chapter.parent.name not in transcribed
            for path in _recordings(chapter)
        ]
        corpus.splits.setdefault(UNTRANSCRIBED, []).extend(utterances)
    return corpus


def _chapters(part: Path) -> list[Path]:
    """The folders PART/SPEAKER/CHAPTER."""
    chapters = [chapter for speaker in _folders(part) for chapter in _folders(speaker)]
    if not any(_recordings(chapter) for chapter in chapters):  # mostly the first has some
        found = Counter(path.suffix or path.name for path in part.rglob("*") if path.is_file())
        names = ", ".join(f"{count} {suffix}" for suffix, count in found.most_common(3))
        what = f"its files are: {names}" if found else "delete the folder to download the part"
        raise UserError(
            f"{part}: no speech in it; expected "
            f"{part / 'SPEAKER' / 'CHAPTER' / 'SPEAKER-CHAPTER-NNNN.flac'}; {what}"
        )
    return chapters


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def _files(chapter: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files with one of these ends, without the hidden files of macOS (`._NAME`)."""
    return sorted(
        path
        for path in chapter.iterdir()
        if path.name.lower().endswith(suffixes) and not path.name.startswith(".")
    )


def _recordings(chapter: Path) -> list[Path]:
    """The sound files of a chapter; of two with one name, that whose format comes first."""
    paths = sorted(_files(chapter, SUFFIXES), key=lambda p: -SUFFIXES.index(p.suffix.lower()))
    return sorted({path.stem: path for path in paths}.values())


def _utterance(path: Path) -> Utterance:
    """The utterance of a sound file, without its words."""
    return Utterance(path.stem, path.parent.parent.name, str(path), None)


def _read_chapter(chapter: Path, split: str) -> tuple[list[Utterance], list[Exclusion]]:
    """The utterances of a chapter, and those that are left out."""
    paths = _files(chapter, (".trans.txt",))
    given = paths[0] if paths else chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    return pair(
        split,
        {path.stem: _utterance(path) for path in _recordings(chapter)},
        unique(row for path in paths for row in _transcripts(path)),
        f"no transcript in {given}",
        lambda key: f"no audio: {chapter / key}.flac",
        _unexpected,
    )


def _unexpected(words: str) -> str | None:
    """Why a transcript cannot be used; None if it can."""
    found = _UNEXPECTED.search(words)
    return f"'{found[0]}' is none of A to Z, apostrophe and space" if found else None


def _transcripts(path: Path) -> Iterator[tuple[str, str, str]]:
    """("PATH:LINE", utterance id, words) of each line; empty lines are skipped."""
    for where, line in read_lines(path):
        if line.strip():
            key, *words = line.split(maxsplit=1)
            yield where, key, normalise_text(" ".join(words))
