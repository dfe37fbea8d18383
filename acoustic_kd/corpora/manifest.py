"""The user's own corpus as JSON lines, one utterance a line, as NVIDIA NeMo reads them.

    DIR/*{train,dev,test,untranscribed}*.jsonl    {"audio_filepath": "wav/1.wav", "text": "…",
        "speaker": "anna", "offset": 0.0, "duration": 2.5, "id": "anna-1"}

Only audio_filepath and text are necessary. A split consists of the files that have its name as a
word in theirs; they end in .jsonl or .json, perhaps with .gz. An absent id is made of the path as
written and the offset, so that it stays the same when lines are added.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from acoustic_kd.corpora.sound_files import locate
from acoustic_kd.corpora.utterances import (
    ALL_SPLITS,
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

Spoken = Iterator[tuple[str, Utterance]]  # "PATH:LINE", utterance
Kinds = dict[str, tuple[type, ...]]  # key of a row → its types; with NoneType it may be absent

_NONE = type(None)
_ROW: Kinds = {"audio_filepath": (str,)}
_ROW |= dict.fromkeys(("id", "speaker"), (str, int, _NONE))
_ROW |= dict.fromkeys(("offset", "duration"), (int, float, _NONE))
_FILE = re.compile(r"[^.].*\.jsonl?(\.gz)?")
_NOT_IN_IDS = re.compile(r"[^\w.-]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF_SAMPLE_SECONDS = 0.5 / 16000  # lengths are rounded
_MAX_SECONDS = 1e9  # larger numbers are errors, and integers may be too large for floats


def read(data: Path, normalise: Normalise = normalise_text) -> Corpus:
    """Read a folder, or train from one file; an utterance without words is left out."""
    data, corpus = Path(data).absolute(), Corpus(splits={})
    for split in ALL_SPLITS:
        paths = files(data, split=split)
        if split == "train" and data.is_file():
            paths = [data]
        if split == "train" and not paths:
            raise UserError(f"{data}: no manifest in it; expected {data / 'train.jsonl'}")
        if paths:
            kinds = _ROW if split == UNTRANSCRIBED else _ROW | {"text": (str,)}
            add(corpus, split, _spoken(paths, kinds), normalise)
    note_unread(corpus, data, files(data))
    return corpus


def _spoken(paths: list[Path], kinds: Kinds) -> Spoken:
    for where, row in rows(paths, kinds):
        given, start, key = row["audio_filepath"], row.get("offset") or 0.0, row.get("id")
        if key in (None, ""):
            digest = hashlib.sha256(f"{given}\0{float(start)}".encode()).hexdigest()
            key = f"{_NOT_IN_IDS.sub('_', PurePosixPath(given).stem)}-{digest[:12]}"
        audio = locate(where, given, paths[0].parent)
        yield where, utterance(where, str(key), row, audio, start, row.get("duration"))


# --- shared with other readers of JSON lines ----------------------------------------------------


def files(folder: Path, kind: str = "", split: str = "") -> list[Path]:
    """The manifests in a folder with `kind` in their names, and the name of the split as a word."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in paths if _FILE.fullmatch(path.name) and kind in path.name]
    return [path for path in found if not split or split in _splits_of(path)]


def _splits_of(path: Path) -> set[str]:
    return set(ALL_SPLITS).intersection(re.split("[^a-z]+", path.name.lower()))


def note_unread(corpus: Corpus, root: Path, paths: Iterable[Path]) -> None:
    """Note manifests in `root` and in the folders there that belong to no split."""
    tops = {path if path.parent == root else path.parent for path in paths}
    unread = [p for p in tops if p.name not in ALL_SPLITS and (p.is_dir() or not _splits_of(p))]
    if unread:
        corpus.notes.append(unread_note(root, sorted(path.name for path in unread)))


def rows(paths: list[Path], kinds: Kinds) -> Iterator[tuple[str, dict[str, Any]]]:
    """("PATH:LINE", row) of each line that is not empty; the rows are checked by `check`."""
    for where, line in chain.from_iterable(map(read_lines, paths)):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            # Half of a pair of escapes such as "\ud800".
            text = json.dumps(value, ensure_ascii=False) if "\\u" in line else ""
        except (ValueError, RecursionError):
            raise UserError(f"{where}: not valid JSON; write one object a line") from None
        if half := _SURROGATE.search(text):
            what = f"half of a character, \\u{ord(half[0]):04x}"
            raise UserError(f"{where}: not text: {what}; write the manifest again")
        check(where, value, kinds)
        yield where, value


def check(where: str, row: Any, kinds: Kinds) -> None:
    """Refuse a row without the keys and types of `kinds`."""
    for key, kind in kinds.items():
        value = row.get(key) if isinstance(row, dict) else ...
        # A NaN is not within bounds either.
        number = value if float in kind and isinstance(value, int | float) else 0
        if type(value) not in kind or not abs(number) < _MAX_SECONDS:
            raise UserError(f"{where}: '{key}' is missing or of a wrong type")


def utterance(
    where: str, key: str, row: Mapping[str, Any], audio: str, start: float, duration: float | None,
    length: float = math.inf,
) -> Utterance:  # fmt: skip
    """The utterance `key` with the `text` of a row as written; without `speaker`, key is that.

    Args:
        start, duration: seconds; without a duration it reaches to the end of the file.
        length: of the file, in seconds.
    """
    end = start + (1.0 if duration is None else duration)
    if not 0 <= start < end < _MAX_SECONDS:
        raise UserError(f"{where}: segment from {start} to {end} s has no sound in it")
    if abs(end - length) <= _HALF_SAMPLE_SECONDS:  # to the last sample, which must be there
        end = length + _HALF_SAMPLE_SECONDS
    speaker = key if row.get("speaker") in (None, "") else str(row["speaker"])
    stop = None if duration is None else float(end)
    return Utterance(key, speaker, audio, row.get("text"), float(start) or None, stop)


def add(corpus: Corpus, split: str, spoken: Spoken, normalise: Normalise) -> None:
    """Add a split, whose utterances have their texts as written; leave out those without words."""
    utterances = corpus.splits[split] = []
    for where, key, found in unique((where, found.id, found) for where, found in spoken):
        text = None if split == UNTRANSCRIBED else normalise(found.text or "")
        if text == "":
            corpus.excluded.append(Exclusion(key, split, f"{where}: no words"))
        else:
            utterances.append(replace(found, text=text))
