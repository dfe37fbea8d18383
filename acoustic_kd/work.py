"""Pieces of work that know whether their output is current.

A piece of work owns a directory. `started.json` says what is being made there, `done.json`, written
last, what was made: the settings, the digests of the inputs, and the digest of both, which is what
later work records as its input. So nothing stale is reused and nothing current is made again.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic_kd.errors import UserError
from acoustic_kd.files import digest, read_json, write_json


@dataclass(frozen=True)
class Work:
    """A directory of output and what shapes it.

    Attributes:
        name: what messages call it.
        directory: where its output goes; nothing else may be kept there.
        settings: flat, JSON values.
        inputs: name → digest of the work that is read.
        whole: whether output of other settings is cleared away first. Not so where the directory
            holds smaller pieces of work that each look after themselves.
    """

    name: str
    directory: Path
    settings: dict[str, Any]
    inputs: dict[str, str]
    whole: bool = True

    @property
    def digest(self) -> str:
        """Digest of the settings and the inputs."""
        return digest({"name": self.name, "settings": self.settings, "inputs": self.inputs})

    def is_current(self) -> bool:
        """Whether `done.json` is there and was written for these settings and inputs."""
        done = read_done(self.directory)
        return done is not None and done["digest"] == self.digest

    @contextmanager
    def making(self, main: bool = True) -> Iterator[None]:
        """Around the making: clears what other settings left, marks the output done at the end.

        Output that the same settings left unfinished stays, so that the making can go on from it.

        Args:
            main: of several processes that make it together, one does the marking.
        """
        if not main:
            yield
            return
        started = self.directory / "started.json"
        if started.exists() and read_json(started).get("digest") != self.digest and self.whole:
            shutil.rmtree(self.directory)
        (self.directory / "done.json").unlink(missing_ok=True)
        description = {
            "name": self.name,
            "digest": self.digest,
            "settings": self.settings,
            "inputs": self.inputs,
        }
        write_json(started, description)
        begun = time.monotonic()
        yield
        seconds = round(time.monotonic() - begun, 1)
        write_json(self.directory / "done.json", description | {"seconds": seconds})


def read_done(directory: Path) -> dict[str, Any] | None:
    """What `done.json` records, or None where the work is not done."""
    path = Path(directory) / "done.json"
    return read_json(path) if path.exists() else None


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
            if done["settings"].get(key) != settings.get(key)
        )
        key = different[0]
        raise UserError(
            f"{directory}: '{name}' was done with {key}={done['settings'].get(key)}, now it is "
            f"{settings.get(key)}; run {how} again"
        )
    return done
