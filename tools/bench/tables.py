"""What the benchmarks share: the machine they ran on, and their rows as Markdown and JSON."""

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from acoustic_kd.system.files import write_json


def parser_of(text: str) -> argparse.ArgumentParser:
    """A parser whose help is a script's docstring, with `--threads` and `--json`."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the rows go, too")
    return parser


class Table:
    """Rows that are printed as Markdown while they are measured, and at the end written as JSON.

    Args:
        columns: key of a value → heading and how it is formatted, as in `frames/s|,.0f`.
        path: where the rows go, with the command and the machine; None: nowhere.
    """

    def __init__(self, columns: dict[str, str], path: Path | None = None) -> None:
        parts = {key: text.partition("|") for key, text in columns.items()}
        self.formats = {key: form for key, (_, _, form) in parts.items()}
        self.headings = [heading for heading, _, _ in parts.values()]
        self.path, self.rows, self.lines, self.notes = path, [], [], {}

    def add(self, row: dict[str, Any]) -> None:
        """Print a row, the headings before the first; what is None or missing is left empty."""
        if not self.rows:
            self._print(self.headings)
            self._print(["---"] * len(self.headings))
        self.rows.append(row)
        cells = {key: row.get(key) for key in self.formats}
        self._print(
            "" if value is None else format(value, self.formats[key])
            for key, value in cells.items()
        )

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.path is not None:
            words = map(_without_place, _without_json(sys.argv[1:]))
            command = [f"tools/bench/{Path(sys.argv[0]).name}", *words]
            found = {"command": shlex.join(command), "machine": machine(), **self.notes}
            found |= {"table": "\n".join(self.lines), "rows": self.rows}
            write_json(self.path, found)

    def _print(self, cells: Iterable[str]) -> None:
        self.lines.append(f"| {' | '.join(cells)} |")
        print(self.lines[-1], flush=True)


def _without_json(arguments: list[str]) -> list[str]:
    place = arguments.index("--json") if "--json" in arguments else len(arguments)
    return arguments[:place] + arguments[place + 2 :]


def _without_place(word: str) -> str:
    """A file by its name alone: where it lies says nothing to others."""
    return Path(word).name if Path(word).is_absolute() else word


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
    }


def best_time(action: Callable[[], object], rounds: int = 5, least: float = 0.02) -> float:
    """Seconds of one call, the best of several rounds that each take `least` seconds or more."""
    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times, calls = [], 1
    while len(times) < rounds:
        begun = time.perf_counter()
        for _ in range(calls):
            action()
        synchronise()
        spent = time.perf_counter() - begun
        if spent < least:
            calls *= 2
        else:
            times.append(spent / calls)
    return min(times)
