#!/usr/bin/env python3
"""Word errors of `acoustic-kd transcribe` on recordings with silence put into them.

Takes every nth recording of the test split of a finished experiment as it is; with digital zeros
at its beginning, in its middle (which parts a word in two) and at its end; with a constant value;
and with noise of one step of 16 bits.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import kaldialign
import numpy as np
import soundfile

import bench
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.transcriber import Transcriber

COLUMNS = {
    "what": "", "seconds": "seconds|.2f", "wer": "WER, %|.2f", "errors": "errors", "words": "words",
}  # fmt: skip
PLACES = {"beginning": 0.0, "middle": 0.5, "end": 1.0}
SECONDS = (0.05, 0.25, 1.0, 3.0)
CONSTANT = 0.03


def measure(experiment: Path, *, model: str = "members/01", every: int = 8) -> Iterator[bench.Row]:
    """Yield a row for the recordings as they are, and for each silence at each place."""
    transcriber = Transcriber(experiment, model)
    rng = np.random.default_rng(0)
    recordings = [
        (*soundfile.read(utterance.audio, dtype="float32"), (utterance.text or "").split())
        for utterance in read_manifest(experiment / "corpus" / "test.jsonl")[::every]
    ]
    conditions = [("as they are", "end", 0.0)]
    conditions += [("zeros", place, seconds) for place in PLACES for seconds in SECONDS]
    conditions += [("constant value", place, 0.25) for place in PLACES]
    conditions += [
        ("noise of one step", place, s) for place in ("beginning", "end") for s in SECONDS
    ]
    for kind, place, seconds in conditions:
        errors = words = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "recording.wav")
            for samples, rate, reference in recordings:
                silence = np.zeros(int(seconds * rate), np.float32)
                if kind == "constant value":
                    silence += CONSTANT
                if kind == "noise of one step":
                    silence += rng.integers(-1, 2, len(silence)) / np.float32(32768)
                at = int(PLACES[place] * len(samples))
                soundfile.write(path, np.concatenate([samples[:at], silence, samples[at:]]), rate)
                found = transcriber.words(path)
                errors += kaldialign.edit_distance(reference, found)["total"]
                words += len(reference)
        what = kind if not seconds else f"{kind}, {place}"
        yield {
            "what": what, "seconds": seconds, "wer": 100 * errors / words,
            "errors": errors, "words": words,
        }  # fmt: skip


if __name__ == "__main__":
    bench.main(measure, COLUMNS)
