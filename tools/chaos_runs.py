"""Trials of chaos.py on runs: killed, on a full disk, and two at once."""

import os
import random
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from acoustic_kd.experiment.stages import STAGES
from chaos_experiment import kind_of, stage_of
from chaos_processes import (
    MOST_FILE_BYTES,
    command_line,
    descendants,
    resize_disk,
    small_disk,
)
from chaos_trials import REFUSED, SAME, Trial, Violation, flips

RESUME = "run the same command again to resume\n"
OCCUPIED = ("another run", "other runs")
STATUSES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}


# --- signals --------------------------------------------------------------------------------------


def kills(trial: Trial) -> str:
    """A run is killed or stopped at random moments; then the same command again."""
    order, stages = list(STAGES), [trial.choose(trial.stages)]
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
        folder, known = f"{STAGES[stage].folder}/", trial.known.several[stage]
        made = {name: content for name, content in known.items() if name.startswith(folder)}
        trial.site = site = replace(site, contents=site.contents | made)
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
    if ended.status and number != signal.SIGKILL and not 1 <= len(ended.errors.splitlines()) <= 5:
        # Each of the processes may print a line, and torchrun one of its own.
        raise Violation(f"status {ended.status} without a line, or with many", ended.errors)
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
    with small_disk(trial.site.exp, trial.rng.random() < 0.5) as small:
        return _fill(trial, small)


def _fill(trial: Trial, small: bool) -> str:
    rng, site = trial.rng, trial.site
    stage = trial.choose(trial.stages)
    names = [name for name in site.contents if stage_of(name) == stage]
    sizes = [(site.whole / name).stat().st_size for name in names]
    site.restore([stage])
    arguments = site.arguments(stage)
    most = MOST_FILE_BYTES
    if small:
        stat = os.statvfs(site.exp)
        used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        room = rng.randrange(1, sum(sizes) + 4096 * len(sizes))
        trial.did.append(f"{stage}: a disk with {room} bytes left")
        resize_disk(site.exp, used + room)
    else:
        most = rng.randrange(max(1, rng.choice(sizes)))
        trial.did.append(f"{stage}: no file larger than {most} bytes")
    trial.subject = f"{stage}, {'disk full' if small else 'file too large'}"
    ended = trial.finish(trial.start(arguments, size=most))
    trial.leave_nothing()
    if ended.status:
        trial.refused(ended)
    if files := site.differences(unfinished=True):
        raise Violation(f"half-written {kind_of(files[0])}", " ".join(files))
    if small:
        resize_disk(site.exp, MOST_FILE_BYTES)
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
