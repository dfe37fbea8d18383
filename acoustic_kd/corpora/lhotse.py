"""The user's own corpus as manifests of lhotse, which are read without lhotse.

    DIR/{train,dev,test}/*recordings*.jsonl.gz     sound files and their lengths
                         *supervisions*.jsonl.gz   speaker, text, beginning and length
    DIR/untranscribed/                             the same files; no text is read (may be absent)

One file of each kind, .jsonl.gz or .jsonl. An absent dev or test is split off by speaker. A
relative path of a sound file starts at DIR, or else at the working directory.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.sound_files import locate
from acoustic_kd.corpora.utterances import (
    SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Normalise,
    Utterance,
    normalise_text,
    unread_note,
)
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines, unique

_NUMBER = (int, float)
_RECORDING = {"id": str, "sources": list, "duration": _NUMBER}
_SUPERVISION = {
    **{"id": str, "recording_id": str, "start": _NUMBER, "duration": _NUMBER},
    **{"text": (str, type(None)), "speaker": (str, int, type(None))},  # may be absent
}
_MAX_SECONDS = 1e9  # larger numbers are errors, and integers may be too large for floats
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF_SAMPLE_SECONDS = 0.5 / 16000  # lengths are rounded


def read(data_dir: Path, normalise: Normalise = normalise_text) -> Corpus:
    """Read the splits under `data_dir`; a supervision without text is left out.

    Args:
        normalise: for the transcripts.
    """
    root = Path(data_dir).absolute()
    corpus = Corpus(splits={})
    for split in (*SPLITS, UNTRANSCRIBED):
        if split != "train" and not (root / split).is_dir():
            continue
        recordings = _recordings(_manifest(root / split, "recordings"), root)
        utterances = corpus.splits[split] = []
        rows = _rows(_manifest(root / split, "supervisions"), _SUPERVISION)
        used = set()
        for where, key, row in unique(rows):
            used.add(row["recording_id"])
            text = None if split == UNTRANSCRIBED else normalise(row.get("text") or "")
            if text == "":
                corpus.excluded.append(Exclusion(key, split, f"{where}: no words"))
            else:
                utterances.append(_utterance(where, row, recordings, text))
        if unused := [key for key in recordings if key not in used]:
            corpus.notes.append(
                f"{split}: {len(unused)} recordings have no supervision, first '{unused[0]}'"
            )
    known = (*SPLITS, UNTRANSCRIBED)
    folders = {path.parent.name for path in root.glob("*/*supervisions*.jsonl*")}
    if unread := sorted(folders.difference(known)):
        corpus.notes.append(unread_note(root, unread))
    return corpus


def _manifest(folder: Path, kind: str) -> Path:
    """The only manifest of a kind in a folder."""
    paths = sorted(folder.glob(f"*{kind}*.jsonl")) + sorted(folder.glob(f"*{kind}*.jsonl.gz"))
    if len(paths) != 1:
        several = f", not {paths[0].name} and {paths[1].name}" if paths else ""
        raise UserError(f"{folder}: expected one manifest *{kind}*.jsonl.gz in it{several}")
    return paths[0]


def _rows(path: Path, needed: dict[str, Any]) -> Iterator[tuple[str, str, dict]]:
    """("PATH:LINE", id, row) of each line, which has the keys and types that are `needed`."""
    for where, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{where}: not valid JSON") from None
        # Half of a pair of escapes such as "\ud800".
        if half := _SURROGATE.search(json.dumps(row, ensure_ascii=False)):
            raise UserError(
                f"{where}: not text: half of a character, \\u{ord(half[0]):04x}; write the "
                "manifest again"
            )
        for key, kind in needed.items():
            value = row.get(key) if isinstance(row, dict) else ...
            # A NaN is not within bounds either.
            if not isinstance(value, kind) or (kind is _NUMBER and not abs(value) < _MAX_SECONDS):
                raise UserError(f"{where}: '{key}' is missing or of a wrong type")
        yield where, row["id"], row


def _recordings(path: Path, root: Path) -> dict[str, tuple[str, float]]:
    """Sound file and length in seconds of each recording."""
    recordings = {}
    for where, key, row in unique(_rows(path, _RECORDING)):
        source = row["sources"][0] if len(row["sources"]) == 1 else None
        if not isinstance(source, dict) or source.get("type") != "file":
            raise UserError(
                f"{where}: expected one source of type 'file'; save the sound to a file"
            )
        if row.get("transforms"):
            raise UserError(f"{where}: transforms are not supported; save the transformed sound")
        if not isinstance(source.get("source"), str):
            raise UserError(f"{where}: the source has no path; add it")
        recordings[key] = locate(where, source["source"], root), float(row["duration"])
    return recordings


def _utterance(where: str, row: dict, recordings: dict, text: str | None) -> Utterance:
    if row["recording_id"] not in recordings:
        raise UserError(f"{where}: recording '{row['recording_id']}' is in no recordings manifest")
    audio, length = recordings[row["recording_id"]]
    start, end = float(row["start"]), float(row["start"]) + float(row["duration"])
    if not 0 <= start < end:
        raise UserError(f"{where}: segment from {start} to {end} s has no sound in it")
    if abs(end - length) <= _HALF_SAMPLE_SECONDS:  # to the last sample, which must be there
        end = length + _HALF_SAMPLE_SECONDS
    return Utterance(
        id=row["id"],
        speaker=row["id"] if row.get("speaker") in (None, "") else str(row["speaker"]),
        audio=audio,
        text=text,
        start=start or None,
        end=end,
    )
