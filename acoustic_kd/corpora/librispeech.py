"""LibriSpeech and Mini LibriSpeech: 5 to 960 hours of audio books, in parts.

    DIR/LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac   16 kHz; or DIR/PART/…
                                         SPEAKER-CHAPTER.trans.txt   utterance-id WORDS …

A missing part is downloaded. https://www.openslr.org/12, https://www.openslr.org/31
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.openslr import fetch_part
from acoustic_kd.corpora.utterances import (
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Utterance,
    normalise_text,
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
    parts = {split: getattr(config, f"{split}_parts") for split in (*SPLITS, UNTRANSCRIBED)}
    folders = {name: fetch_part(name, data_dir) for names in parts.values() for name in names}
    for split in SPLITS:
        for name in parts[split]:
            utterances, excluded = _read_part(folders[name], split)
            corpus.splits.setdefault(split, []).extend(utterances)
            corpus.excluded += excluded
    transcribed = {u.speaker for utterances in corpus.splits.values() for u in utterances}
    for name in parts[UNTRANSCRIBED]:
        utterances = [
            _utterance(path, None)
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
        raise UserError(
            f"{part}: no speech in it; expected "
            f"{part / 'SPEAKER' / 'CHAPTER' / 'SPEAKER-CHAPTER-NNNN.flac'}; delete the folder to "
            "download the part"
        )
    return chapters


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def _recordings(chapter: Path) -> list[Path]:
    """The sound files of a chapter, without the hidden files of macOS (`._NAME`)."""
    return sorted(path for path in chapter.glob("*.flac") if not path.name.startswith("."))


def _utterance(path: Path, text: str | None) -> Utterance:
    return Utterance(path.stem, path.parent.parent.name, str(path), text)


def _read_part(part: Path, split: str) -> tuple[list[Utterance], list[Exclusion]]:
    """The utterances of a part, and those that are left out."""
    utterances, excluded = [], []
    for chapter in _chapters(part):
        path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
        recordings = {recording.stem: recording for recording in _recordings(chapter)}
        transcribed = set()
        for where, key, text in unique(_transcripts(path)):
            transcribed.add(key)
            reason = _reason_to_exclude(where, text)
            if key not in recordings:
                reason = f"no audio: {chapter / key}.flac"
            if reason is None:
                utterances.append(_utterance(recordings[key], text))
            else:
                excluded.append(Exclusion(key, split, reason))
        excluded += [
            Exclusion(key, split, f"no transcript in {path}")
            for key in recordings
            if key not in transcribed
        ]
    return utterances, excluded


def _reason_to_exclude(where: str, text: str) -> str | None:
    """Why a transcript cannot be used; None if it can."""
    if not text:
        return f"{where}: no words"
    if unexpected := _UNEXPECTED.search(text):
        return f"{where}: '{unexpected[0]}' is none of A to Z, apostrophe and space"
    return None


def _transcripts(path: Path) -> Iterator[tuple[str, str, str]]:
    """("PATH:LINE", utterance id, words) of each line; nothing if the file is missing."""
    for where, line in read_lines(path) if path.exists() else ():
        key, _, words = line.strip().partition(" ")
        if key:
            yield where, key, normalise_text(words)
