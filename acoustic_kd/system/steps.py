"""Steps of work that know whether their output is up to date.

A step owns a directory. `started.json` describes what is being made there, and `done.json`, written
last, what was made: the settings, the digests of the inputs, the digest of both, which later steps
record as their input, and the files with their sizes and check sums. So output that is out of date
or lost is made again, and output that is up to date is not. Check sums are compared by whoever
reads the files (`records.verify_files`).
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import TEMPORARY, json_sha256
from acoustic_kd.system.records import (
    DONE,
    RECORDS,
    STARTED,
    digests,
    file_of,
    read_done,
    read_record,
    recorded_digests,
    write_record,
)


@dataclass(frozen=True)
class Step:
    """A directory of output and what shapes it.

    Attributes:
        name: for messages.
        directory: of its output; nothing else may be kept there.
        settings: `group.key` → JSON value.
        inputs: name → digest of a step that it reads.
        whole: whether output of other settings is deleted first. False if the directory holds
            smaller steps that each check their own.
        beside: files outside the directory that the step writes, too.
        neutral: setting → its value in records that were written before there was this setting.
        own_checks: pattern of the names of files with check sums of their own, which their readers
            compare; they may be terabytes.
        scratch: name of a file that only an interrupted run needs; deleted when all is recorded.
    """

    name: str
    directory: Path
    settings: dict[str, Any]
    inputs: dict[str, str]
    whole: bool = True
    beside: tuple[Path, ...] = ()
    neutral: Mapping[str, Any] = field(default_factory=dict)
    own_checks: str = ""
    scratch: str | None = None

    @property
    def digest(self) -> str:
        """Digest of name, settings and inputs; that of the record if nothing has changed since.

        So the digest of a step stays the same when a setting is added.
        """
        for record in map(self._own, RECORDS):
            if record is not None:
                return str(record["digest"])
        return json_sha256({"name": self.name, "settings": self.settings, "inputs": self.inputs})

    def _own(self, name: str) -> dict[str, Any] | None:
        """A record in the directory, if it is of this step with the same settings and inputs."""
        record = read_record(self.directory / name)
        return record if record is not None and self._matches(record) else None

    def _matches(self, record: dict[str, Any]) -> bool:
        """Whether a record is of this step, with the same settings and inputs."""
        return (record.get("name"), record["inputs"]) == (self.name, self.inputs) and not any(
            changes(record["settings"], self.settings, self.neutral)
        )

    def is_current(self) -> bool:
        """Whether it was done with these settings and inputs, and no file of it is lost."""
        return not self.why_out_of_date()

    def why_out_of_date(self) -> str:
        """The reason why this must be made, in a few words; "" if it is up to date."""
        started, done = (read_record(self.directory / name) for name in RECORDS)
        record = done or started
        if record is None:
            return "no output yet"
        if not self._matches(record):
            return "; ".join(self._differences(record)) or "its record has other settings"
        if done is None:
            return "interrupted; would resume"
        files = record.get("files", {}).items()
        paths = ((file_of(self.directory, name), size) for name, size in files)
        lost = [path for path, size in paths if _size(path) != size]
        return f"{lost[0]} is missing or was changed" if lost else ""

    def _differences(self, record: dict[str, Any]) -> Iterator[str]:
        """What has changed since a record was written."""
        for name, old, new in changes(record["settings"], self.settings, self.neutral):
            if old != new:
                yield f"{name} was {json.dumps(old)}, now it is {json.dumps(new)}"
        for name in sorted(record["inputs"].keys() | self.inputs.keys()):
            if record["inputs"].get(name) != self.inputs.get(name):
                yield f"'{name}' has changed"
        if record.get("name") != self.name:
            yield f"'{record.get('name')}' was made in this directory"

    @contextmanager
    def run(self, main: bool = True) -> Iterator[None]:
        """Delete output of other settings, then mark the output of the block as done.

        Unfinished output of the same settings stays, so that the step can resume.

        Args:
            main: False in all but one of several processes that make the output together.
        """
        if not main:
            yield
            return
        description = self._prepare()
        begun = time.monotonic() - description.get("seconds", 0.0)
        try:
            yield
        except BaseException:
            # The time until here counts when the step resumes. If the disk is full, another error
            # says so already.
            with suppress(OSError, UserError):
                write_record(self.directory / "started.json", description | _seconds(begun))
            raise
        write_record(self.directory / DONE, description | _seconds(begun) | self._files())
        if self.scratch is not None:
            (self.directory / self.scratch).unlink(missing_ok=True)

    def join_running(self, alone: bool) -> None:
        """Begin a part of the step, in one of several independent runs.

        Args:
            alone: whether no other run works on it; only then output of other settings is deleted.
        """
        if alone:
            self._prepare()
        elif self._own(STARTED) is None:
            raise UserError(
                f"{self.directory}: other runs work here with other settings or inputs; "
                "wait for them, or give another --exp-dir"
            )

    def _prepare(self) -> dict[str, Any]:
        """Delete output of other settings; write and return the description of this step."""
        started, record = self.directory / STARTED, self._own(STARTED)
        interrupted = not (self.directory / DONE).exists()
        (self.directory / DONE).unlink(missing_ok=True)
        if started.exists() and record is None and self.whole:
            self._clear()
        for half_written in self.directory.rglob(TEMPORARY):  # of a killed process
            half_written.unlink()
        description: dict[str, Any] = {
            "name": self.name,
            "digest": self.digest,
            "settings": self.settings,
            "inputs": self.inputs,
        }
        if record and interrupted and "seconds" in record:  # that the step ran before
            description["seconds"] = record["seconds"]
        write_record(started, description)
        return description

    def _clear(self) -> None:
        """Delete everything but `started.json`, so that an interrupted deletion is repeated.

        The directory itself stays, because it may be a link to a larger disk.
        """
        for path in self.directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "started.json":
                path.unlink()

    def _files(self) -> dict[str, dict[str, Any]]:
        """Bytes and SHA-256 of each file, without the records of this step and of smaller ones.

        Files of smaller steps have the SHA-256 of their records: damage since then is noticed.
        """
        paths = [path for path in self.directory.rglob("*") if path.is_file()]
        smaller = recorded_digests(path.parent for path in paths if path.name == DONE)
        paths = [path for path in paths if path.name not in (*RECORDS, self.scratch)]
        paths = sorted(paths + list(self.beside))
        sizes = {path: _size(path) for path in paths}
        known = {path: smaller[path][1] for path in paths
                 if path in smaller and smaller[path][0] == sizes[path]}  # fmt: skip
        new = [
            path
            for path, size in sizes.items()
            if size is not None and path not in known and not fnmatch(path.name, self.own_checks)
        ]
        known |= dict(zip(new, digests(new), strict=True))
        names = {path: os.path.relpath(path, self.directory) for path in paths}
        return {
            "files": {names[path]: size for path, size in sizes.items()},
            "sha256": {names[path]: known[path] for path in paths if path in known},
        }


def _seconds(begun: float) -> dict[str, float]:
    return {"seconds": round(time.monotonic() - begun, 1)}


def _size(path: Path) -> int | None:
    """Bytes of a file, or None if it is missing."""
    return path.stat().st_size if path.is_file() else None


def changes(
    recorded: Mapping[str, Any], settings: Mapping[str, Any], neutral: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ from those of a record: name, old value, new value.

    Args:
        neutral: values of settings that a record leaves out.
    """
    # Records hold lists where settings may have tuples.
    before, now = ({**neutral, **json.loads(json.dumps(v))} for v in (recorded, settings))
    for name in sorted(recorded.keys() | settings.keys()):
        old, new = before.get(name), now.get(name)
        if old != new or (name in before) != (name in now):
            yield name, old, new


def require_done(
    directory: Path,
    name: str,
    settings: dict[str, Any],
    how: str,
    neutral: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of a finished step whose output is about to be read.

    Args:
        settings: those the step must have been done with.
        how: what to run to do it, for the message.
        neutral: as in `Step`.
    """
    done = read_done(directory, how)
    if done is None:
        raise UserError(f"{directory}: '{name}' is not done yet; run {how} first")
    for key, old, new in changes(done["settings"], settings, neutral or {}):
        raise UserError(
            f"{directory}: '{name}' was done with {key}={old}, now it is {new}; run {how} again"
        )
    return done
