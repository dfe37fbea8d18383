#!/usr/bin/env python3
"""Break a tiny experiment in random ways, and check that nothing is lost and nothing is wrong.

Kinds of trials:
  flips      a file is damaged, then a command reads it
  kills      a run gets SIGKILL, SIGTERM or SIGINT at random moments, then runs again
  processes  the same with several processes, or one of them
  disk       the disk is full, or a file may not become larger, then there is room
  together   two runs work in one directory at once

A command must give the same result as without damage, or end with status 2 and one line that names
a file; run again, it must end with the same bytes. Everything else is a violation. Ctrl-C ends the
trials and prints the table. Only on Linux.
"""

import argparse
import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from acoustic_kd import cli
from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import exclusive_lock
from acoustic_kd.system.signals import Stopped
from chaos_experiment import Reader, Site, contents, kind_of, readers
from chaos_processes import LIBC, SET_DEATH_SIGNAL, Command, adopt_orphans, end_descendants
from chaos_runs import KINDS
from chaos_tally import Running, Tally
from chaos_trials import VIOLATION, Known, Trial, Violation

PROGRAM = "tools/chaos.py"
PRELOADED = ("torch._dynamo", "torch.distributed.run", "onnx")
# onnxruntime starts a thread: no forks then.
NOT_PRELOADED = ("onnxruntime", "__mp_main__", "__main__")
PATIENCE = {"processes": 240.0}  # seconds for a command; others: --patience
COMMANDS_OF_TRIAL = 10  # a trial has so many at most


def main(arguments: list[str] | None = None) -> int:
    """Run the trials; returns 1 if there was a violation."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="new folder; deleted at the end"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="default: %(default)s")
    parser.add_argument("--trials", type=int, metavar="N", help="end after so many trials")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default: %(default)s")
    parser.add_argument(
        "--only", type=int, nargs="+", metavar="N", help="repeat these trials; print what came"
    )
    parser.add_argument("--jobs", type=int, default=2, help="trials at once (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS",
        help="for one command (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    return exit_status(PROGRAM, lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Make the experiments, run the trials, print the table; returns the exit status."""
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise UserError(f"--kinds: no kind '{min(unknown)}'; kinds are {', '.join(KINDS)}")
    if sys.platform != "linux":
        raise UserError("it needs Linux: it looks for processes in /proc")
    if options.directory.exists() and any(options.directory.iterdir()):
        raise UserError(f"{options.directory} is not empty; give a new folder")
    os.environ["PYTHONPATH"] = str(Path(cli.__file__).parents[1])  # for commands in new processes
    adopt_orphans()
    directory = options.directory.absolute()
    tally, begun = Tally(), time.monotonic()
    with exclusive_lock(directory):
        try:
            numbers = options.only or _numbers(options, kinds)
            if options.only:
                kinds = [_random(options.seed, number)[0] for number in options.only]
            several = "processes" in kinds
            sites = [directory / str(number) for number in range(max(1, options.jobs))]
            if options.only:
                sites = sites[:1]
            known = _prepare(sites, several)
            begun = time.monotonic()
            run_trials(numbers, known, options, tally)
        except (KeyboardInterrupt, Stopped):
            print("interrupted", flush=True)
        finally:
            end_descendants(0)
            shutil.rmtree(directory, ignore_errors=True)
    tally.print((time.monotonic() - begun) / 60)
    return 1 if tally.violations else 0


def _random(seed: int, number: int) -> tuple[str, random.Random]:
    """The kind of a trial, and its random numbers."""
    rng = random.Random(f"{seed} {number}")
    return rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0], rng


def _numbers(options: argparse.Namespace, kinds: Sequence[str]) -> Iterator[int]:
    """The numbers of trials of these kinds, until the time is over."""
    end, number, count = time.monotonic() + 60 * options.minutes, 0, 0
    while time.monotonic() < end and (options.trials is None or count < options.trials):
        number += 1
        if _random(options.seed, number)[0] in kinds:
            count += 1
            yield number


# --- the experiments ------------------------------------------------------------------------------


def _prepare(folders: Sequence[Path], several: bool) -> list[tuple[Site, Known]]:
    """Make an experiment in each folder, and note what undisturbed commands do."""
    verbs = (f"acoustic_kd.verbs.{verb.replace('-', '_')}" for verb in cli.VERBS)
    for name in (*PRELOADED, *verbs):
        with suppress(ImportError):
            importlib.import_module(name)
    prepared = []
    for folder in folders:
        print(f"making an experiment in {folder}", flush=True)
        site = Site(folder)
        site.prepare()
        if prepared:
            site.unsteady = prepared[0][0].unsteady
        _run(site, site.arguments("run"))
        site.keep()
        known = prepared[0][1] if prepared else None
        prepared.append((site, _know(site, several, known)))
    return prepared


def _run(
    site: Site, arguments: Sequence[str], cores: int = 1, must: bool = True
) -> tuple[int, str, float]:
    """Run a command undisturbed, import the modules that it needed; status, output, seconds."""
    modules = site.folder / "modules.txt"

    def learn(arguments: list[str]) -> int:
        status = cli.main(arguments)
        modules.write_text("\n".join(sys.modules))
        return status

    ended = Command(arguments, site.tmp, cores, function=learn).end(600)
    end_descendants()
    if must and ended.status:
        raise UserError(f"undisturbed, it ended with status {ended.status}: {ended.errors}")
    for name in modules.read_text().split("\n") if modules.exists() else ():
        if name not in sys.modules and name.partition(".")[0] not in NOT_PRELOADED:
            with suppress(Exception):
                importlib.import_module(name)
    return ended.status or 0, ended.output, ended.seconds


def _know(site: Site, several: bool, first: Known | None) -> Known:
    """Run every command undisturbed: it must repeat the finished experiment."""
    seconds: dict[str, float] = {} if first is None else first.seconds
    for stage in STAGES if first is None else ():
        site.restore([stage])
        *_, seconds[stage] = _run(site, site.arguments(stage))
        _check_repeats(site)
    speech = site.folder / "speech.wav"
    shutil.copyfile(min((site.whole / "corpus" / "audio" / "train").rglob("*.wav")), speech)
    outputs: dict[str, tuple[str, dict[str, bytes]]] = {}
    used: dict[str, Reader] = {}
    for name, reader in readers(site, str(speech)).items():
        if reader.stage or name == "run":
            used[name] = reader
            continue
        site.restore()
        status, output, _ = _run(site, reader.arguments, must=False)
        if status == 0:
            used[name], outputs[name] = reader, (output, contents(site.out))
        elif first is None:
            print(f"left out: {name} has status {status} for the undamaged experiment", flush=True)
    many = {} if first is None else first.several
    for stage in STAGES if several and first is None else ():
        if STAGES[stage].distributed:
            site.restore([stage])
            one = ("--stage", stage, "--stop-stage", stage, "--num-processes", "2")
            _run(site, site.arguments("run", *one), cores=2)
            many[stage] = contents(site.exp)
    return Known(seconds, used, outputs, many)


def _check_repeats(site: Site) -> None:
    """What differs without any disturbance cannot be compared; print it."""
    for name in site.differences():
        if (kind := kind_of(name)) not in site.unsteady:
            site.unsteady.add(kind)
            print(f"left out: {kind} differs between two undisturbed runs", flush=True)


# --- the trials -----------------------------------------------------------------------------------


def run_trials(
    numbers: Iterator[int] | Sequence[int],
    known: Sequence[tuple[Site, Known]],
    options: argparse.Namespace,
    tally: Tally,
) -> None:
    """Run trials side by side, one in each site."""
    free, running, waiting = list(known), {}, iter(numbers)
    told, more = time.monotonic(), True
    try:
        while True:
            while more and free:
                number = next(waiting, None)
                if number is None:
                    more = False
                    break
                place = free.pop()
                handle, one = _start(number, place, options)
                running[handle] = one, place
            if not running:
                return
            ready, _, _ = select.select(list(running), [], [], 1.0)
            late = [handle for handle, (one, _) in running.items() if time.monotonic() > one.end]
            for handle in {*ready, *late}:
                one, place = running.pop(handle)
                result = _result(handle, one, handle in ready)
                others = [other.pid for other, _ in running.values()]
                end_descendants(0, others)
                tally.add(one, result, options.only is not None)
                free.append(place)
            if time.monotonic() > told + 60:
                told = time.monotonic()
                wrong = sum(map(len, tally.violations.values()))
                print(f"{sum(tally.outcomes.values())} trials, {wrong} violations", flush=True)
    finally:
        end_descendants(0)


def _start(
    number: int, place: tuple[Site, Known], options: argparse.Namespace
) -> tuple[int, Running]:
    """Fork the process of a trial; the handle of its result."""
    kind, rng = _random(options.seed, number)
    patience = PATIENCE.get(kind, options.patience)
    trial = Trial(*place, rng, patience)
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _be_trial(trial, kind, writer)
        finally:
            os._exit(70)
    os.close(writer)
    end = time.monotonic() + COMMANDS_OF_TRIAL * patience
    return reader, Running(number, kind, place[0], pid, end)


def _be_trial(trial: Trial, kind: str, writer: int) -> None:
    """In the process of a trial: run it, and send what came of it."""
    LIBC.prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    adopt_orphans()
    result = tried(trial, kind)
    with os.fdopen(writer, "w") as file:
        json.dump(result, file)
    os._exit(0)


def tried(trial: Trial, kind: str) -> dict[str, Any]:
    """Run a trial in this process; what was done, and what came of it."""
    what = details = ""
    try:
        outcome = KINDS[kind][0](trial)
    except Violation as violation:
        outcome, what, details = VIOLATION, violation.what, violation.details
    except Exception as error:
        outcome, what, details = VIOLATION, f"{PROGRAM} failed: {error!r}", traceback.format_exc()
    end_descendants(0)
    return {
        "outcome": outcome, "what": what, "details": details, "did": trial.did,
        "subject": trial.subject, "signals": trial.signals,
    }  # fmt: skip


def _result(handle: int, running: Running, sent: bool) -> dict[str, Any]:
    """What a trial sent; a trial that sends nothing is a violation."""
    with os.fdopen(handle) as file:
        if sent:
            with suppress(ValueError):
                return json.load(file)
        what = "its process died" if sent else "the trial ran too long"
    return {
        "outcome": VIOLATION, "what": what, "details": "", "did": [], "subject": "", "signals": 0,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
