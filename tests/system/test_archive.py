"""Archives that hold what they should, and those that do not."""

import io
import tarfile

import pytest

from acoustic_kd.system.download import unpacked
from acoustic_kd.system.errors import UserError


def member(name, content=b"", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


FOLDER = {"type": tarfile.DIRTYPE}
GOOD = [member("./", **FOLDER), member("Top", **FOLDER), member("Top/b/c", b"words", mode=0o4755)]


def write(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def refusal(archive, folder):
    with pytest.raises(UserError) as caught, unpacked(archive, "Top", folder):
        raise AssertionError("unpacked")
    assert str(caught.value).startswith(f"{archive}: ") and "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == [archive.name]
    return str(caught.value)


def test_unpacked_and_away_with_the_block(tmp_path):
    archive = write(tmp_path / "a.tar.gz", GOOD)
    left = tmp_path / ".a.tar.gz.unpacked" / "left by a killed run"
    left.mkdir(parents=True)
    with unpacked(archive, "Top", tmp_path) as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert [path.relative_to(folder).as_posix() for path in files] == ["Top/b/c"]
        assert files[0].read_bytes() == b"words"
        assert files[0].stat().st_mode & 0o7111 == 0
        files[0].rename(tmp_path / "kept")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "kept"]


@pytest.mark.parametrize(
    "bad",
    [
        member("/Top/x", b"x"),
        member("../x", b"x"),
        member("Top/../../x", b"x"),
        member("Top/..", **FOLDER),
        member("Other/x", b"x"),
        member("Other", **FOLDER),
        member("Top", b"x"),
        member("x", b"x"),
        member("Top/x", type=tarfile.SYMTYPE, linkname="/etc"),
        member("Top/x", type=tarfile.LNKTYPE, linkname="Top/b/c"),
        member("Top/x", type=tarfile.FIFOTYPE),
        member("Top/x", type=tarfile.CHRTYPE),
    ],
    ids=lambda bad: f"{bad[0].type.decode()} {bad[0].name}",
)
def test_a_member_that_is_refused(tmp_path, bad):
    folder = tmp_path / "in"
    folder.mkdir()
    archive = write(folder / "a.tar.gz", [*GOOD, bad])
    expected = f"not unpacked: its member '{bad[0].name}' is no file or folder below Top/"
    assert expected in refusal(archive, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("bad", ["Top/b/c", "Top/b/c/d", "Top/b"])
def test_files_that_clash(tmp_path, bad):
    archive = write(tmp_path / "a.tar.gz", [*GOOD, member(bad, b"x")])
    assert "holds two files that clash at " in refusal(archive, tmp_path)


@pytest.mark.parametrize("damage", [lambda c: c[:-20], lambda c: b"no gzip", lambda c: b""])
def test_a_damaged_archive(tmp_path, damage):
    archive = write(tmp_path / "a.tar.gz", [*GOOD, member("Top/d", bytes(range(256)) * 99)])
    archive.write_bytes(damage(archive.read_bytes()))
    assert "damaged archive (" in refusal(archive, tmp_path)
