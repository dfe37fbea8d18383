"""CMU AN4 as distributed: spelled letters, numbers, names and dates by 84 speakers.

    DIR/etc/an4_{train,test}.fileids          an4_clstk/fash/an251-fash-b
    DIR/etc/an4_{train,test}.transcription    <s> YES </s> (an251-fash-b)
    DIR/wav/an4_clstk/fash/an251-fash-b.raw   16 kHz, mono; or .sph, .wav, .flac

http://www.speech.cs.cmu.edu/databases/an4/
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from acoustic_kd.corpora.utterances import Corpus, Exclusion, Utterance, normalise_text, pair
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines, unique

AUDIO_SUFFIXES = (".flac", ".wav", ".sph", ".raw")
_TRANSCRIPT = re.compile(r"^(?P<words>.*)\((?P<id>[^()\s]+)\)\s*$")
_MARKERS = re.compile(r"</?s>", re.IGNORECASE)


def lexicon_path(data_dir: Path) -> Path:
    """The dictionary that comes with AN4; it has every word of both splits."""
    return _root(Path(data_dir)) / "etc" / "an4.dic"


def read(data_dir: Path) -> Corpus:
    """Read AN4's train and test splits; `data_dir` is the `an4` folder or the one above it.

    An utterance without audio or without a transcript is left out and listed in `excluded`; so is
    a transcript that the fileids lack.
    """
    root = _root(Path(data_dir))
    corpus = Corpus(splits={})
    for split in ("train", "test"):
        corpus.splits[split], excluded = _read_split(root, split)
        corpus.excluded += excluded
    return corpus


def _read_split(root: Path, split: str) -> tuple[list[Utterance], list[Exclusion]]:
    rows = unique(_transcripts(root / "etc" / f"an4_{split}.transcription"))
    fileids = root / "etc" / f"an4_{split}.fileids"
    listed = ((where, line.strip()) for where, line in read_lines(fileids) if line.strip())
    names = unique((where, PurePosixPath(line).name, line) for where, line in listed)
    spoken = {key: _utterance(root, file_id) for _, key, file_id in names}
    return pair(split, spoken, rows, "no transcript", lambda key: f"not in {fileids}")


def _root(data_dir: Path) -> Path:
    for folder in (data_dir, data_dir / "an4"):
        if (folder / "etc").is_dir() and (folder / "wav").is_dir():
            return folder.absolute()
    raise UserError(
        f"{data_dir}: not an AN4 folder; expected {data_dir / 'etc' / 'an4_train.fileids'} and "
        f"{data_dir / 'wav'}; unpack an4_raw.bigendian.tar.gz and point --data-dir at its an4/"
    )


def _transcripts(path: Path) -> Iterator[tuple[str, str, str]]:
    """("PATH:LINE", utterance id, words without the sentence markers) of each line."""
    for where, line in read_lines(path):
        match = _TRANSCRIPT.match(line)
        if match:
            yield where, match["id"], normalise_text(_MARKERS.sub(" ", match["words"]))
        elif line.strip():
            raise UserError(f"{where}: expected 'WORDS (utterance-id)', found '{line.strip()}'")


def _utterance(root: Path, file_id: str) -> Utterance | str:
    """The utterance of a line of the fileids, without words, or the reason to leave it out."""
    # Not with_suffix(): it would cut an utterance id at a dot.
    candidates = [root / "wav" / f"{file_id}{suffix}" for suffix in AUDIO_SUFFIXES]
    audio = next((path for path in candidates if path.is_file()), None)
    if audio is None:
        return f"no audio: {root / 'wav' / file_id}{{{','.join(AUDIO_SUFFIXES)}}}"
    name = PurePosixPath(file_id)
    return Utterance(id=name.name, speaker=name.parent.name, audio=str(audio), text=None)
