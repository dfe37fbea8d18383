#!/usr/bin/env python3
"""All benchmarks, each in a process of its own, and one page with their tables.

A benchmark writes its rows to OUT/NAME.json; PAGE (default: OUT/performance.md) has all tables,
each with its command and the machine. A benchmark whose rows exist is not run again. Without an
experiment (stages up to 'graph' done), or a text and a lexicon, the benchmarks that need them are
skipped. Keep the machine otherwise idle.

The module also holds what the benchmarks share: `main`, the function behind each script, and ways
to measure time and memory.
"""

import argparse
import inspect
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from acoustic_kd.cli import exit_status
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, write_json, write_text
from acoustic_kd.system.parallel import cores

Row = dict[str, Any]

# Name → heading of the table; script and arguments, with fields that `run_all` fills in.
BENCHMARKS = {
    "training-small": ("Training speed: small networks",
        "training.py --nets 2x300:10 2x800:10 2x1200:10"),
    "training": ("Training speed: recipe-sized networks",
        "training.py --nets 4x512:700 4x512:1500 --batch 512 --steps 40 --threads {threads}"),
    "training-paper": ("Training speed: the paper's network",
        "training.py --nets 8x2560:5000 8x2560:14000 --batch 1024 --steps 4 --threads {threads}"),
    "training-models": ("Training two models: one after the other and side by side",
        "parallel_training.py --threads {threads}"),
    "loss": ("Loss: fused against autograd", "loss.py"),
    "soft-targets": ("Soft targets of 10 members: writing and reading",
        "soft_targets.py --members 10 --threads {threads}"),
    "soft-targets-paper": ("Soft targets of 10 members: 14,000 classes",
        "soft_targets.py --members 10 --classes 14000 --frames 4096 --encodings top-k-8 dense-16 "
        "--threads {threads}"),
    "features": ("Features against torchaudio and kaldi-native-fbank", "features.py"),
    "graph": ("Decoding graph by size of the vocabulary",
        "graph.py --text {text} --lexicon {lexicon} --words 5000 10000 20000 40000"),
    "tree": ("Decision tree by hours of speech", "tree.py {experiment}"),
    "search": ("Search by beam", "search.py {experiment}"),
    "chunks": ("Training by chunks against training in memory",
        "chunks.py {experiment} --chunks 1 4 16 --seeds 3"),
}  # fmt: skip

PAGE_HEAD = """# Performance

Written by `tools/bench/bench.py`. Each figure stands beside its bound or beside a peer, measured in
the same run: times differ between machines, ratios hardly do. The command above a table measures it
again.
"""


def main(measure: Callable[..., Iterable[Row]], columns: dict[str, str]) -> None:
    """Run a benchmark as a script: parse its options, print its table, exit.

    Args:
        measure: a generator of rows, each yielded once it is measured. Its parameters are the
            script's arguments, those after `*` its options.
        columns: as in `show_table`.
    """
    parser = argparse.ArgumentParser(
        prog=f"tools/bench/{Path(sys.argv[0]).name}",
        description=measure.__globals__["__doc__"],
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add_arguments(parser, measure)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    arguments = vars(parser.parse_args())
    path = arguments.pop("json")
    torch.set_num_threads(arguments.pop("threads"))
    sys.exit(exit_status(parser.prog, lambda: show_table(columns, measure(**arguments), path)))


def add_arguments(parser: argparse.ArgumentParser, function: Callable[..., object]) -> None:
    """Add a function's parameters to a parser, with their types and defaults."""
    for name, parameter in inspect.signature(function).parameters.items():
        kind, required = parameter.annotation, parameter.default is parameter.empty
        default = None if required else parameter.default
        inner_kind = (*get_args(kind), kind)[0]  # of `int | None` and `Sequence[int]`: int
        if parameter.kind is not parameter.KEYWORD_ONLY:
            nargs = None if required else "?"
            parser.add_argument(name, type=inner_kind, nargs=nargs, default=default)
            continue
        option = f"--{name.replace('_', '-')}"
        if kind is bool:
            parser.add_argument(option, action="store_true")
        else:
            nargs = "+" if get_origin(kind) is Sequence else None
            parser.add_argument(
                option, type=inner_kind, nargs=nargs, default=default, required=required
            )


def show_table(columns: dict[str, str], rows: Iterable[Row], path: Path | None = None) -> None:
    """Print rows as a Markdown table while they are measured; write them as JSON at the end.

    Args:
        columns: key in a row → heading and format specification, as in `frames/s|,.0f`. A value
            that is None or missing leaves its cell empty; other keys are in the JSON file alone.
        path: the JSON file, which also has the command, the machine and the table; None: no file.
    """
    lines, shown = [], []

    def show(cells: Iterable[str]) -> None:
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)

    for row in rows:
        if not shown:
            show(column.partition("|")[0] for column in columns.values())
            show(["---"] * len(columns))
        shown.append(row)
        show(
            "" if row.get(key) is None else format(row[key], column.partition("|")[2])
            for key, column in columns.items()
        )
    if path is not None:
        contents = {"command": _command(), "machine": machine(), "table": "\n".join(lines)}
        write_json(path, contents | {"rows": shown})


def _command() -> str:
    """The command line without --json; of an absolute path only the file's name."""
    script, *words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv]
    if "--json" in words:
        place = words.index("--json")
        del words[place : place + 2]
    return shlex.join([f"tools/bench/{Path(script).name}", *words])


def machine() -> dict[str, Any]:
    """The hardware and software that the figures depend on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": cores(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
    }


def best_time(
    action: Callable[[], object],
    repeats: int = 5,
    min_seconds: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one call: the best of `repeats` measurements of `min_seconds` or more each."""
    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times, calls = [], 1
    while len(times) < repeats:
        begin = clock()
        for _ in range(calls):
            action()
        synchronise()
        seconds = clock() - begin
        if seconds < min_seconds:
            calls *= 2
        else:
            times.append(seconds / calls)
    return min(times)


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that the peak memory it reads is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


class TensorMemory(TorchDispatchMode):
    """Measure the memory of the tensors that operations inside the context create.

    Attributes:
        peak_bytes: the most bytes that were alive at once, whatever the allocator keeps.
    """

    def __init__(self, counts: Callable[[Tensor], bool]) -> None:
        """`counts`: whether a tensor is counted."""
        super().__init__()
        self.counts, self.peak_bytes = counts, 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Callable, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        """Count an operation's result for as long as its memory is held."""
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor) and self.counts(result):
            storage = result.untyped_storage()
            key = storage.data_ptr()
            if key not in self._alive:
                self._alive[key] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, key, None)
                self.peak_bytes = max(self.peak_bytes, sum(self._alive.values()))
        return result


def run_all(
    experiment: Path | None = None,
    *,
    text: Path | None = None,
    lexicon: Path | None = None,
    threads: int = cores(),
    only: Sequence[str] = (),
    out: Path = Path("bench"),
    page: Path | None = None,
) -> int:
    """Run the benchmarks and write the page; returns the status of the first that failed."""
    if unknown := [name for name in only if name not in BENCHMARKS]:
        raise UserError(f"--only {unknown[0]}: no such benchmark; give {', '.join(BENCHMARKS)}")
    fields = {"experiment": experiment, "text": text, "lexicon": lexicon, "threads": threads}
    out.mkdir(parents=True, exist_ok=True)
    sections = [PAGE_HEAD]
    for name, (title, command) in BENCHMARKS.items():
        missing = [key for key, value in fields.items() if f"{{{key}}}" in command and not value]
        if only and name not in only:
            continue
        if missing:
            print(f"{name}: skipped; give {missing[0]} to run it\n")
            continue
        path = out / f"{name}.json"
        if not path.exists():
            print(f"{name}:\n", flush=True)
            script, *words = command.format_map(fields).split()
            if status := run_script(script, *words, "--json", str(path)):
                return status
            print()
        sections.append(page_section(title, read_json(path)))
    page = page or out / "performance.md"
    write_text(page, "\n".join(sections))
    print(page)
    return 0


def run_script(script: str, *words: str) -> int:
    """Run one benchmark; returns its exit status."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *words]
    return subprocess.run(command, check=False).returncode  # noqa: S603


def page_section(title: str, contents: dict[str, Any]) -> str:
    """A benchmark's section of the page, from its JSON file."""
    where = contents["machine"]
    device = where["processor"] if where["device"] == "cpu" else where["device"]
    return (
        f"## {title}\n\n```sh\n{contents['command']}\n```\n\n{device}, {where['cores']} cores, "
        f"{where['capability']}, torch {where['torch']}, load {where['load']} at the end.\n\n"
        f"{contents['table']}\n"
    )


if __name__ == "__main__":
    all_parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(all_parser, run_all)
    arguments = vars(all_parser.parse_args())
    sys.exit(exit_status("tools/bench/bench.py", lambda: run_all(**arguments)))
