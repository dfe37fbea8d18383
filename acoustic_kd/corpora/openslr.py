"""LibriSpeech's speech, language models and lexicon: find them in a folder, or download them to it
from openslr.org.
"""

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from acoustic_kd.system.download import (
    CheckSum,
    MirrorError,
    download,
    partial_path,
    require_downloads_allowed,
    unpacked,
)
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import check_sum, wait_for_lock

MIRRORS = (
    "https://www.openslr.org/resources/",
    "https://us.openslr.org/resources/",
    "https://openslr.elda.org/resources/",
    "https://openslr.trmal.net/resources/",
)
ARCHIVE_ROOT = "LibriSpeech"  # the folder that every archive contains
MAX_SIZE_RATIO = 1.1  # of a file to its size below, which is rounded


@dataclass(frozen=True)
class Part:
    """A file of openslr.org: its resource number, approximate size in bytes, and check sum."""

    resource: int
    size: float
    expected: CheckSum


# Check sums as OpenSLR publishes them (md5), or torchaudio (SHA-256).
_md5, _sha256 = partial(CheckSum, "md5"), partial(CheckSum, "sha256")
PARTS = {
    "train-clean-5": Part(31, 332e6, _md5("5df7d4e78065366204ca6845bb08f490")),
    "dev-clean-2": Part(31, 126e6, _md5("6d7ab67ac6a1d2c993d050e16d61080d")),
    "train-clean-100": Part(
        12, 6.4e9, _sha256("d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2")
    ),
    "train-clean-360": Part(
        12, 23e9, _sha256("146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf")
    ),
    "train-other-500": Part(
        12, 30e9, _sha256("ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2")
    ),
    "dev-clean": Part(
        12, 338e6, _sha256("76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3")
    ),
    "dev-other": Part(
        12, 314e6, _sha256("12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365")
    ),
    "test-clean": Part(
        12, 347e6, _sha256("39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23")
    ),
    "test-other": Part(
        12, 329e6, _sha256("d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29")
    ),
}

# https://www.openslr.org/11, by file name; md5 sums from public recipes.
LANGUAGE_MODELS = {
    "3-gram.pruned.3e-7.arpa.gz": Part(11, 13.7e6, _md5("8f67ec741827742eee05799ab7605b50")),
    "3-gram.pruned.1e-7.arpa.gz": Part(11, 34.1e6, _md5("9a0f1325bcaf3a0f7b7be4be10823c2a")),
    "3-gram.arpa.gz": Part(11, 760e6, _md5("74cbb837e582378c26c602e1c8cbcb9c")),
    "4-gram.arpa.gz": Part(11, 1.36e9, _md5("6abdcd5b055bd482e4f9defe91d40408")),
}
LEXICONS = {"librispeech-lexicon.txt": Part(11, 5.63e6, _md5("28f72663f6bfed7cd346283c064c315b"))}


def language_model_file(name: str) -> str | None:
    """The file of LibriSpeech's language model `name`, with or without .arpa.gz; None: unknown."""
    return next((f for f in LANGUAGE_MODELS if name in (f, f.removesuffix(".arpa.gz"))), None)


def fetch_file(name: str, data_dir: Path) -> Path:
    """A language model or lexicon: DIR/LibriSpeech/NAME or DIR/NAME, else downloaded to the first.

    Its check sum is compared each time.

    Raises:
        NotDownloaded: it is missing within `no_downloads`.
    """
    part, target = (LANGUAGE_MODELS | LEXICONS)[name], data_dir / ARCHIVE_ROOT / name
    if _find(name, data_dir) is None:
        require_downloads_allowed(f"{name} of LibriSpeech")
    with wait_for_lock(data_dir):
        path = _find(name, data_dir)
        if path is None:
            target.parent.mkdir(exist_ok=True)  # wait_for_lock has made data_dir
            _download(name, part, target, part.size)
            return target
    _check(path, part.expected)
    return path


def fetch_part(name: str, data_dir: Path) -> Path:
    """The folder of a part: DIR/LibriSpeech/PART or DIR/PART, else downloaded to the first.

    An archive DIR/PART.tar.gz is unpacked instead of a download, and stays.

    Args:
        name: any folder that is there, or one of PARTS.

    Raises:
        NotDownloaded: it is missing within `no_downloads`.
    """
    if folder := _find(name, data_dir):
        if not folder.is_dir():
            raise UserError(f"{folder}: a file, but a part of LibriSpeech is a folder; move it")
        return folder
    if name not in PARTS:
        places = (place for place in (data_dir / ARCHIVE_ROOT, data_dir) if place.is_dir())
        there = sorted(p.name for place in places for p in place.iterdir() if p.is_dir())
        raise UserError(
            f"{data_dir}: no part '{name}' in it; there are {', '.join(there[:20]) or 'no folders'}"
            f"; parts that can be downloaded: {', '.join(PARTS)}"
        )
    require_downloads_allowed(f"{name} of LibriSpeech")
    with wait_for_lock(data_dir):
        if folder := _find(name, data_dir):  # another run has downloaded it meanwhile
            return folder
        given = data_dir / f"{name}.tar.gz"
        if given.is_file():
            _check(given, PARTS[name].expected)
            return _unpack(name, given, data_dir)
        archive = data_dir / f".{name}.tar.gz"  # hidden, because it is deleted afterwards
        if not archive.is_file():  # a killed run may have left it, whole and checked
            # There must be room for the archive and, beside it, the speech.
            _download(name, PARTS[name], archive, 2 * PARTS[name].size)
        folder = _unpack(name, archive, data_dir)
        archive.unlink()
        return folder


def _find(name: str, data_dir: Path) -> Path | None:
    paths = (data_dir / ARCHIVE_ROOT / name, data_dir / name)
    return next((path for path in paths if path.exists()), None)


def _check(archive: Path, expected: CheckSum) -> None:
    actual = check_sum(archive, expected.kind)
    if actual != expected.value:
        raise UserError(
            f"{archive}: {expected.kind} is {actual}, expected {expected.value}; delete it to "
            "download it again"
        )


def _download(name: str, part: Part, path: Path, disk_bytes: float) -> None:
    """Download a part or a file to `path`, whose name without a leading dot is that of the mirrors.

    Args:
        disk_bytes: what the download and its unpacking take.
    """
    _check_disk(name, path, disk_bytes)
    size = f"{part.size / 1e9:.2f} GB"
    print(f"  downloading {name} of LibriSpeech ({size}) to {path.parent}", flush=True)
    file = path.name.removeprefix(".")
    urls = [f"{mirror}{part.resource}/{file}" for mirror in MIRRORS]
    try:
        download(urls, path, part.expected, int(MAX_SIZE_RATIO * part.size))
    except MirrorError as error:
        raise UserError(
            f"{name} of LibriSpeech is not in {path.parent} and cannot be downloaded ({error}); "
            f"try again, or put {file} there yourself"
        ) from None


def _check_disk(name: str, path: Path, disk_bytes: float) -> None:
    partial = partial_path(path)
    downloaded = partial.stat().st_size if partial.is_file() else 0
    needed, free = disk_bytes - downloaded, shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"{path.parent}: {free / 1e9:.2f} GB are free, but downloading and unpacking {name} "
            f"takes {needed / 1e9:.2f} GB; free some space, or give another --data-dir"
        )


def _unpack(name: str, archive: Path, data_dir: Path) -> Path:
    """Unpack a checked archive; the part's folder appears whole or not at all."""
    print(f"  unpacking {name}", flush=True)
    target = data_dir / ARCHIVE_ROOT / name
    with unpacked(archive, ARCHIVE_ROOT, data_dir) as temporary:
        source = temporary / ARCHIVE_ROOT
        if not (source / name).is_dir():
            raise UserError(f"{archive}: does not contain {ARCHIVE_ROOT}/{name}")
        os.sync()  # a folder that survives a power cut must be complete
        target.parent.mkdir(exist_ok=True)
        for notes in source.iterdir():  # README.TXT, LICENSE.TXT, …: the same in every part
            if notes.is_file() and not (target.parent / notes.name).exists():
                notes.rename(target.parent / notes.name)
        (source / name).rename(target)
    return target
