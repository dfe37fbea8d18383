#!/usr/bin/env python3
"""How many times faster than real time log-mel features are made of a corpus.

On one core, by processor seconds, the best of several rounds over some utterances: reading the
sound files alone; our features at one warp and at three; torchaudio's in a plain loop, and
kaldi-native-fbank's where it is installed, with the largest difference from torchaudio's values.
Then the whole stage on two cores, as the command line runs it: by the clock, and by the processor
seconds of all its processes, which other work on the machine stretches less.

usage: tools/bench/features.py [--corpus demo] [--data-dir DIR] [--utterances 200] [--json FILE]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tables import Table
from torchaudio.compliance import kaldi

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.fbank import SHIFT_SECONDS, log_mels
from acoustic_kd.features.frames import count_frames, shard_paths
from acoustic_kd.settings import WINDOW_SECONDS, FeatureConfig

ROUNDS, CORES = 5, 2
WARPS = (0.9, 1.0, 1.1)
CONFIG = FeatureConfig()
COLUMNS = {
    "what": "|", "cores": "cores|", "processor": "× real time, by processor seconds|,.0f",
    "clock": "by the clock|,.0f", "difference": "difference|.1e",
}  # fmt: skip


def torchaudio(samples: np.ndarray, warp: float = 1.0) -> np.ndarray:
    """What our own features must equal."""
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


def native() -> Callable[[np.ndarray], np.ndarray] | None:
    """kaldi-native-fbank, or None where it is not installed."""
    try:
        import kaldi_native_fbank
    except ImportError:
        return None
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = CONFIG.sample_rate
    options.mel_opts.num_bins = CONFIG.mel_bins
    options.mel_opts.low_freq, options.mel_opts.high_freq = CONFIG.low_hz, CONFIG.high_hz

    def features(samples: np.ndarray) -> np.ndarray:
        found = kaldi_native_fbank.OnlineFbank(options)
        found.accept_waveform(CONFIG.sample_rate, samples * 32768)
        found.input_finished()
        return np.stack([found.get_frame(t) for t in range(found.num_frames_ready)])

    return features


def one_core(manifest: Path, most: int) -> list[dict]:
    """Each way's speed on one core."""
    utterances = read_manifest(manifest)
    utterances = utterances[:: max(1, len(utterances) // most)][:most]
    waveforms = [read_audio(utterance, CONFIG.sample_rate) for utterance in utterances]
    seconds = sum(map(len, waveforms)) / CONFIG.sample_rate
    ways: dict[str, Callable[[int], object]] = {
        "reading the sound files": lambda n: read_audio(utterances[n], CONFIG.sample_rate),
        "ours": lambda n: log_mels(waveforms[n], CONFIG, (1.0,))[0],
        "torchaudio": lambda n: torchaudio(waveforms[n]),
        "ours, 3 warps": lambda n: log_mels(waveforms[n], CONFIG, WARPS),
        "torchaudio, 3 warps": lambda n: [torchaudio(waveforms[n], warp) for warp in WARPS],
    }
    if (other := native()) is not None:
        ways["kaldi-native-fbank"] = lambda n: other(waveforms[n])
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.process_time()
            for number in range(len(waveforms)):
                way(number)
            times[name].append(time.process_time() - begun)
    expected = [torchaudio(waveform) for waveform in waveforms]
    rows = []
    for name, way in ways.items():
        row = {"what": name, "cores": 1, "processor": seconds / min(times[name])}
        if name in ("ours", "kaldi-native-fbank"):
            pairs = zip(map(way, range(len(waveforms))), expected, strict=True)
            row["difference"] = float(max(np.abs(one - two).max() for one, two in pairs))
        rows.append(row)
    return rows


def stage(name: str, options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Run a stage; returns seconds by the clock, and of the processor."""
    command = [sys.executable, "-m", "acoustic_kd", name, "--exp-dir", str(folder)]
    command += ["--data-dir", options.data_dir] if options.data_dir else []
    command += [f"corpus.name={options.corpus}", "align.unknown_words=exclude"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return ended - begun, used


def whole(options: argparse.Namespace, folder: Path) -> dict:
    """The stage's speed on two cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    clock, used = stage("features", options, folder)
    stores = [path for path in (folder / "features").iterdir() if path.is_dir()]
    frames = sum(count_frames(shard_paths(store)) for store in stores)
    seconds = frames * SHIFT_SECONDS
    cores = len(os.sched_getaffinity(0))
    row = {"what": f"the whole stage, {seconds / 3600:.2f} h", "cores": cores}
    return row | {"processor": cores * seconds / used, "clock": seconds / clock}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--data-dir")
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage("corpus", options, folder)
        rows = one_core(folder / "corpus" / "train.jsonl", options.utterances)
        rows.append(whole(options, folder))
    with Table(COLUMNS, options.json) as table:
        for row in rows:
            table.add(row)


if __name__ == "__main__":
    main()
