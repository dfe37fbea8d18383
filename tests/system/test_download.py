"""Downloads from mirrors on this machine, which break, lie and send elsewhere."""

import hashlib
from types import SimpleNamespace

import mirror as pretended
import pytest

from acoustic_kd.system import download as download
from acoustic_kd.system.download import CheckSum, MirrorError, fetch, partial_path

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


def test_whole_and_alone(mirror, tmp_path):
    fetch(mirror.address + "a", tmp_path / "a", SUM, MOST)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", CONTENT)]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_another_check_sum_leaves_nothing(mirror, tmp_path, kind):
    found = hashlib.new(kind, CONTENT).hexdigest()
    with pytest.raises(MirrorError, match=f"^{kind} is {found}, expected 123$"):
        fetch(mirror.address + "a", tmp_path / "a", CheckSum(kind, "123"), MOST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_is_gone_on_with(mirror, tmp_path, ranges):
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
def test_a_partial_file_that_is_whole_too_long_or_another(mirror, tmp_path, there, asked):
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


def test_the_next_mirror_goes_on_and_the_first_again(mirror, other, tmp_path):
    mirror.breaks, other.breaks = 3000, 2000
    urls = [found.address + "a" for found in (mirror, other)]
    download.download(urls, tmp_path / "a", SUM, MOST)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [start for _, start in mirror.asked] == [0, 5000, 10000]
    assert [start for _, start in other.asked] == [3000, 8000]


def test_what_each_mirror_failed_at(mirror, other, tmp_path):
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
