"""The stages that measure: decode, report."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.corpora.manifest import MEASURED, read_manifest
from acoustic_kd.decoding.decode import Decode, decoding
from acoustic_kd.decoding.error_listing import write_alignments
from acoustic_kd.decoding.scoring import grid_of, read_transcripts, score, tune
from acoustic_kd.decoding.search import SearchSettings
from acoustic_kd.ensemble import log_likelihoods
from acoustic_kd.files import digest, only_one, read_json, read_jsonl, write_json, write_text
from acoustic_kd.frame_figures import TEMPERATURES, Example, FrameFigures
from acoustic_kd.frames import Utterance, count_frames, shard_paths
from acoustic_kd.model import count_parameters, load_model
from acoustic_kd.pages.experiment import report_page
from acoustic_kd.parallel import cores, progress, torch_threads
from acoustic_kd.processes import make_accelerator
from acoustic_kd.report import Measurement, System, last_epoch_gain, make_results
from acoustic_kd.report_text import (
    markdown,
    terminal_table,
)
from acoustic_kd.senones import read_inventory
from acoustic_kd.stages.experiment import Experiment, all_settings_json, select
from acoustic_kd.stages.piece_units import Joiner
from acoustic_kd.stages.prepare import normalised
from acoustic_kd.stages.recogniser import Recogniser, frame_targets, systems
from acoustic_kd.stages.training import count_workers
from acoustic_kd.stages.transfer import transfer_frames
from acoustic_kd.work import Work

# Weights × processes of the search: below it one thread of the acoustic model keeps them all busy.
SMALL = 16_000_000

# --- decode -------------------------------------------------------------------------------------


def run_decode(experiment: Experiment) -> None:
    """Measure every system on dev, where the decoding weights are tuned, and on test."""
    inputs = {name: experiment.done(name)["digest"] for name in ("frames", "graph")}
    stage = experiment.stages["decode"]
    due: list[tuple[System, Work]] = []
    for system in experiment.own(systems(experiment)):
        models = {
            f"model {n}": load_model(directory)[1]["digest"]
            for n, directory in enumerate(system.directories, start=1)
        }
        settings = select(experiment.config, stage.settings)
        directory = experiment.path("decode") / system.name
        work = Work(f"decode {system.name}", directory, settings, inputs | models)
        if work.is_current():
            print(f"  {system.name}: current")
        else:
            due.append((system, work))
    if not due:
        return
    limits = SearchSettings.of(experiment.config.decode)
    jobs = experiment.config.decode.jobs or cores()
    with decoding(experiment.path("graph"), limits, jobs) as decode:
        for system, work in due:
            # Runs with shares are at work in the stage's directory together, each on its systems.
            with only_one(work.directory), work.making():
                measure(experiment, system, decode, work.directory)


def measure(experiment: Experiment, system: System, decode: Decode, out: Path) -> None:
    """Frame accuracy and WER of one system, into `out`/measurement.json and readable files."""
    config = experiment.config.decode
    grid = config.lm_weights, config.insertion_penalties
    recogniser, join = Recogniser.of(experiment, system), Joiner.of(experiment.path("graph"))
    weights_in_all = sum(map(count_parameters, recogniser.models))
    weights: tuple[float, float] | None = None
    result = Measurement(system.name, system.kind)
    figures = FrameFigures(read_inventory(experiment.path("senones") / "inventory.json"))
    for split in MEASURED:
        title = f"{system.name} {split}"
        utterances = progress(normalised(experiment, split), title, unit="utt")
        accuracy = FrameAccuracy(
            frame_targets(experiment, split), figures if split == "test" else None
        )
        tried = grid_of(*grid) if weights is None else [weights]
        with threads_beside_search(weights_in_all, config.jobs or cores()):
            decoded = decode(_likelihoods(recogniser, utterances, accuracy), tried)
        texts = {u.id: u.text for u in read_manifest(experiment.path("corpus") / f"{split}.jsonl")}
        references = {name: (texts[name] or "").split() for name in decoded}
        if weights is None:
            found = {name: utterance.words for name, utterance in decoded.items()}
            tuned = tune(found, references, *grid, join)
            weights = result.lm_weight, result.penalty = tuned.lm_weight, tuned.penalty
            for setting in tuned.at_the_edge:
                print(f"  {system.name}: the best on dev is at the edge of {setting}; widen it")
            rows = [[*pair, percent] for pair, percent in tuned.table.items()]
            write_json(out / "dev.tuning.json", rows)
        chosen = tried.index(weights)
        words = {name: join(utterance.words[chosen]) for name, utterance in decoded.items()}
        _write_transcripts(out / f"{split}.txt", words)
        write_alignments(out / f"{split}.alignment.txt", references, words)
        result.add(split, score(references, words), accuracy.frames, decoded.values())
    write_json(out / "frames.json", _frame_figures(system, recogniser, figures))
    write_json(out / "measurement.json", asdict(result))
    test = result.wer["test"]
    print(
        f"  {system.name}: test frame accuracy {result.accuracy('test'):.2f} %, "
        f"WER {test['percent']:.2f} % ({test['errors']} of {test['words']}), "
        f"LM weight {result.lm_weight:g}, penalty {result.penalty:g}, "
        f"search at {result.real_time_factor['test']:.3f} of real time",
        flush=True,
    )


@contextmanager
def threads_beside_search(parameters: int, jobs: int) -> Iterator[None]:
    """Within it a small acoustic model takes one thread, and leaves the other cores to the search.

    Threads that wait for the next product do not give their core away. On two cores they doubled
    the time that decoding with a net of half a million weights takes.

    Args:
        parameters: of all models of the system.
        jobs: processes that search.
    """
    with torch_threads(1) if parameters * jobs < SMALL else nullcontext():
        yield


@dataclass
class FrameAccuracy:
    """Counts the frames that are recognised rightly, while utterances pass by.

    Attributes:
        targets: utterance → senone of every frame, of those that were aligned.
        figures: what else is counted of them; None: nothing.
        frames: utterance → right, all.
    """

    targets: dict[str, np.ndarray]
    figures: FrameFigures | None
    frames: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, utterance: Utterance, probabilities: np.ndarray, seconds: float) -> None:
        """Count an utterance whose posteriors [T, K] took so many seconds."""
        labels = self.targets.get(utterance.id)
        if labels is None:
            return
        right = probabilities.argmax(-1) == labels
        self.frames[utterance.id] = int(right.sum()), len(right)
        if self.figures:
            self.figures.add(utterance.id, utterance.features, probabilities, labels, seconds)


def _likelihoods(
    recogniser: Recogniser, utterances: Iterable[Utterance], accuracy: FrameAccuracy
) -> Iterator[tuple[str, np.ndarray]]:
    """What is decoded; its frame accuracy is taken on the way."""
    for utterance in utterances:
        begun = time.perf_counter()
        probabilities = recogniser.posteriors(utterance.features)
        accuracy.add(utterance, probabilities, time.perf_counter() - begun)
        yield utterance.id, log_likelihoods(probabilities, recogniser.log_prior)


def _frame_figures(system: System, recogniser: Recogniser, figures: FrameFigures) -> dict[str, Any]:
    """The contents of `frames.json`; of the ensemble, some frames at several temperatures too."""

    def predict(example: Example, temperature: float) -> np.ndarray:
        piece = slice(example.frame, example.frame + 1)
        return recogniser.posteriors(example.features, piece, temperature)[0]

    found = figures.as_json()
    if system.kind == "ensemble":
        found["examples"] = figures.shown(predict, TEMPERATURES)
    return found


def _write_transcripts(path: Path, words: dict[str, list[str]]) -> None:
    """One `ID WORD WORD …` a line, as Kaldi's text files."""
    write_text(path, "".join(f"{' '.join([name, *found])}\n" for name, found in words.items()))


# --- report -------------------------------------------------------------------------------------


def run_report(experiment: Experiment) -> None:
    """Put baseline, control, ensemble and distilled model side by side."""
    measurements, transcripts, gains, described = [], {}, {}, {}
    for system in systems(experiment):
        folder = experiment.path("decode") / system.name
        measurements.append(Measurement(**read_json(folder / "measurement.json")))
        transcripts[system.name] = read_transcripts(folder / "test.txt")
        described[system.kind] = [load_model(directory)[1] for directory in system.directories]
        if len(system.directories) == 1:
            gains[system.name] = last_epoch_gain(
                read_jsonl(system.directories[0] / "metrics.jsonl")
            )
    manifest = read_manifest(experiment.path("corpus") / "test.jsonl")
    references = {u.id: (u.text or "").split() for u in manifest if u.id in transcripts["ensemble"]}
    results = make_results(
        experiment.config.corpus.name,
        digest(all_settings_json(experiment.config)),
        measurements,
        references,
        transcripts,
        {kind: sum(one["parameters"] for one in models) for kind, models in described.items()},
        experiment.config.train.members,
        {u.id: u.speaker for u in manifest},
    )
    results["transfer_set"] = transfer_frames(experiment)
    results["last_epoch_gains"] = {n: gain for n, gain in gains.items() if gain is not None}
    results["bfloat16"] = described["baseline"][0]["bfloat16"]
    results["command"] = experiment.command
    results["minutes"] = _minutes(experiment)
    page = report_page(experiment.directory, results)
    write_json(experiment.directory / "results.json", results)
    write_text(experiment.directory / "results.md", markdown(results))
    write_text(experiment.directory / "report.html", page)
    print(terminal_table(results))
    print(f"  in {experiment.directory / 'report.html'}, results.md and results.json beside it")


def _minutes(experiment: Experiment) -> dict[str, float]:
    """How long each stage took, its parts added up where it was done in several goes."""
    learnt = {
        "train": count_frames(shard_paths(experiment.path("frames") / "train")),
        "distill": transfer_frames(experiment)["frames"],
    }
    features = experiment.config.features
    if features.transfer_warps:  # an epoch draws one copy of each utterance
        learnt["distill"] //= len((*features.train_warps, *features.transfer_warps))
    minutes = {}
    accelerator = make_accelerator()
    for name in list(experiment.stages)[:-1]:
        if name == "copies" and not features.transfer_warps:
            continue
        folder = experiment.path(name)
        parts = [read_json(path)["seconds"] for path in sorted(folder.glob("*/done.json"))]
        whole = experiment.done(name)["seconds"]
        # A killed run leaves no seconds, but the speed of each epoch.
        epochs = [row for path in folder.glob("*/metrics.jsonl") for row in read_jsonl(path)]
        epochs = [learnt[name] / max(1, row["frames_per_second"]) for row in epochs]
        workers = count_workers(len(parts), accelerator) if name in learnt and parts else 1
        minutes[name] = round(max(whole, max(sum(parts), sum(epochs)) / workers) / 60, 2)
    return minutes
