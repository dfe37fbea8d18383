"""What a file is that libsndfile cannot open, from its first bytes, and what to do with it."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

FETCH = "fetch it again or take it out of the corpus"
_UNPACK = "unpack it"
_PAGE = "fetch the sound file itself"

# Pattern of the first bytes → what the file is, and what to do; None: convert it with ffmpeg.
_KINDS: tuple[tuple[bytes, str, str | None], ...] = (
    (rb"NIST_1A.*shorten|ajkg", "compressed by shorten", "sph2pipe -f wav {path} {wav}"),
    (rb"NIST_1A.*wavpack", "compressed by WavPack inside SPHERE", "decompress it"),
    (rb"....ftyp", "MP4 or M4A", None),
    (rb"\x1a\x45\xdf\xa3", "Matroska or WebM", None),
    (rb"#!AMR", "AMR", None),
    (rb"\x02?#!SILK", "SILK", "convert it with a SILK decoder"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA or other ASF", None),
    (rb"wvPk", "WavPack", None),
    (rb"MAC ", "Monkey's Audio", None),
    (rb"TTA[12]", "True Audio", None),
    (rb"MPCK|MP\+", "Musepack", None),
    (rb"\.ra\xfd|\.RMF", "RealAudio", None),
    (rb"FLV\x01", "Flash video", None),
    (rb"DSD |FRM8", "DSD", None),
    (rb"\x0b\x77", "AC-3", None),
    (rb"\xff[\xf0\xf1\xf8\xf9]|ADIF", "AAC", None),
    (rb"RIF[FX]....AVI ", "AVI video", None),
    (rb"\x00\x00\x01[\xb3\xba]|\x47.{187}\x47", "MPEG video", None),
    (rb"OggS", "Ogg with a codec that is not read", None),
    (rb"RIF[FX]....WAVE|RF64|riff\x2e", "WAV with a codec that is not read", None),
    (rb"FORM....AIF[FC]", "AIFF with a codec that is not read", None),
    (rb"caff", "CAF with a codec that is not read", None),
    (rb"MThd", "MIDI, which has notes and no sound", FETCH),
    (rb"\s*(<!doctype html|<html|<head|<\?xml|<!--)", "a web page", _PAGE),
    (rb"version https://git-lfs", "a pointer of Git LFS", "git lfs pull"),
    (rb"\x1f\x8b", "compressed by gzip", _UNPACK),
    (rb"PK\x03\x04", "a zip archive", _UNPACK),
    (rb"BZh", "compressed by bzip2", _UNPACK),
    (rb"\xfd7zXZ", "compressed by xz", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (rb"7z\xbc\xaf|Rar!", "an archive", _UNPACK),
    (rb".{257}ustar", "a tar archive", _UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", "a picture", FETCH),
    (rb"%PDF", "a PDF document", FETCH),
    (rb"\x89HDF|\x93NUMPY", "an array of HDF5 or NumPy", "write its samples as a WAV file"),
    (rb"\x00+\Z", "zeros only", FETCH),
    (rb"[\t\n\r -~\x80-\xff]*\Z", "text", FETCH),
)  # fmt: skip
_CONTAINERS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b"OggS")
_BROKEN = ("malformed", "not a sound", "bad ", "lost sync", "error in")


def converted(path: Path, *options: str, before: Sequence[str] = ()) -> str:
    """A command that writes a sound file as FLAC, without loss.

    Args:
        options: of ffmpeg, for its output.
        before: options of ffmpeg, for its input.
    """
    new = path.with_suffix(".flac")
    if new == path:
        new = path.with_name(f"{path.stem}-new.flac")
    return shlex.join(["ffmpeg", *before, "-i", str(path), *options, str(new)])


def describe(path: Path, head: bytes, reason: str) -> str:
    """What a file is that libsndfile refuses for a reason, and what to do."""
    recognised = any(word in reason.lower() for word in _BROKEN)
    for pattern, what, todo in _KINDS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            if head.startswith(_CONTAINERS) and "codec" in what and recognised:
                break
            if todo is None:
                return f"is {what}, which cannot be read here; convert it: {converted(path)}"
            wav = path.with_suffix(".wav")
            todo = todo.format(path=shlex.quote(str(path)), wav=shlex.quote(str(wav)))
            return f"is {what}, not a sound file that can be read; {todo}"
    if "not recognised" in reason:
        return (
            f"is not a sound file that can be read here; {FETCH}, or convert it: {converted(path)}"
        )
    return f"damaged ({reason}); {FETCH}"
