"""The trials of chaos.py: one way of breaking an experiment each, and what must come of it."""

import os
import random
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.system.errors import USAGE_ERROR
from chaos_experiment import Reader, Site, digests, kind_of, readers_of, stage_of
from chaos_processes import (
    MOST_FILE_BYTES,
    Command,
    Ended,
    command_line,
    descendants,
    end_descendants,
    mount_small_disk,
    resize_disk,
)

SAME, REFUSED, VIOLATION = "same result", "one line + status 2", "violation"
LONGEST_LINE = 500
RESUME = "run the same command again to resume\n"
OCCUPIED = ("another run", "other runs")
STATUSES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}


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
        outputs: what each of them printed, and the digests of its files in `out`.
        several: stage → the digests of the experiment after it ran on two processes.
    """

    seconds: dict[str, float]
    readers: dict[str, Reader]
    outputs: dict[str, tuple[str, dict[str, str]]]
    several: dict[str, dict[str, str]]


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
            killed: whether files may stay, which the next run deletes.
        """
        if left := end_descendants():
            raise Violation("processes left", "; ".join(left))
        if not killed and (files := self.site.temporary_files()):
            raise Violation("temporary files left", " ".join(files))

    def refused(self, ended: Ended, name: str = "") -> None:
        """It ended with status 2 and one line about a file.

        Args:
            name: the name of a file that the line may have in place of a path.
        """
        lines = ended.errors.splitlines()
        if ended.status != USAGE_ERROR:
            raise Violation(f"status {ended.status}", ended.errors)
        if len(lines) != 1:
            raise Violation(
                "status 2 with several lines" if lines else "status 2 without a line", ended.errors
            )
        if len(lines[0]) > LONGEST_LINE:
            raise Violation(f"a line of more than {LONGEST_LINE} characters", lines[0])
        if str(self.site.folder) not in lines[0] and not (name and name in lines[0]):
            raise Violation("the line names no file", lines[0])

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
    for name in sorted(site.digests):
        kinds.setdefault(kind_of(name), []).append(name)
    kind = rng.choice(sorted(kinds))
    name = rng.choice(kinds[kind])
    reader_name = rng.choice(sorted(readers_of(name, trial.known.readers)))
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
        output = (ended.output, digests(site.out))
        if others:
            raise Violation(f"other output: {kind_of(others[0])}", " ".join(others))
        if not reader.stage and reader_name != "run" and output != trial.known.outputs[reader_name]:
            raise Violation("other output: printed or written", ended.output)
        if reader.strict and same_damage and name in changed:
            raise Violation("damage not found")
        return SAME
    trial.refused(ended, path.name)
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


# --- signals --------------------------------------------------------------------------------------


def kills(trial: Trial) -> str:
    """A run is killed or stopped at random moments; then the same command again."""
    order, stages = list(STAGES), [trial.rng.choice(trial.stages)]
    following = order[order.index(stages[0]) + 1 :][:1]
    if trial.rng.random() < 0.5:
        stages += [stage for stage in following if stage in trial.stages]
    seconds = sum(trial.known.seconds[stage] for stage in stages)
    arguments = trial.site.arguments("run", "--stage", stages[0], "--stop-stage", stages[-1])
    trial.site.restore(stages)
    for _ in range(trial.rng.choice((1, 1, 1, 2, 3))):
        number = trial.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        trial.subject = f"{' and '.join(stages)}, {signal.Signals(number).name}"
        _interrupt(trial, arguments, number, trial.rng.uniform(0, 1.1 * seconds))
    trial.again(arguments)
    return SAME


def _interrupt(trial: Trial, arguments: Sequence[str], number: int, seconds: float) -> None:
    """Run a command, send a signal after so many seconds, and look at what is left."""
    name = signal.Signals(number).name
    command = trial.start(arguments)
    trial.did.append(f"{trial.subject} after {seconds:.2f} s")
    command.wait(trial.patience, for_output=True)
    if not command.wait(seconds):
        os.kill(command.pid, number)
        trial.signals += 1
    ended = trial.finish(command)
    finished = re.search(r"^stages \d+ to \d+: \d+ s$", ended.output, re.MULTILINE)
    killed = number == signal.SIGKILL
    trial.leave_nothing(killed)
    if names := trial.site.differences(unfinished=True):
        raise Violation(f"half-written {kind_of(names[0])}", " ".join(names))
    if finished or (killed and ended.status == STATUSES[number]):
        return
    if ended.status != STATUSES[number]:
        raise Violation(f"{name}: status {ended.status}", ended.errors)
    if ended.errors.count("\n") != 1 or not ended.errors.endswith(RESUME):
        raise Violation(f"{name}: wrong lines", ended.errors)


def processes(trial: Trial) -> str:
    """One of several processes is killed, or all; then the same command again."""
    rng, site = trial.rng, trial.site
    stage = rng.choice([name for name in trial.stages if STAGES[name].distributed])
    several = rng.choice((("--num-processes", "2"), ()))
    if not several and stage == "soft-targets":
        stage = rng.choice(("train", "distill"))
    if several:  # sums over processes have another order
        trial.site = site = replace(site, digests=trial.known.several[stage])
    arguments = site.arguments("run", "--stage", stage, "--stop-stage", stage, *several)
    site.restore([stage])
    command = trial.start(arguments, cores=2)
    # About 10 s until two processes have imported PyTorch.
    seconds = rng.uniform(0, 4 if not several else 12) + trial.known.seconds[stage]
    whom = rng.choice(("first", "launcher", "worker", "all"))
    number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    if number == signal.SIGINT:
        whom = "all"  # as a terminal does
    did = f"{stage} {' '.join(several)}: {signal.Signals(number).name} to {whom}"
    trial.did.append(f"{did} after {seconds:.1f} s")
    trial.subject = did
    command.wait(trial.patience, for_output=True)
    if not command.wait(seconds):
        for pid in _targets(command.pid, whom, rng):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                trial.signals += 1
    ended = trial.finish(command)
    trial.leave_nothing(killed=True)
    if names := site.differences(unfinished=True):
        raise Violation(f"half-written {kind_of(names[0])}", " ".join(names))
    if ended.status and number != signal.SIGKILL and len(ended.errors.splitlines()) != 1:
        raise Violation(f"status {ended.status} with other than one line", ended.errors)
    trial.again(arguments, cores=2)
    return SAME


def _targets(leader: int, whom: str, rng: random.Random) -> list[int]:
    """The processes that get the signal."""
    below = descendants(leader)
    launchers = [pid for pid in below if "acoustic_kd.launch" in command_line(pid)]
    workers = [pid for pid in below if pid not in launchers and "tracker" not in command_line(pid)]
    if whom == "launcher" and launchers:
        return launchers[:1]
    if whom == "worker" and workers:
        return [rng.choice(workers)]
    return [leader, *below] if whom == "all" else [leader]


# --- full disks -----------------------------------------------------------------------------------


def disk(trial: Trial) -> str:
    """No file can become larger than a random size, or the disk is full; then there is room."""
    rng, site = trial.rng, trial.site
    stage = rng.choice(trial.stages)
    names = [name for name in site.digests if stage_of(name) == stage]
    sizes = [(site.whole / name).stat().st_size for name in names]
    small = rng.random() < 0.5 and mount_small_disk(site.exp)
    site.restore([stage])
    arguments = site.arguments(stage)
    if small:
        stat = os.statvfs(site.exp)
        used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        room = rng.randrange(1, sum(sizes) + 4096 * len(sizes))
        trial.did.append(f"{stage}: a disk with {room} bytes left")
        resize_disk(site.exp, used + room)
        command = trial.start(arguments)
    else:
        most = rng.randrange(max(1, rng.choice(sizes)))
        trial.did.append(f"{stage}: no file larger than {most} bytes")
        command = trial.start(arguments, size=most)
    trial.subject = f"{stage}, {'disk full' if small else 'file too large'}"
    ended = trial.finish(command)
    trial.leave_nothing()
    if ended.status:
        trial.refused(ended)
    if names := site.differences(unfinished=True):
        raise Violation(f"half-written {kind_of(names[0])}", " ".join(names))
    if small:
        resize_disk(site.exp, 1 << 28)
    trial.again(arguments)
    return REFUSED if ended.status else SAME


# --- two runs at once -----------------------------------------------------------------------------


def together(trial: Trial) -> str:
    """Two runs in one directory: both do everything, or a part each."""
    rng, site = trial.rng, trial.site
    shared = rng.random() < 0.5
    stage = rng.choice([name for name in trial.stages if STAGES[name].parts or not shared])
    parts = [("--shard", "0/2"), ("--shard", "1/2")] if shared else [(), ()]
    delay = rng.choice((0.0, rng.uniform(0, trial.known.seconds[stage])))
    trial.did.append(f"{stage} twice {'with --shard' if shared else ''}: {delay:.2f} s later")
    trial.subject = f"{stage}{' --shard' if shared else ''}"
    site.restore([stage])
    commands = []
    for part in parts:
        commands.append(trial.start(site.arguments(stage, *part)))
        commands[0].wait(delay)
    ends = [trial.finish(command) for command in commands]
    trial.leave_nothing()
    refused = [ended for ended in ends if ended.status]
    for ended in refused:
        trial.refused(ended)
        if not any(text in ended.errors for text in OCCUPIED):
            raise Violation("the line does not say that another run works", ended.errors)
    if len(refused) == 2 or (shared and refused):
        raise Violation(
            "both refused" if len(refused) == 2 else "a share refused", refused[0].errors
        )
    trial.again(site.arguments(stage))
    return REFUSED if refused else SAME


KINDS: dict[str, tuple[Callable[[Trial], str], int]] = {  # with how often each is tried
    "flips": (flips, 10_000),
    "kills": (kills, 1_000),
    "disk": (disk, 250),
    "together": (together, 120),
    "processes": (processes, 50),
}
