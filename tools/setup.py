"""Make or renew .venv with what requirements.lock names; tools/setup.sh calls this.

Only the standard library is imported: nothing else is installed yet.
"""

import hashlib
import importlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PROGRAM = VENV / "bin" / "acoustic-kd"
STAMP = VENV / "setup.stamp"  # there if everything is installed and loads; says for what
LOCK = VENV / "setup.lock"  # held while a set-up is at work
LOG = VENV / "setup.log"
SYSTEMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
# GB: what .venv takes, and what pip keeps in the temporary folder meanwhile.
INSTALLED, DOWNLOADED = (7, 3.5) if sys.platform == "linux" else (3, 1)
# How the programs in .venv/bin begin: with the path of its Python, or with a shell that runs that.
HEAD = re.compile(
    rb"""#!(/bin/sh\n'''exec' ")?[^\n"]*/\.venv/bin/python[\d.]*(" "\$0" "\$@"\n' ''')?\n"""
)
MODULES = {"pyyaml": "yaml"}  # whose name is not the package's

# What pip writes → what is wrong and what to do. The first that is found counts: pip also warns of
# a network error that a second try overcomes, and has no version where no index answers.
FAILURES = (
    (
        r"No space left on device|Disk quota exceeded",
        "no space left on disk for {venv} or {temporary}; free some space or set TMPDIR",
    ),
    (
        r"DO NOT MATCH THE HASHES[^\n]*\n\s*(?P<name>\S+)",
        "the package index has another file of {name} than requirements.lock names (hash "
        "mismatch); run this again; if that fails too, use another index",
    ),
    (
        r"NewConnectionError|Failed to establish a new connection|name resolution|Name or service"
        r"|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Network is unreachable",
        "no package index can be reached; check the network and proxy, then run this again",
    ),
    (
        r"No matching distribution found for (?P<name>\S+)",
        "the package index has no {name} for Python {version} on this system; "
        "check the network, or set PYTHON to another Python (best: 3.11 or 3.13)",
    ),
    (
        r"[Ff]ailed (?:building wheel for|to build) '?(?P<name>(?!installable)[\w.-]+)",
        "pip cannot build {name}, which has no wheel for Python {version} on this system; "
        "install a C compiler, or set PYTHON to another Python (best: 3.11 or 3.13)",
    ),
)


class SetupError(Exception):
    """One line: what is wrong and what to do."""


def main(arguments: list[str]) -> int:
    """The exit status: 0, or 2 for what the user can mend."""
    if arguments == ["--check"]:
        return 0 if is_current() else 1
    if arguments == ["--load"]:
        return load_all()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        set_up()
        return 0
    except SetupError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or VENV}: {error.strerror}"
    except KeyboardInterrupt:
        say("interrupted; the same command starts again")
        return 130
    say(message)
    return 2


def say(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr, flush=True)


def set_up() -> None:
    """Install everything, unless .venv is current."""
    check_system(sys.platform, platform.machine())
    with lock_environment() as lock:
        if not is_current() or not runs_this_python():
            begun = time.monotonic()
            make_current(lock)
            say(f"done in {time.monotonic() - begun:.0f} s")


def make_current(lock: IO[str]) -> None:
    # Without its stamp an environment may be half made, so nothing in it is used.
    renew = STAMP.exists() and runs_this_python()
    STAMP.unlink(missing_ok=True)
    if renew:
        say("bringing .venv up to date with this checkout and requirements.lock")
    else:
        empty_environment()
        check_space()
        say(
            f"installing requirements.lock into .venv with Python {version()}: "
            f"about 2 minutes, {DOWNLOADED} GB to download, {INSTALLED} GB on disk"
        )
    try:
        install(renew, lock)
    except SetupError:
        if renew and "Installing collected packages" not in LOG.read_text(errors="replace"):
            STAMP.write_text("stale\n")  # pip changed nothing, so the next try renews, too
        raise


def version() -> str:
    return sys.version.split()[0]


def check_system(system: str, machine: str) -> None:
    if (system, machine) not in SYSTEMS:
        raise SetupError(
            f"{system} on {machine} is not supported; use Linux (x86-64, arm64) or macOS (arm64)"
        )


def wanted() -> str:
    """What the stamp of a current environment holds."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "requirements.lock"):
        digest.update((ROOT / name).read_bytes())
    digest.update(os.fsencode(ROOT))  # the environment holds absolute paths
    digest.update(sys.version.encode())
    return digest.hexdigest() + "\n"


def is_current() -> bool:
    return os.access(PROGRAM, os.X_OK) and STAMP.exists() and STAMP.read_text() == wanted()


def runs_this_python() -> bool:
    """Whether .venv works and is of the Python that runs this program."""
    command: list[str | Path] = [PYTHON, "-I", "-c", "import pip, sys; print(sys.version)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == sys.version


def lock_environment() -> IO[str]:
    """Make .venv if there is none, and wait until no other set-up is at work in it."""
    import fcntl  # not on Windows, where `check_system` ends the program

    try:
        VENV.mkdir(exist_ok=True)
        if any(VENV.iterdir()) and not LOCK.exists() and not LOG.exists():
            raise SetupError(f"{VENV} was not made by tools/setup.sh; rename or delete it")
        lock = LOCK.open("a")
    except OSError as error:
        raise SetupError(
            f"{VENV} cannot be written ({error.strerror}); use a checkout that you may write to"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up is at work in this checkout; waiting until it ends")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks
    return lock


def empty_environment() -> None:
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != LOCK:
            path.unlink()


def check_space() -> None:
    needed: dict[int, tuple[Path, float]] = {}  # by file system
    for folder, gigabytes in ((VENV, INSTALLED), (Path(tempfile.gettempdir()), DOWNLOADED)):
        first, so_far = needed.get(folder.stat().st_dev, (folder, 0))
        needed[folder.stat().st_dev] = (first, so_far + gigabytes)
    for folder, gigabytes in needed.values():
        free = shutil.disk_usage(folder).free / 1e9
        if free < gigabytes:
            raise SetupError(
                f"{folder} has {free:.1f} GB free, but set-up needs {gigabytes:g} GB there; "
                "free some space" + (" or set TMPDIR" if folder != VENV else "")
            )


def install(renew: bool, lock: IO[str]) -> None:
    """Make .venv, install the lock and the package, load them; the last step writes the stamp."""
    base = getattr(sys, "_base_executable", None) or sys.executable  # not another environment's
    pip = ["install", "--disable-pip-version-check", "--no-input"]
    LOG.write_text("")
    run(lock, base, "venv", *(["--without-pip"] if renew else []), str(VENV))
    if renew:
        repair_programs()
    run(lock, PYTHON, "pip", *pip, "--require-hashes", "-r", "requirements.lock")
    run(lock, PYTHON, "pip", *pip, "--no-deps", "--no-build-isolation", "--editable", ".")
    with LOG.open("a") as log:
        command: list[str | Path] = [PYTHON, ROOT / "tools" / "setup.py", "--load"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
    if done.returncode != 0:
        raise SetupError(not_loaded(done.returncode, done.stdout.splitlines()))


def repair_programs() -> None:
    """Let the programs in .venv/bin start this environment's Python: after a copy they do not."""
    head = b"""#!/bin/sh\n'''exec' "%s" "$0" "$@"\n' '''\n""" % os.fsencode(PYTHON)
    for path in PYTHON.parent.iterdir():
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes()
            if (found := HEAD.match(text)) and found[0] != head:
                path.write_bytes(head + text[found.end() :])


def run(lock: IO[str], python: str | Path, module: str, *arguments: str) -> None:
    """Run a module; its output goes to the log. If set-up is killed, the module keeps the lock."""
    with LOG.open("a") as log:
        done = subprocess.run(
            [python, "-I", "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
        )
    if done.returncode != 0:
        raise SetupError(f"{explain(module)} (log: {LOG})")


def explain(module: str) -> str:
    """The kind of a module's failure, or the last line of its output."""
    text = LOG.read_text(errors="replace")
    for pattern, explanation in FAILURES:
        if found := re.search(pattern, text):
            places = {"venv": VENV, "temporary": tempfile.gettempdir(), "version": version()}
            return explanation.format(**places, **found.groupdict())
    return f"{module} failed: {(text.strip().splitlines() or ['no output'])[-1].strip()}"


def load_all() -> int:
    """Import what the package requires, name by name, and the package; then write the stamp.

    The last lines on standard output are what was imported and, if that fails, why.
    """
    sys.path = [path for path in sys.path if path != str(ROOT / "tools")]
    requirements = [
        requirement
        for requirement in metadata.requires("acoustic-kd") or []
        if not requirement.startswith("acoustic-kd")
        and ("extra ==" not in requirement or re.search('"(train|demo)"', requirement))
    ]
    for requirement in [*requirements, "acoustic-kd"]:
        name = re.split(r"[^\w.-]", requirement)[0]
        print(name, end=" ", flush=True)
        try:
            print(metadata.version(name), flush=True)
            importlib.import_module(MODULES.get(name.lower(), name.replace("-", "_")))
            if name == "acoustic-kd":
                importlib.import_module("acoustic_kd.system.torchaudio_functions")
        except Exception as error:
            traceback.print_exc()
            print(f"\n{type(error).__name__}: {' '.join(str(error).split())}")
            return 1
    STAMP.write_text(wanted())
    return 0


def not_loaded(status: int, lines: list[str]) -> str:
    """The message for the output of `load_all`."""
    lines = [line.strip() for line in lines if line.strip()]
    reason = lines.pop() if status > 0 and len(lines) > 1 else f"exit status {status}"
    name = lines[-1] if lines else "acoustic-kd"
    torch = next((line for line in lines[:-1] if line.startswith("torch ")), None)
    beside = " and ".join(filter(None, (torch, f"Python {version()}")))
    return f"{name} does not load with {beside} ({reason}) (log: {LOG})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
