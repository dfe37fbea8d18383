#!/usr/bin/env python3
"""Size, speed and accuracy on test of an experiment's models in float32, bfloat16 and 8 bits.

Of each kind of system one is measured, such as member 1. Prints a table and writes
EXP/deployment.json, which the report, recipes/RESULTS.md and model cards show. bfloat16 is measured
on processors that have instructions for it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from acoustic_kd.cli import Parser, exit_status
from acoustic_kd.decoding.scoring import score
from acoustic_kd.experiment.models import CPU, System, systems
from acoustic_kd.experiment.onnx_models import (
    check_exportable,
    check_packages,
    write_int8,
    write_scores,
)
from acoustic_kd.experiment.outputs import frame_targets
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.reports.deployment import FILE, Deployment, decode_digest, deployment_rows
from acoustic_kd.reports.tables import as_markdown
from acoustic_kd.runtime.bundle import OnnxScorer
from acoustic_kd.runtime.recognizer import Scorer
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_json
from acoustic_kd.system.parallel import torch_threads
from acoustic_kd.system.paths import path_argument
from acoustic_kd.training.networks import count_parameters
from acoustic_kd.training.precision import use_bfloat16
from acoustic_kd.verbs.bundle import recognised, utterances_of
from acoustic_kd.verbs.decode import references_of, utterances_to_decode

PROGRAM = "tools/deployment.py"


def measure(directory: Path, every: int) -> list[Deployment]:
    """Measure one system of each kind; writes the file after each."""
    check_packages()
    if every < 1:
        raise UserError(f"--every is {every}; it must be 1 or more")
    experiment, rows = open_experiment(directory), list[Deployment]()
    one_of_each = {system.kind: system for system in reversed(systems(experiment))}
    for system in reversed(one_of_each.values()):
        rows += of_system(directory, system, every)
        write_json(directory / FILE, rows)
    return rows


def of_system(directory: Path, system: System, every: int) -> Iterator[Deployment]:
    """A row for each format."""
    where = system.directories[0].relative_to(directory)
    transcriber = Transcriber(directory, "ensemble" if system.kind == "ensemble" else str(where))
    experiment, acoustics = transcriber.experiment, transcriber.acoustics
    check_exportable(acoustics, system.name)
    names = [u.id for u in utterances_to_decode(experiment, "test")][::every]
    references = references_of(experiment, "test", names)
    test = utterances_of(transcriber, "test", references)
    targets = frame_targets(experiment, "test")
    weights = sum(map(count_parameters, acoustics.models))
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        path, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        write_scores(acoustics, transcriber.features, 1 / transcriber.weights[0], path)
        write_int8(path, small)
        parts = acoustics.log_prior, acoustics.durations, acoustics.window
        found: list[tuple[str, float, Scorer]] = [
            ("float32", path.stat().st_size, OnnxScorer.read(path, *parts, threads=1)),
            ("int8", small.stat().st_size, OnnxScorer.read(small, *parts, threads=1)),
        ]
        if use_bfloat16(None, CPU):
            found.insert(1, ("bfloat16", 2 * weights, replace(acoustics, bfloat16=True)))
        for form, size, scorer in found:
            words, heard = recognised(transcriber, scorer, "test", test)
            result, right, frames, spent = score(references, words), 0.0, 0.0, 0.0
            for u in heard:
                if u.id not in targets:
                    continue
                began = time.perf_counter()
                posteriors = scorer.posteriors(u.features)
                spent += time.perf_counter() - began
                right += np.sum(posteriors.argmax(-1) == targets[u.id])
                frames += len(u.features)
            yield Deployment(
                system=system.name,
                digest=decode_digest(directory, system.name),
                format=form,
                megabytes=size / 1e6,
                real_time_factor=spent / frames / 0.01,
                frame_accuracy=100 * right / frames,
                wer=result.percent,
                ci95=result.ci95,
            )
            print(f"{system.name} {form}: {result.percent:.2f} % WER", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=path_argument, metavar="EXP")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="every Nth test utterance alone"
    )
    options = parser.parse_args(arguments)

    def run() -> None:
        rows = measure(Path(options.experiment), options.every)
        print("\n".join(as_markdown(deployment_rows(rows))))

    return exit_status(PROGRAM, run)


if __name__ == "__main__":
    sys.exit(main())
