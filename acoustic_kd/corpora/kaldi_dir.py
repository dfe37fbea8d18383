"""The user's own corpus as Kaldi data directories.

    DIR/{train,dev,test}/wav.scp    recording-id path        (dev may be absent)
                         text       utterance-id words …     (absent = not transcribed)
                         utt2spk    utterance-id speaker     (absent = speaker is utterance id)
                         segments   utterance-id recording-id start end   (seconds; optional)
    DIR/untranscribed/              the same files; `text` is not read (may be absent)

A relative path in wav.scp starts at DIR, or else at the working directory. With features instead
of sound (`corpus.name=kaldi_feats`) each directory has feats.scp instead of wav.scp and segments:
`utterance-id archive:offset`, as Kaldi writes it.
"""

import math
import re
from collections.abc import Iterator
from os.path import lexists
from pathlib import Path

from acoustic_kd.corpora.sound_files import locate
from acoustic_kd.corpora.utterances import (
    ALL_SPLITS,
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Normalise,
    Utterance,
    normalise_text,
    pair,
    unread_note,
    unused_notes,
)
from acoustic_kd.kaldi.archives import parse_place
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines, unique

SOUND, FEATURES = "wav.scp", "feats.scp"
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # tabs may separate
Span = tuple[str, float | None, float | None]  # sound file, start, end


def read(data_dir: Path, normalise: Normalise = normalise_text, listing: str = SOUND) -> Corpus:
    """Read the splits under `data_dir`; leave out utterances and lines of `text` without the other.

    Args:
        listing: the file that lists the utterances, SOUND or FEATURES.
    """
    root = Path(data_dir).absolute()
    corpus = Corpus(splits={})
    for split in SPLITS:
        folder = root / split
        # Also a dead link is given: it must be refused, not passed over.
        if split == "dev" and not lexists(folder):
            continue
        if not (folder / listing).is_file():
            found = ", ".join(_other_folders(root, listing)) or "none"
            raise UserError(
                f"{folder / listing}: no such file; expected Kaldi data directories "
                f"train, test and perhaps dev under {root} (others there: {found})"
            )
        _read_split(corpus, folder, normalise, listing)
    if lexists(root / UNTRANSCRIBED):
        utterances = read_untranscribed(root / UNTRANSCRIBED, listing, corpus.notes)
        corpus.splits[UNTRANSCRIBED] = utterances
    if unread := _other_folders(root, listing):
        corpus.notes.append(unread_note(root, unread))
    return corpus


def _other_folders(root: Path, listing: str) -> list[str]:
    """The names of data directories that are no split."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [f.name for f in folders if f.name not in ALL_SPLITS and (f / listing).is_file()]


def read_untranscribed(
    folder: Path, listing: str = SOUND, notes: list[str] | None = None
) -> list[Utterance]:
    """Read one data directory without its `text`; a relative path starts at the folder above it.

    Args:
        notes: what the user should know is added to it.
    """
    folder = Path(folder).absolute()
    path = folder / listing
    if not path.is_file():
        raise UserError(f"{path}: no such file; list the speech without transcripts in it")
    utterances = _read_utterances(folder, listing, [] if notes is None else notes)
    if not utterances:
        raise UserError(f"{path}: lists no speech; fill it, or remove the folder")
    return utterances


def _read_split(corpus: Corpus, folder: Path, normalise: Normalise, listing: str) -> None:
    """Add the split of a folder to the corpus."""
    utterances, path = _read_utterances(folder, listing, corpus.notes), folder / "text"
    excluded: list[Exclusion] = []
    if lexists(path):
        rows = ((where, key, normalise(words)) for where, key, words in _rows(path))
        spoken = {utterance.id: utterance for utterance in utterances}
        segmented = listing == SOUND and lexists(folder / "segments")
        source = folder / ("segments" if segmented else listing)
        utterances, excluded = pair(
            folder.name, spoken, rows, f"not in {path}", lambda key: f"no sound: not in {source}"
        )
    corpus.splits[folder.name] = utterances
    corpus.excluded += excluded


def _read_utterances(folder: Path, listing: str, notes: list[str]) -> list[Utterance]:
    """The utterances of a data directory, without its `text`; add to `notes`."""
    read = _read_feats_scp if listing == FEATURES else _read_wav_scp
    sounds, path = read(folder / listing), folder / "utt2spk"
    spans: dict[str, Span] = {key: (audio, None, None) for key, audio in sounds.items()}
    if listing == SOUND and lexists(folder / "segments"):
        spans = _read_segments(folder / "segments", sounds, notes)
    speakers = {key: key for key in spans}
    if lexists(path):
        speakers = _read_speakers(path)
        unused = [key for key in speakers if key not in spans]
        notes += unused_notes(path, "ids are not used", unused, ": no such utterance")
        if missing := next((key for key in spans if key not in speakers), None):
            raise UserError(
                f"{path}: no speaker of utterance '{missing}'; add a line for it, or remove the "
                "file to make every utterance its own speaker"
            )
    return [
        Utterance(key, speakers[key], audio, None, start, end)
        for key, (audio, start, end) in spans.items()
    ]


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """("PATH:LINE", first field, rest of the line) of each line, checked."""
    return unique(_checked_rows(path))


def _checked_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, line in read_lines(path):
        if control := _CONTROL.search(line):
            raise UserError(f"{where}: control character U+{ord(control[0]):04X}; remove it")
        if not line.strip():
            raise UserError(f"{where}: empty line; remove it")
        # Any white space ends an id: word processors write U+00A0, which looks like a space.
        key, *rest = line.split(maxsplit=1)
        yield where, key, rest[0].strip() if rest else ""


def _read_speakers(path: Path) -> dict[str, str]:
    speakers = {}
    for where, key, speaker in _rows(path):
        if len(speaker.split()) != 1:
            raise UserError(f"{where}: expected 'utterance-id speaker', found '{key} {speaker}'")
        speakers[key] = speaker
    return speakers


def _read_wav_scp(path: Path) -> dict[str, str]:
    recordings = {}
    for where, key, audio in _rows(path):
        if not audio:
            raise UserError(f"{where}: expected 'recording-id path', found '{key}' alone")
        if audio.startswith("|") or audio.endswith("|"):
            raise UserError(
                f"{where}: '{audio}' is a command, and commands are not run; write its output "
                "to a wav or flac file and give that path"
            )
        recordings[key] = locate(where, audio, path.parents[1])
    return recordings


def _read_feats_scp(path: Path) -> dict[str, str]:
    """The place of each utterance's frames, as text; `archives.parse_place` parses it again."""
    return {key: str(parse_place(where, entry, path.parent)) for where, key, entry in _rows(path)}


def _read_segments(path: Path, recordings: dict[str, str], notes: list[str]) -> dict[str, Span]:
    segments: dict[str, Span] = {}
    unused = dict(recordings)
    for where, key, rest in _rows(path):
        fields = rest.split()
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
            if fields[3:] not in ([], ["0"]):  # Kaldi's optional channel: files have one channel
                raise ValueError
        except (IndexError, ValueError):
            raise UserError(
                f"{where}: expected 'utterance-id recording-id start end', found '{key} {rest}'"
            ) from None
        if recording not in recordings:
            raise UserError(f"{where}: recording '{recording}' is not in {path.parent / SOUND}")
        to_the_end = end == -1  # as in Kaldi
        if not 0 <= start < (math.inf if to_the_end else end) or math.isinf(end):
            raise UserError(f"{where}: segment from {start} to {end} s has no sound in it")
        unused.pop(recording, None)
        segments[key] = recordings[recording], start, None if to_the_end else end
    notes += unused_notes(path.parent / SOUND, "ids are not used", [*unused], f": not in {path}")
    return segments
