#!/usr/bin/env python3
"""Cost and accuracy of the search on a finished experiment's graph, by beam.

One process decodes the first dev utterances with the experiment's ensemble, or with the model
given. For each beam: processor seconds per second of speech, tokens that survive a frame, cost of
the best path per frame, WER at LM weight 1 / acoustic scale, and the peak memory so far (the file
of the graph included, which processes share).

--max-active and --acoustic-scale default to the experiment's settings.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

import bench
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.graph.compile import peak_memory
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.scoring import score
from acoustic_kd.decoding.search import Decoder, SearchSettings, log_likelihoods
from acoustic_kd.experiment.aligning_models import find_models
from acoustic_kd.experiment.models import AcousticScorer
from acoustic_kd.experiment.outputs import stored_frames
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.system.files import read_json

COLUMNS = {
    "beam": "beam", "real_time": "processor s a s", "active": "tokens a frame|,",
    "cost": "best cost a frame", "wer": "WER %", "peak_gib": "peak GiB",
}  # fmt: skip


def measure(
    experiment: Path,
    model: str | None = None,
    *,
    utterances: int = 10,
    beams: Sequence[float] = (10, 12, 13, 14, 16),
    max_active: int | None = None,
    acoustic_scale: float | None = None,
) -> Iterator[bench.Row]:
    """Print what loading the graph takes; yield a row for each beam."""
    settings = open_experiment(experiment, "graph").config.decode
    max_active = max_active or settings.max_active
    scale = acoustic_scale or settings.acoustic_scale
    loglikes = predict(experiment, model, utterances)
    manifest = read_manifest(experiment / "corpus" / "dev.jsonl")
    references = {u.id: u.text.split() for u in manifest if u.id in loglikes}
    join = Joiner.of(experiment / "graph")
    clock, processor = time.perf_counter(), time.process_time()
    decoder = CountingDecoder(experiment / "graph")
    loading = {
        "seconds": round(time.perf_counter() - clock, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }
    graph = read_json(experiment / "graph" / "graph.json")
    print(
        f"{graph['words']} words, {graph['states']} states, {graph['arcs']} arcs, loaded in "
        f"{loading['seconds']} s ({loading['processor_seconds']} s of processor time)\n"
    )
    for beam in beams:
        decoder.settings = SearchSettings(beam, max_active, acoustic_scale=scale)
        row = decode(decoder, loglikes, references, join)
        yield row | {"graph": graph, "loading": loading}


class CountingDecoder(Decoder):
    """A decoder that counts the tokens that survive a frame."""

    active = 0

    def _choose(self, cost: np.ndarray) -> tuple[np.ndarray, float]:
        tokens, beam = super()._choose(cost)
        self.active += len(tokens)
        return tokens, beam


def predict(experiment: Path, model: str | None, count: int) -> dict[str, np.ndarray]:
    """Log-likelihoods of the first dev utterances, by id."""
    models = find_models(model or str(experiment))
    scorer = AcousticScorer.read(models.models, models.frames)
    utterances = islice(stored_frames(experiment / "frames" / "dev"), count)
    return {
        u.id: log_likelihoods(scorer.posteriors(u.features), scorer.log_prior) for u in utterances
    }


def decode(
    decoder: CountingDecoder,
    loglikes: dict[str, np.ndarray],
    references: dict[str, list[str]],
    join: Joiner,
) -> bench.Row:
    """Decode with the decoder's beam; returns a row of the table."""
    decoder.active, scale = 0, decoder.settings.acoustic_scale
    frames = sum(map(len, loglikes.values()))
    begin = time.process_time()
    lattices = {name: decoder.lattice(matrix, name) for name, matrix in loglikes.items()}
    seconds = time.process_time() - begin
    words = {name: join(lattice.best(1 / scale)) for name, lattice in lattices.items()}
    return {
        "beam": decoder.settings.beam,
        "real_time": round(seconds / (SHIFT_SECONDS * frames), 3),
        "active": round(decoder.active / frames),
        "cost": round(sum(best_cost(lattice, scale) for lattice in lattices.values()) / frames, 5),
        "wer": round(score(references, words).percent, 2),
        "peak_gib": round(peak_memory() / 2**30, 2),
    }


def best_cost(lattice: Lattice, scale: float) -> float:
    """Cost of the best path, in the units of the search."""
    arcs = lattice.best_arcs([(1 / scale, 0.0)])[0]
    cost = lattice.graph[arcs].sum(dtype=float) + scale * lattice.acoustic[arcs].sum(dtype=float)
    return float(cost + lattice.final[lattice.target[arcs[-1]]]) if len(arcs) else 0.0


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
