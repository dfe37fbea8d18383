"""Who holds a lock, by what Linux tells of it."""

import fcntl
import os
import socket
import sys

import pytest

from acoustic_kd.system.lock_holder import lock_holder


@pytest.fixture
def handle(tmp_path):
    opened = os.open(tmp_path, os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_the_process_that_holds_it_is_named_and_none_after_its_end(tmp_path, handle, kind):
    assert lock_holder(handle) == ""
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, kind)
    found = lock_holder(handle)
    os.close(held)
    assert found.startswith(f"process {os.getpid()} on {socket.gethostname()} since 20")
    assert lock_holder(handle) == ""


@pytest.mark.parametrize(
    "locks",
    [
        None,
        "",
        "nonsense\n",
        "1: FLOCK  ADVISORY  WRITE 999999999 fe:00:26 0 EOF\n",
        "1: -> FLOCK  ADVISORY  WRITE 1 fe:00:26 0 EOF\n",
    ],
    ids=["no /proc", "none", "nonsense", "ended", "waiting"],
)
def test_an_unknown_holder_is_not_named(tmp_path, handle, locks):
    if locks is not None:
        (tmp_path / "locks").write_text(locks)
    assert lock_holder(handle, proc=tmp_path) == ""
