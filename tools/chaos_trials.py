"""The trials of chaos.py: one way of breaking an experiment each, and what must come of it."""

import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.system.errors import USAGE_ERROR
from chaos_experiment import Reader, Site, contents, kind_of, readers_of, stage_of
from chaos_processes import (
    MOST_FILE_BYTES,
    Command,
    Ended,
    end_descendants,
)

SAME, REFUSED, VIOLATION = "same result", "one line + status 2", "violation"
LONGEST_LINE = 500
SLOW = ("corpus", "align", "train", "distill", "decode", "transcribe --json", "bundle")


class Violation(Exception):
    """Something happened that must not: what, in a few words, and the details."""

    def __init__(self, what: str, details: str = "") -> None:
        super().__init__(what)
        self.what, self.details = what, details


@dataclass(frozen=True)
class Known:
    """What undisturbed commands did.

    Attributes:
        seconds: of each stage in one process.
        readers: commands that succeed on the finished experiment.
        outputs: what each of them printed, and its files in `out`.
        several: stage → the files of the experiment after it ran on two processes.
    """

    seconds: dict[str, float]
    readers: dict[str, Reader]
    outputs: dict[str, tuple[str, dict[str, bytes]]]
    several: dict[str, dict[str, bytes]]


@dataclass
class Trial:
    """One trial.

    Attributes:
        patience: seconds that a command may run.
        stages: those that run.
        did: what was done.
        subject: what was broken, for the summary.
        signals: number of signals that were sent.
    """

    site: Site
    known: Known
    rng: random.Random
    patience: float = 60.0
    stages: Sequence[str] = tuple(STAGES)
    did: list[str] = field(default_factory=list)
    subject: str = ""
    signals: int = 0

    def choose(self, commands: Sequence[str]) -> str:
        """One of several commands; of the slow ones, each is chosen less often."""
        weights = [0.25 if name in SLOW else 1.0 for name in commands]
        return self.rng.choices(commands, weights)[0]

    def start(
        self, arguments: Sequence[str], cores: int = 1, size: int = MOST_FILE_BYTES
    ) -> Command:
        return Command(arguments, self.site.tmp, cores, size)

    def finish(self, command: Command) -> Ended:
        """Wait for the end of a command; what no command may do is a violation."""
        ended = command.end(self.patience)
        if ended.status is None:
            raise Violation("ran too long", f"{ended.seconds:.0f} s; {ended.output} {ended.errors}")
        if "Traceback (most recent call last)" in ended.errors:
            raise Violation(f"traceback: {_last_error(ended.errors)}", ended.errors)
        return ended

    def leave_nothing(self, killed: bool = False) -> None:
        """No process of a command runs on, and no temporary file stays.

        Args:
            killed: whether files may stay: the next run deletes those of the experiment.
        """
        if left := end_descendants():
            raise Violation("processes left", "; ".join(name[:150] for name in left))
        if killed:  # nobody can clean up the folder of temporary files after SIGKILL
            shutil.rmtree(self.site.tmp)
            self.site.tmp.mkdir()
        elif files := self.site.temporary_files():
            raise Violation("temporary files left", " ".join(files))

    def refused(self, ended: Ended, name: str = "", several: bool = False) -> None:
        """It ended with status 2 and one line about a file.

        Args:
            name: the name of a file that the line may have in place of a path.
            several: whether it may print a line for each problem.
        """
        lines = ended.errors.splitlines()
        if ended.status != USAGE_ERROR:
            raise Violation(f"status {ended.status}", ended.errors)
        if len(lines) != 1 and not (several and lines):
            raise Violation(
                "status 2 with several lines" if lines else "status 2 without a line", ended.errors
            )
        for line in lines:
            if len(line) > LONGEST_LINE:
                raise Violation(f"a line of more than {LONGEST_LINE} characters", line)
            if str(self.site.folder) not in line and not (name and name in line):
                raise Violation("the line names no file", line)

    def again(self, arguments: Sequence[str], cores: int = 1) -> None:
        """The same command again, undisturbed: everything is as in the finished experiment."""
        ended = self.finish(self.start(arguments, cores))
        if ended.status or ended.errors:
            raise Violation(f"again: status {ended.status}", ended.errors)
        self.leave_nothing()
        if names := self.site.differences():
            raise Violation(f"again: other bytes in {kind_of(names[0])}", " ".join(names))


def _last_error(errors: str) -> str:
    """The type of the last error of a traceback, and where it was raised."""
    places = re.findall(r'File "[^"]*?([\w/]+\.py)", line (\d+), in (\w+)', errors)
    error = errors.rstrip().splitlines()[-1].partition(":")[0]
    ours = [place for place in places if "acoustic_kd/" in place[0]]
    where = "{}:{} {}".format(*ours[-1]).partition("acoustic_kd/")[2] if ours else ""
    return f"{error} {where}".strip()


# --- damaged files --------------------------------------------------------------------------------


def flips(trial: Trial) -> str:
    """A file is damaged; then a command reads it."""
    site, rng = trial.site, trial.rng
    kinds: dict[str, list[str]] = {}
    for name in sorted(site.contents):
        kinds.setdefault(kind_of(name), []).append(name)
    kind = rng.choice(sorted(kinds))
    name = rng.choice(kinds[kind])
    reader_name = trial.choose(sorted(readers_of(name, trial.known.readers)))
    reader = trial.known.readers[reader_name]
    site.restore([reader.stage] if reader.stage else [])
    trial.subject = f"{kind}, {reader_name}"
    path = site.exp / name
    trial.did += [f"{name}: {damage(path, rng)}", reader_name]
    damaged = path.read_bytes() if path.exists() else None
    ended = trial.finish(trial.start(reader.arguments))
    trial.leave_nothing()
    changed = set(site.differences())
    same_damage = (path.read_bytes() if path.exists() else None) == damaged
    if ended.status == 0:
        if ended.errors:
            raise Violation("status 0 with lines on standard error", ended.errors)
        others = sorted(changed - {name} if same_damage else changed)
        output = (ended.output, contents(site.out))
        if others:
            raise Violation(f"other output: {kind_of(others[0])}", " ".join(others))
        if not reader.stage and reader_name != "run" and output != trial.known.outputs[reader_name]:
            raise Violation("other output: printed or written", ended.output)
        recorded = path.name != "started.json"  # of a finished stage, nothing reads it
        if reader.strict and recorded and same_damage and name in changed:
            raise Violation("damage not found")
        return SAME
    trial.refused(ended, path.name, reader_name.startswith("inspect"))
    made = set() if reader_name == "run" else {reader.stage}
    touched = {other for other in changed - {name} if stage_of(other) not in made}
    if touched and reader_name != "run":
        raise Violation(f"refused, but changed {kind_of(min(touched))}", " ".join(sorted(touched)))
    if list(site.out.iterdir()):
        raise Violation("refused, but wrote a file", " ".join(map(str, site.out.iterdir())))
    return REFUSED


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file; returns how."""
    before = path.read_bytes()
    size = len(before)
    how = rng.choices(("bits", "zeros", "cut", "longer", "lost"), (8, 4, 4, 1, 1))[0]
    if how == "lost":
        path.unlink()
        return "deleted"
    if how == "longer" or not size:
        added = rng.randbytes(rng.randint(1, 64))
        path.write_bytes(before + added)
        return f"{len(added)} bytes added"
    if how == "cut":
        left = rng.randrange(size)
        path.write_bytes(before[:left])
        return f"cut from {size} to {left} bytes"
    after, first = bytearray(before), _place(size, rng)
    if how == "zeros":
        last = min(size, first + int(2 ** rng.uniform(0, 16)))
        after[first:last] = bytes(last - first)
    if how == "bits" or after == before:
        places = {first, *(rng.randrange(size) for _ in range(rng.choice((0, 0, 0, 7))))}
        for place in places:
            after[place] ^= 1 << rng.randrange(8)
        text = f"{len(places)} bits flipped, the first in byte {first} of {size}"
    else:
        text = f"bytes {first} to {last} of {size} zeroed"
    path.write_bytes(after)
    return text


def _place(size: int, rng: random.Random) -> int:
    """A byte of a file; the first ones more often, which say how to read the others."""
    if rng.random() < 0.3:
        return min(size - 1, int(2 ** rng.uniform(0, 12)) - 1)
    return rng.randrange(size)
