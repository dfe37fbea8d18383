#!/usr/bin/env python3
"""What the search costs on a finished experiment's graph, and what it finds, beam by beam.

The first dev utterances are decoded by one process with the experiment's ensemble, or with the
model that is named: for each beam processor seconds a second of speech, the tokens that go on from
a frame, the best path's cost a frame, WER at LM weight 1 / acoustic scale, and the peak memory
until then, with the graph's file, which processes share.

usage: tools/bench/search.py EXP_DIR [MODEL_DIR] [--utterances 10] [--beams 10 12 13 14 16]
           [--max-active N] [--acoustic-scale S] [--json FILE]

Without them, as the experiment's own settings say.
"""

import argparse
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tables import Table

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.graph.compile import peak_memory
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.scoring import score
from acoustic_kd.decoding.search import Decoder, SearchSettings
from acoustic_kd.experiment.aligning_models import find_models
from acoustic_kd.experiment.models import Recogniser
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.features.frames import read_utterances, shard_paths
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.system.files import read_json
from acoustic_kd.training.ensemble import log_likelihoods

COLUMNS = {
    "beam": "beam|", "real_time": "processor s a s|", "active": "tokens a frame|,",
    "cost": "best cost a frame|", "wer": "WER %|", "peak_gib": "peak GiB|",
}  # fmt: skip


class Counting(Decoder):
    """A decoder that counts the tokens that go on."""

    active = 0

    def _choose(self, cost: np.ndarray) -> tuple[np.ndarray, float]:
        token, beam = super()._choose(cost)
        self.active += len(token)
        return token, beam


def predict(experiment: Path, model: str | None, count: int) -> dict[str, np.ndarray]:
    """Utterance → log-likelihoods, of the first dev utterances."""
    found = find_models(model or str(experiment))
    recogniser = Recogniser.read(found.models, found.frames)
    shards = shard_paths(experiment / "frames" / "dev")
    utterances = islice((u for path in shards for u in read_utterances(path)), count)
    return {
        u.id: log_likelihoods(recogniser.posteriors(u.features), recogniser.log_prior)
        for u in utterances
    }


def best_cost(lattice: Lattice, scale: float) -> float:
    """What the best path costs in the units of the search."""
    arcs = lattice.best_arcs([(1 / scale, 0.0)])[0]
    cost = lattice.graph[arcs].sum(dtype=float) + scale * lattice.acoustic[arcs].sum(dtype=float)
    return float(cost + lattice.final[lattice.target[arcs[-1]]]) if len(arcs) else 0.0


def measure(
    decoder: Counting,
    loglikes: dict[str, np.ndarray],
    references: dict[str, list[str]],
    join: Joiner,
) -> dict[str, float]:
    """One beam."""
    decoder.active, scale = 0, decoder.settings.acoustic_scale
    frames = sum(map(len, loglikes.values()))
    began = time.process_time()
    lattices = {name: decoder.lattice(matrix, name) for name, matrix in loglikes.items()}
    spent = time.process_time() - began
    words = {name: join(lattice.best(1 / scale)) for name, lattice in lattices.items()}
    return {
        "beam": decoder.settings.beam,
        "real_time": round(spent / (SHIFT_SECONDS * frames), 3),
        "active": round(decoder.active / frames),
        "cost": round(sum(best_cost(lattice, scale) for lattice in lattices.values()) / frames, 5),
        "wer": round(score(references, words).percent, 2),
        "peak_gib": round(peak_memory() / 2**30, 2),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", type=Path)
    parser.add_argument("model", nargs="?", help="one model's directory (default: the ensemble)")
    parser.add_argument("--utterances", type=int, default=10)
    parser.add_argument("--beams", type=float, nargs="+", default=[10, 12, 13, 14, 16])
    parser.add_argument("--max-active", type=int)
    parser.add_argument("--acoustic-scale", type=float)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    own = open_experiment(options.experiment, "graph").config.decode
    max_active = options.max_active or own.max_active
    scale = options.acoustic_scale or own.acoustic_scale
    loglikes = predict(options.experiment, options.model, options.utterances)
    manifest = read_manifest(options.experiment / "corpus" / "dev.jsonl")
    references = {u.id: u.text.split() for u in manifest if u.id in loglikes}
    join = Joiner.of(options.experiment / "graph")
    wall, spent = time.perf_counter(), time.process_time()
    decoder = Counting(options.experiment / "graph")
    loading = {
        "seconds": round(time.perf_counter() - wall, 2),
        "processor_seconds": round(time.process_time() - spent, 2),
    }
    graph = read_json(options.experiment / "graph" / "graph.json")
    print(
        f"{graph['words']} words, {graph['states']} states, {graph['arcs']} arcs, loaded in "
        f"{loading['seconds']} s ({loading['processor_seconds']} s of processor time)\n"
    )
    with Table(COLUMNS, options.json) as table:
        table.notes = {"graph": graph, "loading": loading}
        for beam in options.beams:
            decoder.settings = SearchSettings(beam, max_active, acoustic_scale=scale)
            table.add(measure(decoder, loglikes, references, join))


if __name__ == "__main__":
    main()
