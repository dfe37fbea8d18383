"""The decode stage: frame accuracy, search and word error rate of every system."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.corpora.utterances import EVALUATION_SPLITS, Utterance
from acoustic_kd.decoding.error_listing import write_alignments
from acoustic_kd.decoding.scoring import grid_of, score, tune
from acoustic_kd.decoding.search import SearchSettings, log_likelihoods
from acoustic_kd.decoding.workers import DecodeFunction, DecodingResult, Weights, decoder_pool
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import AcousticScorer, System, speaker_space, systems
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.outputs import frame_targets, inventory_of, read_split
from acoustic_kd.features.fmllr import Labelled, SpeakerSpace
from acoustic_kd.features.frame_sequence import FrameSequence
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.reports.frame_figures import TEMPERATURES, Example, FrameFigures
from acoustic_kd.reports.results import Measurement
from acoustic_kd.settings import NEUTRAL, stage_settings
from acoustic_kd.system.files import exclusive_lock, write_json, write_text
from acoustic_kd.system.parallel import cores, progress, torch_threads
from acoustic_kd.system.steps import Step
from acoustic_kd.training.model import read_description
from acoustic_kd.training.networks import count_parameters

# Weights × processes of the search: below this one thread of the acoustic model is fast enough.
MAX_JOBS_PER_CORE = 4
MAX_SINGLE_THREAD_WEIGHTS = 16_000_000

Likelihoods = Iterator[tuple[str, np.ndarray]]  # utterance, [T, K]


def run(experiment: Experiment) -> None:
    """Measure every system on dev, where the decoding weights are tuned, and on test."""
    due: list[tuple[System, Step]] = []
    for system in experiment.share_of(systems(experiment)):
        work = step_of(experiment, system)
        if work.is_current():
            print(f"  {system.name}: up to date")
        else:
            due.append((system, work))
    if not due:
        return
    limits = SearchSettings.of(experiment.config.decode)
    jobs = min(experiment.config.decode.jobs or cores(), MAX_JOBS_PER_CORE * cores())
    with decoder_pool(experiment.path("graph"), limits, jobs) as decode:
        for system, work in due:
            # Runs with shares work in the directory of the stage together, each on its systems.
            with exclusive_lock(work.directory), work.run():
                measure(experiment, system, decode, work.directory)


def step_of(experiment: Experiment, system: System) -> Step:
    """The record of everything that shapes the measurement of a system."""
    inputs = {stage: experiment.done(stage)["digest"] for stage in ("frames", "graph")}
    for number, directory in enumerate((*system.directories, *system.specialists), start=1):
        inputs[f"model {number}"] = read_description(directory, "digest")[1]["digest"]
    directory = experiment.path("decode") / system.name
    settings = stage_settings(experiment.config, "decode")
    return Step(f"decode {system.name}", directory, settings, inputs, neutral=NEUTRAL)


def measure(experiment: Experiment, system: System, decode: DecodeFunction, out: Path) -> None:
    """Frame accuracy and WER of one system, into `out`/measurement.json and readable files."""
    config = experiment.config.decode
    grid = config.lm_weights, config.insertion_penalties
    scorer, join = AcousticScorer.of(experiment, system), Joiner.of(experiment.path("graph"))
    weights: tuple[float, float] | None = None
    result = Measurement(system.name, system.kind)
    figures = FrameFigures(inventory_of(experiment))
    for split in EVALUATION_SPLITS:
        accuracy = FrameAccuracy(
            frame_targets(experiment, split), figures if split == "test" else None
        )
        tried = grid_of(*grid) if weights is None else [weights]
        title = f"{system.name} {split}"
        decoded = decode_split(experiment, split, scorer, decode, tried, accuracy, title)
        references = references_of(experiment, split, decoded)
        if weights is None:
            recognised = {name: result.words for name, result in decoded.items()}
            tuned = tune(recognised, references, *grid, join)
            weights = result.lm_weight, result.penalty = tuned.lm_weight, tuned.penalty
            for setting in tuned.edge_settings:
                print(f"  {system.name}: the best on dev is at the edge of {setting}; widen it")
            rows = [[*pair, percent] for pair, percent in tuned.table.items()]
            write_json(out / "dev.tuning.json", rows)
        chosen = tried.index(weights)
        words = {name: join(result.words[chosen]) for name, result in decoded.items()}
        lines = (f"{' '.join([name, *spoken])}\n" for name, spoken in words.items())
        write_text(out / f"{split}.txt", "".join(lines))  # as Kaldi's text files
        write_alignments(out / f"{split}.alignment.txt", references, words)
        result.add(split, score(references, words), accuracy.frames, decoded.values())
    write_json(out / "frames.json", _frame_figures(system, scorer, figures))
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
    """Give a small acoustic model one thread and leave the other cores to the search.

    Threads that wait for the next product keep their core busy. On two cores they doubled the time
    of decoding with a net of half a million weights.

    Args:
        parameters: of all models of the system.
        jobs: processes that search.
    """
    with torch_threads(1) if parameters * jobs < MAX_SINGLE_THREAD_WEIGHTS else nullcontext():
        yield


@dataclass
class FrameAccuracy:
    """Counts the frames that are classified correctly.

    Attributes:
        targets: utterance → senone of every frame, for aligned utterances.
        figures: further counts of the frames; None: no further counts.
        frames: utterance → number of correct frames, of all frames.
    """

    targets: dict[str, np.ndarray]
    figures: FrameFigures | None
    frames: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, utterance: FrameSequence, probabilities: np.ndarray, seconds: float) -> None:
        """Count an utterance, from its posteriors [T, K] and the seconds that they took."""
        labels = self.targets.get(utterance.id)
        if labels is None:
            return
        right = probabilities.argmax(-1) == labels
        self.frames[utterance.id] = int(right.sum()), len(right)
        if self.figures:
            self.figures.add(utterance.id, utterance.features, probabilities, labels, seconds)


def utterances_to_decode(experiment: Experiment, split: str) -> list[Utterance]:
    """The utterances of a split: of dev those of `decode.dev_share`."""
    utterances = read_split(experiment, split)
    if split != "dev" or (share := experiment.config.decode.dev_share) == 1:
        return utterances
    chosen, seen = [], Counter[str]()
    for utterance in utterances:
        before = seen[utterance.speaker]
        seen[utterance.speaker] += 1
        if math.ceil((before + 1) * share) > math.ceil(before * share):  # the first one always
            chosen.append(utterance)
    return chosen


def references_of(
    experiment: Experiment, split: str, decoded: Iterable[str]
) -> dict[str, list[str]]:
    """Utterance → the words of its transcript, for the utterances that were decoded."""
    texts = {u.id: u.text for u in read_split(experiment, split)}
    return {name: (texts[name] or "").split() for name in decoded}


def decode_split(
    experiment: Experiment,
    split: str,
    scorer: AcousticScorer,
    decode: DecodeFunction,
    weights: Weights,
    accuracy: FrameAccuracy,
    title: str,
) -> dict[str, DecodingResult]:
    """Decode a split with each pair of weights: in two passes if speakers have transforms.

    Args:
        accuracy: counts the frames, of the second pass if there is one.
        title: of the progress bar.
    """
    config, space = experiment.config.decode, speaker_space(experiment)
    speakers = {u.id: u.speaker for u in utterances_to_decode(experiment, split)}
    chosen = (u for u in normalised(experiment, split) if u.id in speakers)
    parameters = sum(map(count_parameters, scorer.models))
    seconds = defaultdict[str, float](float)
    with threads_beside_search(parameters, config.jobs or cores()):
        if space is None:
            shown = progress(chosen, title, len(speakers), unit="utt")
            return decode(_likelihoods(scorer, shown, seconds, accuracy), weights)
        utterances = list(chosen)
        shown = progress(utterances, f"{title}, first pass", unit="utt")
        first = decode(_likelihoods(scorer, shown, seconds), weights[:1], config.first_beam)
        second = transformed(space, utterances, speakers, first)
        shown = progress(second, title, len(utterances), unit="utt")
        decoded = decode(_likelihoods(scorer, shown, seconds, accuracy), weights)
    return {n: replace(r, seconds=r.seconds + first[n].seconds) for n, r in decoded.items()}


def transformed(
    space: SpeakerSpace,
    utterances: Sequence[FrameSequence],
    speakers: Mapping[str, str],
    decoded: Mapping[str, DecodingResult],
) -> Iterator[FrameSequence]:
    """The utterances with transforms of their speakers; prints which speakers get none.

    Args:
        speakers: utterance → speaker.
        decoded: the utterances' results of a first decoding.
    """
    known = (
        Labelled(speakers[u.id], u.features[: len(result.senones)], result.senones)
        for u in utterances
        if any((result := decoded[u.id]).words[0])
    )
    transforms = space.transforms(known)
    for speaker in dict.fromkeys(speakers[u.id] for u in utterances):
        if speaker not in transforms:
            print(
                f"  speaker {speaker} has no words in the first decoding; the speaker's frames "
                "get no transform",
                flush=True,
            )
    for u in utterances:
        transform = transforms.get(speakers[u.id])
        yield u if transform is None else replace(u, features=transform(u.features))


def _likelihoods(
    scorer: AcousticScorer,
    utterances: Iterable[FrameSequence],
    seconds: defaultdict[str, float],
    accuracy: FrameAccuracy | None = None,
) -> Likelihoods:
    """Log-likelihoods of each utterance.

    Args:
        seconds: utterance → seconds; those of the posteriors are added.
        accuracy: counts the frames.
    """
    for utterance in utterances:
        begun = time.perf_counter()
        probabilities = scorer.posteriors(utterance.features)
        seconds[utterance.id] += time.perf_counter() - begun
        if accuracy is not None:
            accuracy.add(utterance, probabilities, seconds[utterance.id])
        yield utterance.id, log_likelihoods(probabilities, scorer.log_prior)


def _frame_figures(system: System, scorer: AcousticScorer, figures: FrameFigures) -> dict[str, Any]:
    """The contents of `frames.json`; for the ensemble also frames at several temperatures."""

    def predict(example: Example, temperature: float) -> np.ndarray:
        left, right = scorer.window
        first = max(0, example.frame - left)
        around = example.features[first : example.frame + right + 1]
        row: np.ndarray = scorer.posteriors(around, temperature)[example.frame - first]
        return row

    contents = figures.as_json()
    if system.kind == "ensemble":
        contents["examples"] = figures.example_predictions(predict, TEMPERATURES)
    return contents
