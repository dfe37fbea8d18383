"""Pieces of work that know whether their output is current.

A piece of work owns a directory. `started.json` says what is being made there, `done.json`, written
last, what was made: the settings, the digests of the inputs, and the digest of both, which is what
later work records as its input; and the files with their sizes. So nothing stale is reused, nothing
current is made again, and what was lost is.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import TEMPORARY, json_sha256, read_json, write_json

RECORDS = ("started.json", "done.json")


@dataclass(frozen=True)
class Step:
    """A directory of output and what shapes it.

    Attributes:
        name: what messages call it.
        directory: where its output goes; nothing else may be kept there.
        settings: flat, JSON values.
        inputs: name → digest of the work that is read.
        whole: whether output of other settings is cleared away first. Not so where the directory
            holds smaller pieces of work that each look after themselves.
        beside: files outside the directory that are made with it.
        neutral: setting → the value with which it changes nothing. The digest leaves such settings
            out, and a record without the setting was made with this value.
    """

    name: str
    directory: Path
    settings: dict[str, Any]
    inputs: dict[str, str]
    whole: bool = True
    beside: tuple[Path, ...] = ()
    neutral: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the settings, without those at their neutral values, and of the inputs."""
        settings = {
            name: value
            for name, value in self.settings.items()
            if name not in self.neutral or value != self.neutral[name]
        }
        return json_sha256({"name": self.name, "settings": settings, "inputs": self.inputs})

    def is_current(self) -> bool:
        """Whether this was done with these settings and inputs, and no file of it has been lost."""
        return not self.why_out_of_date()

    def why_out_of_date(self) -> str:
        """Why this must be made, in a few words; nothing where it is current."""
        started, done = (_read_record(self.directory / name) for name in RECORDS)
        record = done or started
        if record is None:
            return "no output yet"
        if done is None and record["digest"] == self.digest:
            return "interrupted; would resume"
        if record["digest"] != self.digest:
            return "; ".join(self._differences(record)) or "its record has other settings"
        files = record.get("files", {}).items()
        lost = [name for name, size in files if _size(self.directory / name) != size]
        return f"{self.directory / lost[0]} is missing or was changed" if lost else ""

    def _differences(self, record: dict[str, Any]) -> Iterator[str]:
        """What has changed since a record of this work was written."""
        for name in sorted(record["settings"].keys() | self.settings.keys()):
            old, new = (
                json.dumps(settings.get(name, self.neutral.get(name)))
                for settings in (record["settings"], self.settings)
            )
            if old != new:
                yield f"{name} was {old}, now it is {new}"
        for name in sorted(record["inputs"].keys() | self.inputs.keys()):
            if record["inputs"].get(name) != self.inputs.get(name):
                yield f"'{name}' has changed"
        if record.get("name") != self.name:
            yield f"'{record.get('name')}' was made there"

    @contextmanager
    def run(self, main: bool = True) -> Iterator[None]:
        """Around the making: clears what other settings left, marks the output done at the end.

        Output that the same settings left unfinished stays, so that the making can go on from it.

        Args:
            main: of several processes that make it together, one does the marking.
        """
        if not main:
            yield
            return
        description = self._prepare()
        begun = time.monotonic() - description.get("seconds", 0.0)
        try:
            yield
        except BaseException:
            # What it has taken until here is counted when it goes on. If the disk is full, that
            # is already being said.
            with suppress(OSError, UserError):
                write_json(self.directory / "started.json", description | _seconds(begun))
            raise
        done = description | _seconds(begun) | {"files": self._files()}
        write_json(self.directory / "done.json", done)

    def join_running(self, alone: bool) -> None:
        """Before a part of the making, by one of several runs that know nothing of each other.

        Args:
            alone: whether no other is at it; only then is anything cleared away.

        Raises:
            UserError: the others are at it with other settings.
        """
        if alone:
            self._prepare()
        elif not self._was("started.json"):
            raise UserError(
                f"{self.directory}: other runs are at work here with other settings or inputs; "
                "wait for them, or give another --exp-dir"
            )

    def _prepare(self) -> dict[str, Any]:
        """Clear away what other settings left; say what is being made, and return that."""
        started = self.directory / "started.json"
        spent = 0.0 if (self.directory / "done.json").exists() else self._spent()
        (self.directory / "done.json").unlink(missing_ok=True)
        if started.exists() and not self._was(started.name) and self.whole:
            self._clear()
        for half_written in self.directory.rglob(TEMPORARY):  # a killed process left it
            half_written.unlink()
        description: dict[str, Any] = {
            "name": self.name,
            "digest": self.digest,
            "settings": self.settings,
            "inputs": self.inputs,
        }
        if spent:
            description["seconds"] = spent
        write_json(started, description)
        return description

    def _spent(self) -> float:
        """Seconds that this very work has taken before it was interrupted."""
        record = _read_record(self.directory / "started.json")
        return record.get("seconds", 0.0) if record and record["digest"] == self.digest else 0.0

    def _clear(self) -> None:
        """Take away everything but `started.json`, so that a clearing that is killed is repeated.

        The directory itself stays: it may be a link to a larger disk.
        """
        for path in self.directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "started.json":
                path.unlink()

    def _files(self) -> dict[str, int | None]:
        """Bytes in each file that was made, but for the records of this and smaller work."""
        paths = [path for path in self.directory.rglob("*") if path.is_file()]
        paths = [path for path in paths if path.name not in RECORDS] + list(self.beside)
        return {os.path.relpath(path, self.directory): _size(path) for path in sorted(paths)}

    def _was(self, name: str) -> bool:
        record = _read_record(self.directory / name)
        return record is not None and record["digest"] == self.digest


def read_done(directory: Path) -> dict[str, Any] | None:
    """What `done.json` records, or None where the work is not done."""
    return _read_record(Path(directory) / "done.json")


def _seconds(begun: float) -> dict[str, float]:
    return {"seconds": round(time.monotonic() - begun, 1)}


def _size(path: Path) -> int | None:
    """Bytes in a file, or None where there is none."""
    return path.stat().st_size if path.is_file() else None


def _read_record(path: Path) -> dict[str, Any] | None:
    """A `done.json` or `started.json`; None where there is none, or none that can be read."""
    try:
        record = read_json(path)
    except UserError:
        return None
    parts = {"digest": str, "settings": dict, "inputs": dict}
    whole = isinstance(record, dict) and all(
        isinstance(record.get(key), kind) for key, kind in parts.items()
    )
    return record if whole else None


def require_done(directory: Path, name: str, settings: dict[str, Any], how: str) -> dict[str, Any]:
    """What `done.json` records of finished work that is about to be read.

    Args:
        settings: those the work must have been done with.
        how: what to run to do it, for the message.

    Raises:
        UserError: it is not done, or was done with other settings.
    """
    done = read_done(directory)
    if done is None:
        raise UserError(f"{directory}: '{name}' is not done yet; run {how} first")
    if done["settings"] != settings:
        different = sorted(
            key
            for key in done["settings"].keys() | settings.keys()
            if key not in done["settings"].keys() & settings.keys()
            or done["settings"][key] != settings[key]
        )
        key = different[0]
        raise UserError(
            f"{directory}: '{name}' was done with {key}={done['settings'].get(key)}, now it is "
            f"{settings.get(key)}; run {how} again"
        )
    return done
