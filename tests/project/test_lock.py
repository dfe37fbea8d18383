"""requirements.lock: everything that set-up installs, exactly, and nothing else."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "requirements.lock").read_text()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each requirement with its hashes."""
    entries = re.split(r"\n(?=\S)", TEXT.replace("\\\n", "").strip())
    return [
        (Requirement(entry.split("--hash=")[0]), re.findall(r"--hash=(\S+)", entry))
        for entry in entries
    ]


def installed(python: str, system: str, machine: str) -> dict[str, str]:
    """What pip takes from the lock there: name → version, one of each."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": system,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    taken = [r for r, _ in locked() if not r.marker or r.marker.evaluate(environment)]
    assert max(Counter(r.name for r in taken).values()) == 1
    return {canonical(r.name): str(r.specifier).removeprefix("==") for r in taken}


def required() -> list[Requirement]:
    """What pyproject.toml names: needed to build, to run, and by every extra."""
    text = (ROOT / "pyproject.toml").read_text()
    section = text[text.index("[build-system]") : text.index("[project.scripts]")]
    lists = re.findall(r"^(\w[\w-]*) = \[(.*?)\]\n", section, re.MULTILINE | re.DOTALL)
    names = (
        "requires",
        "dependencies",
        "train",
        "demo",
        "onnx",
        "hub",
        "serve",
        "tensorboard",
        "dev",
    )
    found = [
        Requirement(item)
        for name, items in lists
        if name in names
        for item in re.findall(r'"([^"]+)"', re.sub(r"#.*", "", items))
    ]
    assert set(names) == {name for name, _ in lists if name in names}
    return [requirement for requirement in found if requirement.name != "acoustic-kd"]


def test_every_requirement_has_one_version_and_hashes():
    for requirement, hashes in locked():
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), requirement
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes)


def test_no_address_is_in_the_lock():
    assert not re.search(r"://|@|--(index|find|extra|trusted)|file:|\.whl", TEXT)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
)
def test_the_lock_satisfies_pyproject(python, system, machine):
    versions = installed(python, system, machine)
    for requirement in required():
        name = canonical(requirement.name)
        assert requirement.specifier.contains(versions[name], prereleases=True), requirement


@pytest.mark.parametrize(
    ("torch", "permitted"),
    [("2.11.0", False), ("2.12.0", False), ("2.13.0", True), ("2.14.1", True), ("2.15.0", False)],
)
def test_only_versions_of_torch_that_load_with_torchaudio_are_permitted(torch, permitted):
    (requirement,) = [item for item in required() if item.name == "torch"]
    assert requirement.specifier.contains(torch) is permitted


# --- tools/lock.sh ------------------------------------------------------------------------------

OLD, NEW = "torch==1 \\\n    --hash=sha256:1\n", "torch==2 \\\n    --hash=sha256:2\n"
STAND_INS = {  # they fail where the test says so
    "tools/setup.sh": '[ "$PWD" = "$CHECKOUT" ] || [ "$FAILS" != set-up ] || exit 2',
    ".venv/bin/uv": '[ "$FAILS" != "$1" ] || exit 2; [ "$1" = lock ] || printf "$NEW"',
    ".venv/bin/python": '[ "$FAILS" != tests ]',
}


def renew(folder: Path, fails: str, new: str) -> tuple[subprocess.CompletedProcess, str]:
    """What tools/lock.sh does in a checkout, and the lock after it."""
    for name, text in STAND_INS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    shutil.copy(ROOT / "tools" / "lock.sh", folder / "tools")
    (folder / "requirements.lock").write_text(OLD)
    subprocess.run(["/usr/bin/env", "git", "init", "--quiet"], cwd=folder, check=True)
    done = subprocess.run(
        [folder / "tools" / "lock.sh"],
        env=os.environ | {"CHECKOUT": str(folder), "FAILS": fails, "NEW": new},
        capture_output=True,
        text=True,
    )
    return done, (folder / "requirements.lock").read_text()


FAILED = "lock: {}; requirements.lock is unchanged\n".format


@pytest.mark.parametrize(
    ("fails", "new", "status", "lock", "error"),
    [
        ("lock", NEW, 1, OLD, FAILED("no set of versions satisfies pyproject.toml")),
        ("export", NEW, 1, OLD, FAILED("no set of versions satisfies pyproject.toml")),
        ("set-up", NEW, 1, OLD, FAILED("the new versions cannot be set up")),
        ("tests", NEW, 1, OLD, FAILED("a test fails with the new versions")),
        ("set-up", OLD, 0, OLD, "already names the newest"),
        ("nothing", NEW, 0, NEW, "is renewed"),
    ],
)
def test_a_lock_is_replaced_only_by_a_tested_one(tmp_path, fails, new, status, lock, error):
    done, found = renew(tmp_path, fails, new)
    assert (done.returncode, found) == (status, lock)
    assert error in done.stderr and done.stderr.count("\n") == 1
    assert ("< torch==1\n---\n> torch==2\n" in done.stdout) == (lock == NEW)
