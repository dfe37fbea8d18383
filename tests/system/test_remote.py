"""Remote folders are copied to this machine by fsspec, and only what has changed again."""

import errno
from pathlib import Path

import fsspec
import pytest

from acoustic_kd.system import remote
from acoustic_kd.system.download import NotDownloaded, no_downloads
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.remote import local_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test's own, and a new process's memory of what was copied."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote._copy.cache_clear()
    return tmp_path / "cache"


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    """The address of a remote folder with two files, and a function that writes one."""
    place = "memory://bucket/corpus" if request.param == "memory" else f"file://{tmp_path}/corpus"
    system, root = fsspec.core.url_to_fs(place)

    def write(name: str, text: str) -> None:
        system.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        system.pipe_file(f"{root}/{name}", text.encode())

    write("text", "a HELLO\n")
    write("wav/a b.wav", "sound")
    yield place, write, lambda name: system.rm(f"{root}/{name}")
    system.rm(root, recursive=True)


def contents(folder: Path) -> dict[str, str]:
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_text() for name, path in files.items()}


def test_a_remote_folder_is_copied(store, cache):
    folder = local_folder(store[0])
    assert folder.is_relative_to(cache)
    assert contents(folder) == {"text": "a HELLO\n", "wav/a b.wav": "sound"}


def test_only_what_has_changed_is_copied_again(store, monkeypatch):
    place, write, remove = store
    folder = local_folder(place)
    kept = (folder / "text").stat().st_mtime_ns
    remote._copy.cache_clear()
    write("wav/a b.wav", "other sound")
    write("new", "more")
    (folder / "own").write_text("not of the remote folder")
    local_folder(place)
    (folder / "own").unlink()
    assert contents(folder) == {"text": "a HELLO\n", "wav/a b.wav": "other sound", "new": "more"}
    assert (folder / "text").stat().st_mtime_ns == kept
    remote._copy.cache_clear()
    remove("new")
    assert "new" not in contents(local_folder(place))


def test_an_interrupted_copy_resumes(store, monkeypatch):
    place, _, _ = store
    system = fsspec.core.url_to_fs(place)[0]
    monkeypatch.setattr(remote, "TOGETHER", 1)
    get, calls = type(system).get, []

    def fails_once(self, sources, targets, **options):
        calls.append(sources)
        if len(calls) == 2:
            Path(targets[0]).write_text("half")
            raise ConnectionError("the network is gone")
        return get(self, sources, targets, **options)

    monkeypatch.setattr(type(system), "get", fails_once)
    with pytest.raises(UserError, match=r"cannot be read \(ConnectionError: the network is gone\)"):
        local_folder(place)
    assert contents(local_folder(place)) == {"text": "a HELLO\n", "wav/a b.wav": "sound"}
    assert len(calls) == 3  # the first file is not copied again


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("memory://nothing/here", "has no files"),
        ("nosuch://bucket/corpus", "cannot be read"),
        ("file:///no/such/folder/anywhere", "has no files"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(place, reason):
    with pytest.raises(UserError) as error:
        local_folder(place)
    assert str(error.value).startswith(f"{place}: ") and reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_of_this_machine_is_itself(tmp_path):
    assert local_folder(tmp_path) == tmp_path
    assert local_folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["../../evil", "sub/../../../evil"])
def test_a_name_outside_the_folder_is_refused(monkeypatch, cache, name):
    system = fsspec.filesystem("memory")
    monkeypatch.setattr(
        type(system), "find", lambda self, root, detail: {f"{root}/{name}": {"size": 1}}
    )
    with pytest.raises(UserError, match="is outside this folder"):
        local_folder("memory://bucket/evil")
    assert not list(cache.rglob("evil"))


def copy_again(place):
    remote._copy.cache_clear()
    return contents(local_folder(place))


def test_no_file_of_the_remote_folder_is_taken_for_the_record(store, tmp_path):
    place, write, _ = store
    other = tmp_path / "other.txt"
    other.write_text("of the user")
    write("copied.jsonl", f'["{other}", [1, "m"]]\n')
    write("copying/0", "x")
    assert contents(local_folder(place)) == copy_again(place)
    assert set(copy_again(place)) == {"text", "wav/a b.wav", "copied.jsonl", "copying/0"}
    assert other.read_text() == "of the user"


def test_files_and_folders_may_take_each_others_place(store):
    place, write, remove = store
    write("a", "file")
    local_folder(place)
    for _ in range(2):
        remove("a")
        write("a/b", "in a folder")
        assert copy_again(place)["a/b"] == copy_again(place)["a/b"] == "in a folder"
        remove("a/b")
        if place.startswith("file"):
            Path(place.removeprefix("file://"), "a").rmdir()
        else:
            fsspec.filesystem("memory").rmdir("/bucket/corpus/a")
        write("a", "file")
        assert copy_again(place)["a"] == copy_again(place)["a"] == "file"


def test_a_record_that_a_kill_has_cut_is_no_obstacle(store):
    place, _, _ = store
    folder = local_folder(place)
    record = folder.parent / "copied.jsonl"
    record.write_text(record.read_text()[:-4])
    assert copy_again(place) == {"text": "a HELLO\n", "wav/a b.wav": "sound"}


def test_objects_that_stand_for_folders_are_passed_over(store, monkeypatch):
    place, _, _ = store
    system = fsspec.core.url_to_fs(place)[0]
    find = type(system).find

    def with_folders(self, root, **options):
        found = find(self, root, **options)
        if not options.get("detail"):
            return found
        return found | {f"{root}/": {"size": 0}, f"{root}/wav/": {"size": 0}}

    monkeypatch.setattr(type(system), "find", with_folders)
    assert contents(local_folder(place)) == {"text": "a HELLO\n", "wav/a b.wav": "sound"}


def test_nothing_is_copied_where_downloads_are_switched_off(store):
    with no_downloads(), pytest.raises(NotDownloaded):
        local_folder(store[0])
    remote._copy.cache_clear()
    local_folder(store[0])
    with no_downloads():
        assert copy_again(store[0])  # nothing is due


def test_a_full_disk_is_an_error_of_the_disk(store, monkeypatch):
    system = fsspec.core.url_to_fs(store[0])[0]

    def full(self, sources, targets):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(system), "get", full)
    with pytest.raises(OSError, match="No space left"):
        local_folder(store[0])
