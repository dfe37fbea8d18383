#!/usr/bin/env python3
"""What a user would pick instead: pocketsphinx's own English model on an experiment's test set.

usage: tools/bench/pocketsphinx_wer.py EXP

It decodes with the experiment's lexicon and language model, on all cores; the LM weight is chosen
on dev, as for our systems. Prints one line and writes EXP/pocketsphinx.json, which
tools/write_results.py reads.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pocketsphinx

from acoustic_kd.alignment.pocketsphinx import SAMPLE_RATE, dictionary_text
from acoustic_kd.corpora.utterances import Utterance, read_manifest
from acoustic_kd.decoding.graph.compile import arpa_words
from acoustic_kd.decoding.scoring import Score, score
from acoustic_kd.experiment.outputs import graph_lexicon
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.features.audio import read_audio
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_json
from acoustic_kd.system.parallel import cores, map_ordered

LM_WEIGHTS = (3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0, 15.0)
FIRST = 6.5  # pocketsphinx's default

Work = tuple[Path, list[Utterance], float]
Found = tuple[dict[str, list[str]], float, float]  # words, seconds of search, seconds of audio


def decode_some(work: Work) -> Found:
    """Decode some utterances at an LM weight."""
    exp, utterances, lm_weight = work
    decoder = pocketsphinx.Decoder(
        hmm=pocketsphinx.get_model_path("en-us/en-us"),
        lm=str(exp / "graph" / "lm.arpa"),
        dict=str(exp / "pocketsphinx.dict"),
        lw=lm_weight,
        loglevel="FATAL",
    )
    found, spent, audio = {}, 0.0, 0.0
    for utterance in utterances:
        samples = read_audio(utterance, SAMPLE_RATE)
        data = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16).tobytes()
        began = time.perf_counter()
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(data, full_utt=True)
        decoder.end_utt()
        spent += time.perf_counter() - began
        audio += len(samples) / SAMPLE_RATE
        hypothesis = decoder.hyp()
        found[utterance.id] = hypothesis.hypstr.split() if hypothesis else []
    return found, spent, audio


def decode(exp: Path, utterances: list[Utterance], lm_weight: float) -> tuple[Score, float]:
    """WER on some utterances, and seconds of decoding per second of audio."""
    shares = [utterances[first :: cores()] for first in range(min(cores(), len(utterances)))]
    work = [(exp, share, lm_weight) for share in shares]
    hypotheses, spent, audio = {}, 0.0, 0.0
    for found, seconds, length in map_ordered(decode_some, work, f"LM weight {lm_weight:g}"):
        hypotheses |= found
        spent += seconds
        audio += length
    return score({u.id: (u.text or "").split() for u in utterances}, hypotheses), spent / audio


def descend(errors: Callable[[float], int]) -> float:
    """The LM weight with the least errors, from the default on as long as they get fewer."""
    known: dict[float, int] = {}

    def of(place: int) -> int:
        weight = LM_WEIGHTS[place]
        if weight not in known:
            known[weight] = errors(weight)
        return known[weight]

    best = LM_WEIGHTS.index(FIRST)
    while True:
        around = [p for p in (best, best - 1, best + 1) if 0 <= p < len(LM_WEIGHTS)]
        better = min(around, key=of)
        if better == best:
            return LM_WEIGHTS[best]
        best = better


def main() -> int:
    """Decode dev at some LM weights, test at the best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, metavar="EXP")
    exp = parser.parse_args().experiment
    try:
        dev, test = (read_manifest(exp / "corpus" / f"{s}.jsonl") for s in ("dev", "test"))
        words = set(arpa_words(exp / "graph" / "lm.arpa"))
        lexicon = graph_lexicon(open_experiment(exp, "graph")).restricted_to(words)
        (exp / "pocketsphinx.dict").write_text(dictionary_text(lexicon), encoding="utf-8")

        def errors(weight: float) -> int:
            found = decode(exp, dev, weight)[0]
            print(f"LM weight {weight:g}: {found.percent:.2f} % on dev", flush=True)
            return found.errors

        weight = descend(errors)
        result, speed = decode(exp, test, weight)
    except UserError as error:
        print(f"pocketsphinx_wer: error: {error}", file=sys.stderr)
        return 2
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
