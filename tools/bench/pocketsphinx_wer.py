#!/usr/bin/env python3
"""WER of pocketsphinx's own English model on an experiment's test set, for comparison.

It decodes with the experiment's lexicon and language model, on all cores; the LM weight is chosen
on dev, as for our systems. Prints one line and writes EXP/pocketsphinx.json, which
tools/write_results.py reads.

usage: tools/bench/pocketsphinx_wer.py EXP
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pocketsphinx

from acoustic_kd.alignment.pocketsphinx import dictionary_text
from acoustic_kd.cli import exit_status
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.decoding.graph.compile import arpa_words
from acoustic_kd.decoding.scoring import Score, score
from acoustic_kd.experiment.outputs import graph_lexicon_path
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.features.audio import read_audio
from acoustic_kd.language.lexicon import read_lexicon
from acoustic_kd.settings import POCKETSPHINX_HZ
from acoustic_kd.system.files import write_json
from acoustic_kd.system.parallel import cores, map_ordered
from acoustic_kd.verbs.decode import utterances_to_decode

LM_WEIGHTS = (3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0, 15.0)
DEFAULT_LM_WEIGHT = 6.5  # pocketsphinx's
SCRIPT = "tools/bench/pocketsphinx_wer.py"


def measure(exp: Path) -> None:
    """Choose the LM weight on dev; decode test with it."""
    experiment = open_experiment(exp, "graph")
    dev, test = (utterances_to_decode(experiment, split) for split in ("dev", "test"))
    words = set(arpa_words(exp / "graph" / "lm.arpa"))
    lexicon = read_lexicon(graph_lexicon_path(experiment)).restricted_to(words)
    (exp / "pocketsphinx.dict").write_text(dictionary_text(lexicon), encoding="utf-8")

    @cache
    def dev_errors(weight: float) -> int:
        result, _ = decode(exp, dev, weight)
        print(f"LM weight {weight:g}: {result.percent:.2f} % on dev", flush=True)
        return result.errors

    weight = best_weight(dev_errors)
    result, speed = decode(exp, test, weight)
    write_json(
        exp / "pocketsphinx.json",
        {"wer": asdict(result), "lm_weight": weight, "real_time_factor": speed},
    )
    low, high = result.ci95
    print(
        f"pocketsphinx's en-us model: WER {result.percent:.2f} % ({result.errors} of "
        f"{result.words}, 95 %: {low:.1f} … {high:.1f}), LM weight {weight:g}, "
        f"at {speed:.3f} of real time"
    )


def best_weight(errors: Callable[[float], int]) -> float:
    """The LM weight with the fewest errors, found by descent from the default."""
    best = LM_WEIGHTS.index(DEFAULT_LM_WEIGHT)
    while True:
        near = [n for n in (best, best - 1, best + 1) if 0 <= n < len(LM_WEIGHTS)]
        better = min(near, key=lambda n: errors(LM_WEIGHTS[n]))
        if better == best:
            return LM_WEIGHTS[best]
        best = better


def decode(exp: Path, utterances: list[Utterance], lm_weight: float) -> tuple[Score, float]:
    """WER of utterances, and seconds of decoding per second of audio."""
    shares = [utterances[first :: cores()] for first in range(min(cores(), len(utterances)))]
    work = [(exp, share, lm_weight) for share in shares]
    hypotheses, seconds, audio = {}, 0.0, 0.0
    for words, spent, length in map_ordered(decode_share, work, f"LM weight {lm_weight:g}"):
        hypotheses |= words
        seconds += spent
        audio += length
    return score({u.id: (u.text or "").split() for u in utterances}, hypotheses), seconds / audio


def decode_share(
    work: tuple[Path, list[Utterance], float],
) -> tuple[dict[str, list[str]], float, float]:
    """Decode in a worker process: utterance → words, seconds of search, seconds of audio."""
    exp, utterances, lm_weight = work
    decoder = pocketsphinx.Decoder(
        hmm=pocketsphinx.get_model_path("en-us/en-us"),
        lm=str(exp / "graph" / "lm.arpa"),
        dict=str(exp / "pocketsphinx.dict"),
        lw=lm_weight,
        loglevel="FATAL",
    )
    words, seconds, audio = {}, 0.0, 0.0
    for utterance in utterances:
        samples = read_audio(utterance, POCKETSPHINX_HZ)
        data = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16).tobytes()
        begin = time.perf_counter()
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(data, full_utt=True)
        decoder.end_utt()
        seconds += time.perf_counter() - begin
        audio += len(samples) / POCKETSPHINX_HZ
        hypothesis = decoder.hyp()
        words[utterance.id] = hypothesis.hypstr.split() if hypothesis else []
    return words, seconds, audio


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=SCRIPT, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("experiment", type=Path, metavar="EXP")
    options = parser.parse_args()
    return exit_status(SCRIPT, lambda: measure(options.experiment))


if __name__ == "__main__":
    sys.exit(main())
