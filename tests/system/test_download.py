"""Downloads from mirrors on this machine, which break, lie and redirect; and their archives."""

import hashlib
import io
import tarfile
from types import SimpleNamespace

import mirror as pretended
import pytest

from acoustic_kd.system import download as download
from acoustic_kd.system.download import CheckSum, MirrorError, fetch, partial_path, unpacked
from acoustic_kd.system.errors import UserError

CONTENT = bytes(range(256)) * 40
SUM = CheckSum("sha256", hashlib.sha256(CONTENT).hexdigest())
MOST = 20_000


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setattr(download, "SCHEME", pretended.SCHEME)
    monkeypatch.setattr(download, "BLOCK_BYTES", 100)
    with pretended.serve() as mirror:
        mirror.files["/a"] = CONTENT
        yield mirror


@pytest.fixture
def other(mirror):
    with pretended.serve() as other:
        other.files["/a"] = CONTENT
        yield other


def test_a_download_leaves_one_whole_file(mirror, tmp_path):
    fetch(mirror.address + "a", tmp_path / "a", SUM, MOST)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", CONTENT)]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_another_check_sum_leaves_nothing(mirror, tmp_path, kind):
    found = hashlib.new(kind, CONTENT).hexdigest()
    with pytest.raises(MirrorError, match=f"^{kind} is {found}, expected 123$"):
        fetch(mirror.address + "a", tmp_path / "a", CheckSum(kind, "123"), MOST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_resumes(mirror, tmp_path, ranges):
    mirror.breaks, mirror.ranges, path = 5000, ranges, tmp_path / "a"
    with pytest.raises(MirrorError, match="broke off after 5000 of 10240 bytes"):
        fetch(mirror.address + "a", path, SUM, MOST)
    assert not path.exists() and partial_path(path).read_bytes() == CONTENT[:5000]
    mirror.breaks = None
    fetch(mirror.address + "a", path, SUM, MOST)
    assert mirror.asked == [("/a", 0), ("/a", 5000)]
    assert path.read_bytes() == CONTENT and not partial_path(path).exists()


@pytest.mark.parametrize(
    ("there", "asked"), [(CONTENT, [10240]), (CONTENT + b"more", [10244, 0]), (b"x", [1])]
)
def test_a_partial_file_that_is_whole_too_long_or_wrong(mirror, tmp_path, there, asked):
    path = tmp_path / "a"
    partial_path(path).write_bytes(there)
    if there == b"x":
        with pytest.raises(MirrorError, match="sha256 is "):
            fetch(mirror.address + "a", path, SUM, MOST)
        assert list(tmp_path.iterdir()) == []
    else:
        fetch(mirror.address + "a", path, SUM, MOST)
        assert path.read_bytes() == CONTENT
    assert mirror.asked == [("/a", start) for start in asked]


def test_the_next_mirror_resumes_and_then_the_first_again(mirror, other, tmp_path):
    mirror.breaks, other.breaks = 3000, 2000
    urls = [found.address + "a" for found in (mirror, other)]
    download.download(urls, tmp_path / "a", SUM, MOST)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [start for _, start in mirror.asked] == [0, 5000, 10000]
    assert [start for _, start in other.asked] == [3000, 8000]


def test_the_error_names_what_each_mirror_failed_at(mirror, other, tmp_path):
    mirror.files["/a"], other.files = b"another", {}
    urls = [found.address + "a" for found in (mirror, other)]
    hosts = [found.address.split("/")[2] for found in (mirror, other)]
    message = f"^{hosts[0]}: sha256 is .*, expected .*; {hosts[1]}: HTTP Error 404: Not Found$"
    with pytest.raises(MirrorError, match=message) as caught:
        download.download(urls, tmp_path / "a", SUM, MOST)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_long_is_not_read_to_its_end(mirror, tmp_path):
    with pytest.raises(MirrorError, match="more than 999 bytes"):
        fetch(mirror.address + "a", tmp_path / "a", SUM, 999)
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_answers_with_other_bytes(mirror, tmp_path, monkeypatch):
    partial_path(tmp_path / "a").write_bytes(CONTENT[:7])
    headers = {"Content-Range": "bytes 8-9/10240"}
    wrong = SimpleNamespace(
        url=mirror.address, status=206, headers=headers, close=lambda: headers.clear()
    )
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda request, timeout: wrong)
    with pytest.raises(MirrorError, match="other bytes than requested"):
        fetch(mirror.address + "a", tmp_path / "a", SUM, MOST)
    assert headers == {} and partial_path(tmp_path / "a").read_bytes() == CONTENT[:7]


def test_a_disk_that_refuses_is_not_blamed_on_the_mirror(mirror, tmp_path):
    with pytest.raises(FileNotFoundError):
        fetch(mirror.address + "a", tmp_path / "nowhere" / "a", SUM, MOST)


def test_only_https_and_to_the_end_of_a_redirection(mirror, other, tmp_path, monkeypatch):
    mirror.redirects["/a"] = other.address + "a"
    fetch(mirror.address + "a", tmp_path / "a", SUM, MOST)
    monkeypatch.setattr(download, "SCHEME", mirror.address)
    with pytest.raises(MirrorError, match=f"leads to {other.address}a, which is not"):
        fetch(mirror.address + "a", tmp_path / "b", SUM, MOST)
    monkeypatch.undo()
    assert download.SCHEME == "https://"
    with pytest.raises(MirrorError, match="leads to file:///etc/hosts, which is not https"):
        fetch("file:///etc/hosts", tmp_path / "b", SUM, MOST)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# --- archives -----------------------------------------------------------------------------------


def member(name, content=b"", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


FOLDER = {"type": tarfile.DIRTYPE}
GOOD = [member("./", **FOLDER), member("Top", **FOLDER), member("Top/b/c", b"words", mode=0o4755)]


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def test_unpacked_files_vanish_with_the_block(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", GOOD)
    left = tmp_path / ".a.tar.gz.unpacked" / "left by a killed run"
    left.mkdir(parents=True)
    with unpacked(archive, "Top", tmp_path) as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert [path.relative_to(folder).as_posix() for path in files] == ["Top/b/c"]
        assert files[0].read_bytes() == b"words"
        assert files[0].stat().st_mode & 0o7111 == 0
        files[0].rename(tmp_path / "kept")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "kept"]


UNSAFE = [
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
]
CLASHING = [member(name, b"x") for name in ("Top/b/c", "Top/b/c/d", "Top/b")]
LARGE = member("Top/d", bytes(range(256)) * 99)


@pytest.mark.parametrize(
    ("added", "damage", "message"),
    [
        *[(bad, None, f"'{bad[0].name}' is no file or folder below Top/") for bad in UNSAFE],
        *[(bad, None, "holds two files that clash at ") for bad in CLASHING],
        (LARGE, lambda content: content[:-20], "damaged archive ("),
        (LARGE, lambda content: b"no gzip", "damaged archive ("),
        (LARGE, lambda content: b"", "damaged archive ("),
    ],
)
def test_an_archive_that_is_refused(tmp_path, added, damage, message):
    folder = tmp_path / "in"
    folder.mkdir()
    archive = write_archive(folder / "a.tar.gz", [*GOOD, added])
    if damage:
        archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(UserError) as caught, unpacked(archive, "Top", folder):
        raise AssertionError("unpacked")
    error = str(caught.value)
    assert error.startswith(f"{archive}: ") and "\n" not in error and message in error
    assert list(tmp_path.rglob("*")) == [folder, archive]
