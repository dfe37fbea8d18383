"""Processes that a launcher started end with it, whatever they wait for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import runs, wait_until

from acoustic_kd.system import launched

ROOT = Path(__file__).parents[2]
# A child that is deaf to SIGTERM and waits without end.
CHILD = """
import signal, sys, time
from acoustic_kd.system import launched
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not by_system:
    launched._killed_with_parent = lambda: False
launched.end_with_launcher()
print("waits", flush=True)
time.sleep(600)
"""
LAUNCHER = """
import subprocess, sys
from acoustic_kd.system.launched import child_environment
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=child_environment())
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("by_system", [True, False], ids=["by the system", "by a thread"])
def test_a_child_ends_when_its_launcher_is_killed(by_system):
    child = f"by_system = {by_system}{CHILD}"
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, child],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = launcher.stdout.readline(), launcher.stdout.readline()
    (process,) = (int(line) for line in lines if line != "waits\n")
    assert runs(process)
    os.kill(process, signal.SIGTERM)
    launcher.kill()
    launcher.communicate()
    wait_until(lambda: not runs(process))


@pytest.fixture
def ends(monkeypatch):
    """What `end_with_launcher` does to this process is only noted."""
    calls = []
    monkeypatch.setattr(launched, "_end", lambda: calls.append("ends"))
    monkeypatch.setattr(launched, "_killed_with_parent", lambda: calls.append("tied") or True)
    for name in (launched.LAUNCHER_VARIABLE, launched.TORCHRUN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_child_of_a_launcher_that_has_ended_before_ends(ends, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setenv(launched.LAUNCHER_VARIABLE, str(ended.pid))
    launched.end_with_launcher()
    assert ends == ["tied", "ends"]
    assert launched.LAUNCHER_VARIABLE not in os.environ  # its own children are not the launcher's


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({launched.LAUNCHER_VARIABLE: ""}, []),
        ({launched.LAUNCHER_VARIABLE: "x"}, []),
        ({launched.LAUNCHER_VARIABLE: str(os.getppid())}, ["tied"]),
        ({launched.TORCHRUN_VARIABLE: "none"}, ["tied"]),
    ],
)
def test_only_a_child_of_a_launcher_is_tied_to_its_parent(ends, monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    launched.end_with_launcher()
    assert ends == expected
