"""What two splits of a corpus have in common: sound, which is refused, and speakers."""

import filecmp
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.utterances import EVALUATION_SPLITS, UNTRANSCRIBED, Utterance
from acoustic_kd.kaldi.archives import archive_of
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import size_and_ends_digest

LEARNT = ("train", UNTRANSCRIBED)  # the splits that models learn from
MAX_OVERLAP_SECONDS = 0.1  # of two segments of a recording; neighbours may touch
_SHIFT_SECONDS = 0.01  # from a frame of features to the next
_ROWS = re.compile(r"\[(\d+):(\d+)\]$")  # of a place in an archive of features

Splits = Mapping[str, Sequence[Utterance]]


@dataclass(frozen=True)
class _Span:
    """A part of a recording that an utterance takes, in seconds."""

    split: str
    utterance: Utterance
    start: float
    end: float


def check_sound(splits: Splits) -> list[str]:
    """Refuse the same sound in two splits, whether by path, by content, or in part.

    Train and the speech without transcripts may share sound: no result is better for it.

    Returns:
        What to tell the user about such sound.
    """
    pairs = list(_shared_sound(splits))
    forbidden = [(a, b) for a, b in pairs if not {a.split, b.split} <= set(LEARNT)]
    chosen = forbidden or pairs
    if not chosen:
        return []
    one, other = chosen[0]
    files = " and ".join(dict.fromkeys((one.utterance.audio, other.utterance.audio)))
    count = len({span.utterance.id for span, _ in chosen})
    what = (
        f"the same sound is in two splits: '{one.utterance.id}' of {one.split} and "
        f"'{other.utterance.id}' of {other.split}, {files} ({count} such utterances)"
    )
    if forbidden:
        raise UserError(f"{what}; keep each sound in one split only")
    return [what]


def said_twice(splits: Splits) -> list[str]:
    """Notes on utterances of a split that are the same part of the same file."""
    notes = []
    for split, utterances in splits.items():
        first: dict[tuple[str, float | None, float | None], Utterance] = {}
        pairs = [(first.setdefault((u.audio, u.start, u.end), u), u) for u in utterances]
        same = [(one, other) for one, other in pairs if one is not other]
        if same:
            names = " and ".join(f"'{utterance.id}'" for utterance in same[0])
            notes.append(
                f"{split}: {len(same)} utterances are the same sound as another, first {names}: "
                f"{same[0][0].audio}"
            )
    return notes


def _shared_sound(splits: Splits) -> Iterator[tuple[_Span, _Span]]:
    """Spans of two splits that overlap; at least one pair of each span that overlaps."""
    recordings: dict[tuple[Path, str], list[_Span]] = defaultdict(list)
    files = _same_files(splits)
    for split, utterances in splits.items():
        for utterance in utterances:
            path = archive_of(utterance.audio)
            offset = utterance.audio[len(str(path)) :]  # of features in an archive
            start, end = utterance.start or 0.0, utterance.end or math.inf
            if rows := _ROWS.search(offset):
                start, end = (int(row) * _SHIFT_SECONDS for row in rows.groups())
            key = files.get(path, path), _ROWS.sub("", offset)
            recordings[key].append(_Span(split, utterance, start, end))
    for spans in recordings.values():
        last: dict[str, _Span] = {}  # split → the span that ends last so far
        for span in sorted(spans, key=lambda span: (span.start, span.end)):
            for split, earlier in last.items():
                overlap = min(span.end, earlier.end) - span.start
                if split != span.split and overlap > MAX_OVERLAP_SECONDS:
                    yield span, earlier
            if span.split not in last or span.end > last[span.split].end:
                last[span.split] = span


def _same_files(splits: Splits) -> dict[Path, Path]:
    """Files of different splits with the same content: each → the first of them.

    Contents are compared only where sizes are equal, so most files are not opened.
    """
    used: dict[Path, set[str]] = defaultdict(set)
    for split, utterances in splits.items():
        for utterance in utterances:
            used[archive_of(utterance.audio)].add(split)
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in used:
        if path.is_file() and (size := path.stat().st_size):  # an empty file has no speech
            sizes[size].append(path)
    first: dict[Path, Path] = {}
    for paths in sizes.values():
        if len(paths) < 2 or len(set().union(*(used[path] for path in paths))) < 2:
            continue
        alike: dict[Any, list[Path]] = defaultdict(list)
        for path in paths:
            mark = size_and_ends_digest(path)
            if not mark:  # it cannot be read, so a later stage leaves it out
                continue
            known = alike[mark]
            same = next((k for k in known if filecmp.cmp(k, path, shallow=False)), None)
            if same is None:
                known.append(path)
            else:
                first[path] = same
    return first


def shared_speakers(splits: Splits) -> list[dict[str, Any]]:
    """Speakers of test and dev who are also in train, or in the speech without transcripts.

    Returns:
        A row for each two splits that share any: `split`, its number of `speakers`, how many of
        them are `shared`, and the split that they are also `in`.
    """
    names = {split: {u.speaker for u in utterances} for split, utterances in splits.items()}
    none: set[str] = set()
    return [
        {"split": split, "speakers": len(names[split]), "shared": len(shared), "in": other}
        for split in EVALUATION_SPLITS
        for other in LEARNT
        if (shared := names.get(split, none) & names.get(other, none))
    ]


def shared_speakers_text(row: Mapping[str, Any]) -> str:
    """A row of `shared_speakers` in words."""
    return "{shared} of {speakers} {split} speakers are in {in}".format(**row)
