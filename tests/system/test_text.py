"""Text files of users: the same lines whatever their form, and one line for what is no text."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.system import text
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import read_lines

COMPRESS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
LINES = st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8), min_size=1)


@settings(max_examples=60)
@given(
    lines=LINES.filter(lambda lines: lines[-1] and not lines[0].startswith("\ufeff")),
    mark=st.sampled_from(["", "\ufeff"]),
    end=st.sampled_from(["\n", "\r\n", "\r\r\n"]),
    last=st.booleans(),
    compression=st.lists(st.sampled_from(sorted(COMPRESS)), max_size=2),
    block=st.sampled_from([1, 20, 1 << 20]),
)
def test_every_form_of_a_text_gives_the_same_lines(
    tmp_path_factory, lines, mark, end, last, compression, block
):
    content = (mark + end.join(lines) + end * last).encode()
    for kind in compression:
        content = COMPRESS[kind](content)
    path = tmp_path_factory.mktemp("text") / "a"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        read = list(read_lines(path, "kind"))
    expected = [line.removeprefix("\ufeff") for line in lines]
    assert read == [(f"kind {path}:{n}", line) for n, line in enumerate(expected, start=1)]


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", "A EY")
    else:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("GO ON\n".encode("utf-16"), "UTF-16 text; convert it to UTF-8"),
        ("GO ON\n".encode("utf-16-le"), "UTF-16 text or no text; convert it to UTF-8"),
        ("GO ON\n".encode("utf-32"), "UTF-32 text; convert it to UTF-8"),
        (b"\x28\xb5\x2f\xfd" + b"abc", "compressed by zstd; decompress it"),
        (archive("zip"), "a zip archive or an office document; unpack it"),
        (archive("tar"), "a tar archive; unpack it"),
        (b"<!DOCTYPE html>\n<html>", "a web page; download the file itself"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0\0", "a binary model of KenLM"),
        (gzip.compress(b"GO ON" * 99)[:-3], "damaged compressed file; fetch or make it again"),
        (bz2.compress(b"GO ON" * 99)[:-3], "damaged compressed file"),
        (lzma.compress(b"GO ON" * 99)[:-3], "damaged compressed file"),
        (gzip.compress(b"GO ON" * 99)[:10] + b"x" * 90, "damaged compressed file"),
        (bz2.compress(b"GO ON" * 99)[:20] + b"x" * 90, "damaged compressed file"),
        (b"GO\nON\rOFF\n", "2: a carriage return in the line; end lines with LF"),
        (b"GO\nON\r\n\x07", "3: control character U+0007; remove it"),
        (b"GO\nNA\xcfVE\n", "2: byte 0xcf is not UTF-8; convert the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # bytes hold the time
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_lines(path, "kind"))
    assert str(caught.value).removeprefix(f"kind {path}:").lstrip().startswith(message)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path):
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=f"^kind {missing}: cannot be read"):
            list(read_lines(missing, "kind"))
