#!/usr/bin/env python3
"""Speed of log-mel features, in multiples of real time, beside torchaudio and kaldi-native-fbank.

On one core, by processor seconds, the best of several passes over some utterances: reading the
sound files alone; our features at one and at three VTLP warps; torchaudio's in a plain loop;
kaldi-native-fbank's where it is installed; and the largest difference from torchaudio's values.
Then the whole stage on two cores, as the command line runs it: by the clock, and by the processor
seconds of all its processes, which depend less on other work on the machine.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torchaudio.compliance import kaldi

import bench
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.fbank import SHIFT_SECONDS, log_mels
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import count_frames
from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig

PASSES, CORES = 5, 2
WARPS = (0.9, 1.0, 1.1)
CONFIG = FeatureConfig()
COLUMNS = {
    "what": "", "cores": "cores", "processor": "× real time, by processor seconds|,.0f",
    "clock": "by the clock|,.0f", "difference": "difference|.1e",
}  # fmt: skip

Extractor = Callable[[np.ndarray], np.ndarray]


def measure(
    *, corpus: str = "demo", data_dir: str | None = None, utterances: int = 200
) -> Iterator[bench.Row]:
    """Yield a row for each way on one core, then one for the stage on two."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["--exp-dir", name] + (["--data-dir", data_dir] if data_dir else [])
        options += [f"corpus.name={corpus}", "align.unknown_words=exclude"]
        run_stage("corpus", options)
        yield from on_one_core(folder / "corpus" / "train.jsonl", utterances)
        yield whole_stage(options, folder)


def on_one_core(manifest: Path, limit: int) -> Iterator[bench.Row]:
    """Yield the speed of each way on one core, over at most `limit` utterances."""
    utterances = read_manifest(manifest)
    utterances = utterances[:: max(1, len(utterances) // limit)][:limit]
    waveforms = [read_audio(utterance, CONFIG.sample_rate) for utterance in utterances]
    ways: dict[str, Callable[[int], object]] = {
        "reading the sound files": lambda n: read_audio(utterances[n], CONFIG.sample_rate),
        "ours": lambda n: log_mels(waveforms[n], CONFIG, (1.0,))[0],
        "torchaudio": lambda n: torchaudio_fbank(waveforms[n]),
        "ours, 3 warps": lambda n: log_mels(waveforms[n], CONFIG, WARPS),
        "torchaudio, 3 warps": lambda n: [torchaudio_fbank(waveforms[n], w) for w in WARPS],
    }
    if (native := native_fbank()) is not None:
        ways["kaldi-native-fbank"] = lambda n: native(waveforms[n])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(PASSES):  # in turn, so that a busy machine slows all ways alike
        for name, way in ways.items():
            begin = time.process_time()
            for number in range(len(waveforms)):
                way(number)
            times[name].append(time.process_time() - begin)
    seconds = sum(map(len, waveforms)) / CONFIG.sample_rate
    expected = [torchaudio_fbank(waveform) for waveform in waveforms]
    for name, way in ways.items():
        row = {"what": name, "cores": 1, "processor": seconds / min(times[name])}
        if name in ("ours", "kaldi-native-fbank"):
            row["difference"] = max(
                float(np.abs(way(n) - values).max()) for n, values in enumerate(expected)
            )
        yield row


def torchaudio_fbank(samples: np.ndarray, warp: float = 1.0) -> np.ndarray:
    """torchaudio's features, which ours must equal."""
    return kaldi.fbank(
        torch.from_numpy(samples)[None] * 32768,
        num_mel_bins=CONFIG.mel_bins,
        sample_frequency=CONFIG.sample_rate,
        frame_length=1000 * WINDOW_SECONDS,
        frame_shift=1000 * SHIFT_SECONDS,
        low_freq=CONFIG.low_hz,
        high_freq=CONFIG.high_hz,
        dither=0.0,
        vtln_warp=warp,
    ).numpy()


def native_fbank() -> Extractor | None:
    """The features of kaldi-native-fbank, or None where it is not installed."""
    try:
        import kaldi_native_fbank
    except ImportError:
        return None
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = CONFIG.sample_rate
    options.mel_opts.num_bins = CONFIG.mel_bins
    options.mel_opts.low_freq, options.mel_opts.high_freq = CONFIG.low_hz, CONFIG.high_hz

    def extract(samples: np.ndarray) -> np.ndarray:
        fbank = kaldi_native_fbank.OnlineFbank(options)
        fbank.accept_waveform(CONFIG.sample_rate, samples * 32768)
        fbank.input_finished()
        return np.stack([fbank.get_frame(t) for t in range(fbank.num_frames_ready)])

    return extract


def whole_stage(options: list[str], folder: Path) -> bench.Row:
    """The speed of the features stage on two cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    clock, used = run_stage("features", options)
    stores = [path for path in (folder / "features").iterdir() if path.is_dir()]
    seconds = SHIFT_SECONDS * sum(count_frames(shard_paths(store)) for store in stores)
    cores = len(os.sched_getaffinity(0))
    row = {"what": f"the whole stage, {seconds / 3600:.2f} h", "cores": cores}
    return row | {"processor": cores * seconds / used, "clock": seconds / clock}


def run_stage(name: str, options: list[str]) -> tuple[float, float]:
    """Run a stage; returns its seconds by the clock and of the processor."""
    command = [sys.executable, "-m", "acoustic_kd", name, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return end - begin, used


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
