"""The user's own corpus as Kaldi data directories.

    DIR/{train,dev,test}/wav.scp    recording-id path        (dev may be absent)
                         text       utterance-id words …     (absent = not transcribed)
                         utt2spk    utterance-id speaker     (absent = speaker is utterance id)
                         segments   utterance-id recording-id start end   (seconds; optional)
    DIR/untranscribed/              the same files; `text` is not read (may be absent)

A relative path in wav.scp starts at DIR. With features instead of sound (`corpus.name=kaldi_feats`)
each directory has feats.scp instead of wav.scp and segments: `utterance-id archive:offset`, as
Kaldi writes it.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from acoustic_kd.corpora.utterances import (
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Normalise,
    Utterance,
    normalise_text,
)
from acoustic_kd.kaldi.archives import parse_place
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines, unique

SOUND, FEATURES = "wav.scp", "feats.scp"
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # tabs may separate


@dataclass(frozen=True)
class _Segment:
    audio: str
    start: float | None = None
    end: float | None = None


def read(data_dir: Path, normalise: Normalise = normalise_text, listing: str = SOUND) -> Corpus:
    """Read the splits under `data_dir`; an utterance that `text` lacks is left out.

    Args:
        normalise: for the transcripts.
        listing: the file that lists the utterances, SOUND or FEATURES.
    """
    root = Path(data_dir).absolute()
    corpus = Corpus(splits={})
    for split in SPLITS:
        folder = root / split
        if split == "dev" and not folder.is_dir():
            continue
        if not (folder / listing).is_file():
            raise UserError(
                f"{folder / listing}: no such file; expected Kaldi data directories "
                f"train, test and perhaps dev under {root}"
            )
        corpus.splits[split], excluded = _read_split(root, split, normalise, listing)
        corpus.excluded += excluded
    if (root / UNTRANSCRIBED).is_dir():
        corpus.splits[UNTRANSCRIBED] = read_untranscribed(root / UNTRANSCRIBED, listing)
    return corpus


def read_untranscribed(folder: Path, listing: str = SOUND) -> list[Utterance]:
    """Read one data directory without its `text`; a relative path starts at the folder above it."""
    folder = Path(folder).absolute()
    path = folder / listing
    if not path.is_file():
        raise UserError(f"{path}: no such file; list the speech without transcripts in it")
    utterances = _read_utterances(folder, listing)
    if not utterances:
        raise UserError(f"{path}: lists no speech; fill it, or remove the folder")
    return utterances


def _read_split(
    root: Path, split: str, normalise: Normalise, listing: str
) -> tuple[list[Utterance], list[Exclusion]]:
    utterances, path = _read_utterances(root / split, listing), root / split / "text"
    if not path.is_file():
        return utterances, []
    texts = {key: words for _, key, words in _rows(path)}
    kept, excluded = [], []
    for utterance in utterances:
        if text := normalise(texts.get(utterance.id, "")):
            kept.append(replace(utterance, text=text))
        else:
            excluded.append(Exclusion(utterance.id, split, f"no words in {path}"))
    return kept, excluded


def _read_utterances(folder: Path, listing: str) -> list[Utterance]:
    """The utterances of a data directory, without its `text`."""
    if listing == FEATURES:
        segments = _read_feats_scp(folder / FEATURES)
    else:
        segments = _read_wav_scp(folder / SOUND, folder.parent)
    if listing == SOUND and (folder / "segments").is_file():
        segments = _read_segments(folder / "segments", segments)
    speakers = {key: key for key in segments}
    if (folder / "utt2spk").is_file():
        speakers = _read_speakers(folder / "utt2spk")
        if missing := next((key for key in segments if key not in speakers), None):
            raise UserError(
                f"{folder / 'utt2spk'}: no speaker of utterance '{missing}'; add a line for it, or "
                "remove the file to make every utterance its own speaker"
            )
    return [
        Utterance(key, speakers[key], segment.audio, None, segment.start, segment.end)
        for key, segment in segments.items()
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
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        yield where, key, rest.strip()


def _read_speakers(path: Path) -> dict[str, str]:
    speakers = {}
    for where, key, speaker in _rows(path):
        if len(speaker.split()) != 1:
            raise UserError(f"{where}: expected 'utterance-id speaker', found '{key} {speaker}'")
        speakers[key] = speaker
    return speakers


def _read_wav_scp(path: Path, root: Path) -> dict[str, _Segment]:
    recordings = {}
    for where, key, audio in _rows(path):
        if not audio:
            raise UserError(f"{where}: expected 'recording-id path', found '{key}' alone")
        if audio.startswith("|") or audio.endswith("|"):
            raise UserError(
                f"{where}: '{audio}' is a command, and commands are not run; write its output "
                "to a wav or flac file and give that path"
            )
        recordings[key] = _Segment(str(root / audio))  # an absolute path stays as it is
    return recordings


def _read_feats_scp(path: Path) -> dict[str, _Segment]:
    """The place of each utterance's frames, as text; `archives.parse_place` parses it again."""
    return {
        key: _Segment(str(parse_place(where, entry, path.parent)))
        for where, key, entry in _rows(path)
    }


def _read_segments(path: Path, recordings: dict[str, _Segment]) -> dict[str, _Segment]:
    segments = {}
    for where, key, rest in _rows(path):
        fields = rest.split()
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            raise UserError(
                f"{where}: expected 'utterance-id recording-id start end', found '{key} {rest}'"
            ) from None
        if recording not in recordings:
            raise UserError(f"{where}: recording '{recording}' is not in {path.parent / 'wav.scp'}")
        to_the_end = end == -1  # as in Kaldi
        if not 0 <= start < (math.inf if to_the_end else end) or math.isinf(end):
            raise UserError(f"{where}: segment from {start} to {end} s has no sound in it")
        audio = recordings[recording].audio
        segments[key] = _Segment(audio, start, None if to_the_end else end)
    return segments
