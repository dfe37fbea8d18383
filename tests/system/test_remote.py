"""Remote folders are copied to this machine by fsspec, and only what has changed again."""

from pathlib import Path

import fsspec
import pytest

from acoustic_kd.system import remote
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.remote import RECORD, local_folder


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
    return {name: path.read_text() for name, path in files.items() if name != RECORD}


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
    with pytest.raises(UserError, match=r"cannot be read \(the network is gone\)"):
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


def test_a_name_outside_the_folder_is_refused(monkeypatch, cache):
    system = fsspec.filesystem("memory")
    monkeypatch.setattr(
        type(system), "find", lambda self, root, detail: {f"{root}/../../evil": {"size": 1}}
    )
    with pytest.raises(UserError, match="no file below"):
        local_folder("memory://bucket/evil")
    assert not list(cache.rglob("evil"))
