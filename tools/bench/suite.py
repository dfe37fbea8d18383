#!/usr/bin/env python3
"""All benchmarks, one after the other, into one page: each figure beside its bound or a peer.

Each benchmark is a process of its own, whose rows go to OUT/NAME.json; PAGE (OUT/performance.md)
has all tables, with the command and the machine. What is there already is not measured again.
Without an experiment (its stages to 'graph' done), or a text and a lexicon, those that need them
are left out. The machine should do nothing else meanwhile.

usage: tools/bench/suite.py [EXP_DIR] [--text novels.txt.gz --lexicon cmudict.dict]
           [--threads 2] [--only NAME …] [--out bench] [--page FILE]
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic_kd.system.files import read_json, write_text
from acoustic_kd.system.parallel import cores

HERE = Path(__file__).parent
HEAD = """# Performance

Written by `tools/bench/suite.py`; nothing here is typed. Each figure stands beside its bound, or
beside a peer, measured in the same run: seconds differ between machines, shares hardly do. Of a
table, the command above it measures it again.
"""


@dataclass(frozen=True)
class Bench:
    """One command, and the heading of its table.

    Attributes:
        words: the script and its arguments; `{experiment}`, `{text}`, `{lexicon}` and `{threads}`
            are filled in.
    """

    name: str
    title: str
    words: str


BENCHES = (
    Bench("training-small", "Training: the share of the matrix products' speed, small nets",
          "training.py --nets 2x300:10 2x800:10 2x1200:10"),
    Bench("training", "Training: likewise, nets as the recipes'",
          "training.py --nets 4x512:700 4x512:1500 --batch 512 --steps 40 --threads {threads}"),
    Bench("training-paper", "Training: likewise, the paper's net",
          "training.py --nets 8x2560:5000 8x2560:14000 --batch 1024 --steps 4 --threads {threads}"),
    Bench("training-models", "Training: two models one after another against side by side",
          "training.py --nets 3x256:700 --batch 512 --steps 117 --models 2 --threads {threads}"),
    Bench("loss", "The loss: fused against autograd", "loss.py"),
    Bench("soft-targets", "Soft targets: writing against the forward passes alone, reading against "
          "reading plainly; 10 members", "soft_targets.py --members 10 --threads {threads}"),
    Bench("soft-targets-paper", "Soft targets: likewise, 14,000 classes",
          "soft_targets.py --members 10 --classes 14000 --frames 4096 --encodings top-k-8 dense-16 "
          "--threads {threads}"),
    Bench("features", "Features against torchaudio and kaldi-native-fbank", "features.py"),
    Bench("graph", "The decoding graph, vocabularies × 2, × 4, × 8",
          "graph.py --text {text} --lexicon {lexicon} --words 5000 10000 20000 40000"),
    Bench("tree", "The decision tree, speech × 2, × 4, × 8", "tree.py {experiment}"),
    Bench("search", "The search by beam", "search.py {experiment}"),
    Bench("streaming", "Training by chunks against training in memory",
          "chunks.py {experiment} --chunks 1 4 16 --seeds 3"),
)  # fmt: skip


def main() -> int:
    """Run what can be run; the exit status is that of the first benchmark that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", nargs="?")
    parser.add_argument("--text")
    parser.add_argument("--lexicon")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--only", nargs="+", choices=[bench.name for bench in BENCHES])
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    places = {key: value for key, value in vars(options).items() if value is not None}
    done: list[tuple[Bench, dict[str, Any]]] = []
    for bench in BENCHES:
        if options.only and bench.name not in options.only:
            continue
        try:
            words = bench.words.format_map(places).split()
        except KeyError as missing:
            print(f"{bench.name}: left out, for it needs {missing.args[0]}\n")
            continue
        path = options.out / f"{bench.name}.json"
        if not path.exists():
            print(f"{bench.name}:\n", flush=True)
            status = run([sys.executable, str(HERE / words[0]), *words[1:], "--json", str(path)])
            if status:
                return status
            print()
        done.append((bench, read_json(path)))
    written = options.page or options.out / "performance.md"
    write_text(written, page(done))
    print(written)
    return 0


def run(command: list[str]) -> int:
    """One benchmark, its threads its own business."""
    return subprocess.run(command, env=os.environ, check=False).returncode  # noqa: S603


def page(done: list[tuple[Bench, dict[str, Any]]]) -> str:
    """All tables as Markdown."""
    parts = [HEAD]
    for bench, found in done:
        at = found["machine"]
        where = at["processor"] if at["device"] == "cpu" else at["device"]
        parts.append(
            f"## {bench.title}\n\n```sh\n{found['command']}\n```\n\n{where}, {at['cores']} cores, "
            f"{at['capability']}, torch {at['torch']}, load {at['load']} at the end.\n\n"
            f"{found['table']}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
