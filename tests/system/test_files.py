"""Files appear whole or not at all; digests say what made them."""

import errno
import hashlib
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from forked import Program
from hypothesis import example, given
from hypothesis import strategies as st

from acoustic_kd.system import files as files
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.text import open_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def killed_half_way(path: Path) -> None:
    with files.atomic_path(path) as temporary:
        temporary.write_text("half a fi")
        os.kill(os.getpid(), signal.SIGKILL)


def test_atomic_path_replaces_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename works inside one file system only
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_with_the_file(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError) as error, files.atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as `write` does
    assert error.value.filename == str(path) and list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = Program(tmp_path / "output", path, function=killed_half_way)
    assert program.end()[0] == -signal.SIGKILL
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_directory_takes_the_place_of_another_or_nothing_changes(tmp_path, monkeypatch):
    for content in ("first", "second"):
        with files.atomic_directory(tmp_path / "a") as folder:
            (folder / content).touch()
        assert [p.name for p in (tmp_path / "a").iterdir()] == [content]
    with pytest.raises(ValueError, match="wrong"), files.atomic_directory(tmp_path / "a"):
        raise ValueError("wrong")
    rename = Path.rename

    def fails(path, target):
        if path.name.endswith(".tmp") and not path.name.endswith(".old.tmp"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no"), files.atomic_directory(tmp_path / "a") as folder:
        (folder / "third").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["second"]


def test_runs_that_share_a_lock_exclude_those_that_want_it_alone(tmp_path):
    directory, gate, alone = tmp_path / "exp", tmp_path / "exp" / "stage", []

    def coming_in():
        return files.shared_lock(directory, gate, alone.append)

    with coming_in():
        with coming_in(), coming_in():
            assert alone == [True, False, False]
        occupied = pytest.raises(UserError, match="another run works here")
        with occupied, files.exclusive_lock(directory):
            pass
        with coming_in():
            pass
    occupied = pytest.raises(UserError, match="another run works here")
    with files.exclusive_lock(directory), occupied, coming_in():
        pass
    assert alone == [True, False, False, False]
    with coming_in():
        assert alone[-1] is True


def test_nobody_joins_while_the_first_prepares(tmp_path):
    """Nor is refused: a run that comes meanwhile waits at the gate."""
    order = []

    def prepare(alone):
        order.append(f"first, {alone}")
        second.start()
        second.join(0.2)
        assert second.is_alive()

    gate = tmp_path / "gate"

    def come_second():
        with files.shared_lock(tmp_path, gate, lambda alone: order.append(f"then, {alone}")):
            pass

    second = threading.Thread(target=come_second)
    with files.shared_lock(tmp_path, gate, prepare):
        second.join(10)
    assert order == ["first, True", "then, False"]


def test_sha256_of_a_file(tmp_path):
    content = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_pipe_has_no_digest(tmp_path):
    os.mkfifo(tmp_path / "a")
    assert files.size_and_ends_digest(tmp_path / "a") == ()


@given(JSON)
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


@given(st.lists(JSON, max_size=4))
@example(["\x85\u2028"])
def test_jsonl_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    files.write_jsonl(path, rows)
    assert files.read_jsonl(path) == rows


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        (None, files.read_json, "a.json: cannot be read"),
        (None, files.read_jsonl, "a.json: cannot be read"),
        (b'{"a": 1}\n{"b": ', files.read_json, "a.json: not valid JSON"),
        (b'{"a": 1}\n{"b": ', files.read_jsonl, "a.json:2: not valid JSON"),
        (b"\xff\xfe\x00", files.read_json, "a.json"),
        (b"\xff\xfe\x00", files.read_jsonl, "a.json"),
    ],
)
def test_a_file_that_is_not_json_is_named(tmp_path, content, read, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)):
        read(path)


def read_text_of_user(path):
    with open_text(path) as file:
        file.read()


@pytest.mark.parametrize(
    "read", [files.read_json, files.read_jsonl, files.file_sha256, read_text_of_user]
)
def test_a_pipe_is_not_waited_for(tmp_path, read):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UserError, match="pipe.*not a regular file"):
        read(path)


def test_an_exclusive_lock_is_held_by_one_run(tmp_path):
    folder = tmp_path / "exp"
    with files.exclusive_lock(folder):
        by = rf"another run works here \(process {os.getpid()} on .*\); wait for it, or give"
        with (
            pytest.raises(UserError, match=by),
            files.exclusive_lock(folder),
        ):
            pass
        with files.exclusive_lock(tmp_path / "other"):
            pass
    with files.exclusive_lock(folder):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys, number):
    def flock(handle, kind):
        raise OSError(number, "as network file systems say")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    files._warn_of_no_locks.cache_clear()
    for lock in (files.exclusive_lock, files.wait_for_lock, files.exclusive_lock, files.take_turn):
        with lock(tmp_path):
            pass
    assert capsys.readouterr().err.count("this file system has no locks; make sure that no") == 1
    refused = pytest.raises(UserError, match="has no locks, which runs with --shard need; run the")
    with refused, files.shared_lock(tmp_path, tmp_path, print):
        pass


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch):
    def flock(handle, kind):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    broken = pytest.raises(UserError, match=r"cannot be locked \(Input/output error\)")
    with broken, files.exclusive_lock(tmp_path):
        pass


def test_a_lock_is_waited_for(tmp_path, capsys):
    folder, order = tmp_path / "new", []

    def second():
        with files.wait_for_lock(folder):
            order.append("second")

    with files.wait_for_lock(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    waiting = f"  waiting for another run to finish with {folder} (process {os.getpid()} on "
    assert capsys.readouterr().out.startswith(waiting)
