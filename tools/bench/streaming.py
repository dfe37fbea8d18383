#!/usr/bin/env python3
"""What it costs to recognise speech while it is spoken: word errors, real time, delay.

Word errors with frames normalised over the speaker, over the utterance, over all of train, and by
the moments of what was heard so far, which begin as those of train and count for so many frames;
then those of `Recognizer.stream`, an utterance a stream. The delay is the time from a block's first
sample to its words: the block, the frames that a window looks ahead, and the longest time that a
block of 100 ms took.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import bench
from acoustic_kd.decoding.scoring import Score, score
from acoustic_kd.experiment.outputs import read_split, stored_frames
from acoustic_kd.experiment.stages import DEFAULT_MODEL
from acoustic_kd.experiment.transcriber import Transcriber, moments_of_train
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.features.frame_sequence import FrameSequence
from acoustic_kd.features.normalise import Moments, gather_moments, loudest_levels
from acoustic_kd.runtime.stream import BLOCK_FRAMES, RunningMoments
from acoustic_kd.system.parallel import torch_threads
from acoustic_kd.verbs.bundle import recognised
from acoustic_kd.verbs.decode import references_of, utterances_to_decode

COLUMNS = {
    "way": "normalised over", "wer": "WER, %|.2f", "interval": "95 %",
    "real_time_factor": "× real time|.3f", "delay_ms": "delay at most, ms|.0f",
}  # fmt: skip
RUNNING_FRAMES = (100, 300, 1000)  # that the moments of train count for
Frames = dict[str, np.ndarray]  # utterance → [T, D]


def normalised_frames(
    transcriber: Transcriber, split: str, names: list[str]
) -> Iterator[tuple[str, Frames]]:
    """Ways to normalise, each with the normalised frames."""
    experiment = transcriber.experiment
    speakers = {u.id: u.speaker for u in read_split(experiment, split)}
    everything = {u.id: u.features for u in stored_frames(experiment.path("features") / split)}
    train = moments_of_train(experiment)
    frames = {name: everything[name] for name in names}
    loudest = loudest_levels((speakers[n], f) for n, f in everything.items())
    level = {name: loudest[speakers[name]] for name in everything}

    def over(group: dict[str, str]) -> Frames:
        rows = ((group[n], f, level[n]) for n, f in everything.items())
        moments = gather_moments(rows)
        return {n: moments[group[n]].normalise(f, level[n]) for n, f in frames.items()}

    yield "the speaker", over(speakers)
    yield "the utterance", over({name: name for name in everything})
    yield "train", {n: train.normalise(f, level[n]) for n, f in frames.items()}
    for count in RUNNING_FRAMES:
        yield (
            f"so far, train as {count} frames",
            {name: running(f, train, count) for name, f in frames.items()},
        )


def running(frames: np.ndarray, train: Moments, count: int) -> np.ndarray:
    """Frames as a stream normalises them."""
    moments = RunningMoments(train, count)
    blocks = (frames[first : first + BLOCK_FRAMES] for first in range(0, len(frames), BLOCK_FRAMES))
    return np.concatenate([moments.normalise(block) for block in blocks])


def word_errors(transcriber: Transcriber, frames: Frames, split: str) -> Score:
    """The word errors of normalised frames."""
    utterances = [FrameSequence(name, features, None) for name, features in frames.items()]
    words, _ = recognised(transcriber, transcriber.scorer, split, utterances)
    return score(references_of(transcriber.experiment, split, words), words)


def row(way: str, result: Score) -> bench.Row:
    """The word errors of a way to normalise."""
    low, high = result.ci95
    return {"way": way, "wer": result.percent, "interval": f"{low:.1f} … {high:.1f}"}


def streams(transcriber: Transcriber, split: str, names: list[str]) -> bench.Row:
    """The row of `Recognizer.stream`."""
    experiment, rate = transcriber.experiment, transcriber.features.sample_rate
    transcriber.train_moments = moments_of_train(experiment)
    size = int(BLOCK_FRAMES * SHIFT_SECONDS * rate)
    words, spent, audio, slowest = {}, 0.0, 0.0, 0.0
    for utterance in read_split(experiment, split):
        if utterance.id not in names:
            continue
        samples, heard = read_audio(utterance, rate), transcriber.stream()
        segments = []
        for first in range(0, len(samples), size):
            began = time.perf_counter()
            segments += heard.accept(samples[first : first + size])
            took = time.perf_counter() - began
            slowest, spent = max(slowest, took), spent + took
        began = time.perf_counter()
        segments += heard.final()
        spent += time.perf_counter() - began
        audio += len(samples) / rate
        words[utterance.id] = [word.word for s in segments for word in s.words]
    result = score(references_of(experiment, split, words), words)
    ahead = (transcriber.scorer.window[1] + BLOCK_FRAMES) * SHIFT_SECONDS
    speed = {"real_time_factor": spent / audio, "delay_ms": 1000 * (ahead + slowest)}
    return row("stream()", result) | speed


def measure(
    experiment: Path, *, model: str = DEFAULT_MODEL, split: str = "dev", every: int = 1
) -> Iterator[bench.Row]:
    """Yield a row for each way to normalise, and one for streams."""
    with torch_threads(1):
        transcriber = Transcriber(experiment, model)
        transcriber.speaker_space = None  # streams have no transforms of speakers
        utterances = utterances_to_decode(transcriber.experiment, split)
        names = [u.id for u in utterances][::every]
        for way, frames in normalised_frames(transcriber, split, names):
            yield row(way, word_errors(transcriber, frames, split))
        yield streams(transcriber, split, names)


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
