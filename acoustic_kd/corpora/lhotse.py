"""The user's own corpus as manifests of lhotse, which are read without lhotse.

    DIR/{train,dev,test}/*cuts*.jsonl.gz           cuts with their recordings and supervisions, or
                         *recordings*.jsonl.gz     sound files and their lengths
                         *supervisions*.jsonl.gz   speaker, text, beginning and length
    DIR/untranscribed/                             the same files; no text is read (may be absent)

One file of each kind, .jsonl.gz or .jsonl. Instead of the folder of a split, DIR may have files
with its name as a word in theirs, such as librispeech_cuts_train-clean-100.jsonl.gz. A relative
path of a sound file starts at DIR. An utterance is a supervision: it has the same id and the same
sound with cuts and without.
"""

from itertools import chain
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.manifest import (
    Kinds,
    Spoken,
    add,
    check,
    files,
    note_unread,
    rows,
    utterance,
)
from acoustic_kd.corpora.sound_files import locate
from acoustic_kd.corpora.utterances import (
    ALL_SPLITS,
    UNTRANSCRIBED,
    Corpus,
    Exclusion,
    Normalise,
    normalise_text,
    unused_notes,
)
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import unique

_MAX_OUTSIDE_SECONDS = 0.1  # of a supervision, outside its cut; more might be a word
_KINDS = ("cuts", "recordings", "supervisions")

_NONE = type(None)
_CUT_ID: Kinds = {"id": (str,)}
_RECORDING: Kinds = _CUT_ID | {"sources": (list,), "duration": (int, float)}
_PART: Kinds = _CUT_ID | {"start": (int, float), "duration": (int, float)}
_SUPERVISION: Kinds = _PART | {"text": (str, _NONE), "speaker": (str, int, _NONE)}


def read(data_dir: Path, normalise: Normalise = normalise_text) -> Corpus:
    """Read the splits under `data_dir`; a supervision without words is left out."""
    root, corpus = Path(data_dir).absolute(), Corpus(splits={})
    for split in ALL_SPLITS:
        cuts, recordings, supervisions = (_manifests(root, split, kind) for kind in _KINDS)
        others = [path.name for path in recordings + supervisions]
        if cuts:
            if others:
                corpus.notes.append(f"{split}: {cuts[0].name} is read, and not {', '.join(others)}")
            spoken = _from_cuts(root, split, cuts, corpus)
        elif recordings and supervisions:
            spoken = _from_recordings(root, split, recordings, supervisions, corpus)
        elif others or split == "train" or (root / split).is_dir():
            raise _expected(root, split, "supervisions" if recordings else "recordings")
        else:
            continue
        add(corpus, split, spoken, normalise)
    there = [(*files(root, kind), *root.glob(f"*/*{kind}*.jsonl*")) for kind in _KINDS]
    note_unread(corpus, root, chain.from_iterable(there))
    return corpus


def _manifests(root: Path, split: str, kind: str) -> list[Path]:
    """The manifests of a kind: one in the folder of the split, or those with its name beside it."""
    inside = files(root / split, kind)
    paths = inside + files(root, kind, split)
    if inside and len(paths) > 1:
        raise _expected(root, split, kind, f"not {paths[0].name} and {paths[1].name}")
    return paths


def _expected(root: Path, split: str, kind: str, but: str = "or one of cuts") -> UserError:
    return UserError(f"{root / split}: expected one manifest *{kind}*.jsonl.gz in it, {but}")


def _from_recordings(
    root: Path, split: str, recordings: list[Path], supervisions: list[Path], corpus: Corpus
) -> Spoken:
    found = unique((where, row["id"], row) for where, row in rows(recordings, _RECORDING))
    sounds = {key: _sound(where, row, root) for where, key, row in found}
    unused = dict.fromkeys(sounds)
    for where, row in rows(supervisions, _SUPERVISION | {"recording_id": (str,)}):
        if (name := row["recording_id"]) not in sounds:
            raise UserError(f"{where}: recording '{name}' is in no recordings manifest")
        unused.pop(name, None)
        audio, length = sounds[name]
        start, duration = row["start"], row["duration"]
        yield where, utterance(where, row["id"], row, audio, start, duration, length)
    corpus.notes += unused_notes(split, "recordings have no supervision", [*unused])


def _from_cuts(root: Path, split: str, cuts: list[Path], corpus: Corpus) -> Spoken:
    """A supervision is clipped at the ends of its cut, or left out if that may cost a word."""
    unused = []
    for where, cut_id, cut in unique((where, cut["id"], cut) for where, cut in rows(cuts, _CUT_ID)):
        if (kind := cut.get("type", "MonoCut")) not in ("MonoCut", "Cut"):  # Cut: its earlier name
            how = "save its sound with CutSet.save_audios"
            raise UserError(f"{where}: '{cut_id}' is a {kind}, and only MonoCuts are read; {how}")
        if cut.get("recording") is None:
            how = "make cuts of recordings, not of features"
            raise UserError(f"{where}: cut '{cut_id}' has no recording; {how}")
        check(where, cut, _PART | {"supervisions": (list,)})
        check(where, cut["recording"], _RECORDING)
        audio, length = _sound(where, cut["recording"], root)
        parts = cut["supervisions"]
        if not parts and split == UNTRANSCRIBED:
            parts = [cut | {"start": 0.0}]
        unused += [] if parts else [cut_id]
        for part in parts:
            check(where, part, _SUPERVISION)
            start, key = max(part["start"], 0.0), part["id"]
            duration = min(part["start"] + part["duration"], cut["duration"]) - start
            outside = part["duration"] - duration
            if outside > _MAX_OUTSIDE_SECONDS and split != UNTRANSCRIBED:
                reason = f"{where}: {outside:.2f} s of it are outside its cut"
                corpus.excluded.append(Exclusion(key, split, reason))
                continue
            start = round(cut["start"] + start, 8)  # as lhotse
            yield where, utterance(where, key, part, audio, start, duration, length)
    corpus.notes += unused_notes(split, "cuts have no supervision", unused)


def _sound(where: str, row: Any, root: Path) -> tuple[str, float]:
    """Sound file and length in seconds of a recording."""
    source = row["sources"][0] if len(row["sources"]) == 1 else None
    if not isinstance(source, dict) or source.get("type") != "file":
        raise UserError(f"{where}: expected one source of type 'file'; save the sound to a file")
    if row.get("transforms"):
        raise UserError(f"{where}: transforms are not supported; save the transformed sound")
    if not isinstance(source.get("source"), str):
        raise UserError(f"{where}: the source has no path; add it")
    if isinstance(channels := source.get("channels"), list) and len(channels) > 1:
        raise UserError(f"{where}: {len(channels)} channels; save each to a file of its own")
    return locate(where, source["source"], root), row["duration"]
