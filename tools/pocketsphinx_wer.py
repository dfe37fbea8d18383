#!/usr/bin/env python3
"""What a user would pick instead: pocketsphinx's own English model on an experiment's test set.

usage: tools/pocketsphinx_wer.py EXP

It decodes with the experiment's lexicon and language model; the LM weight is chosen on dev, as for
our systems. Prints one line and writes EXP/pocketsphinx.json, which tools/results.py picks up.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pocketsphinx

from acoustic_kd.alignment.pocketsphinx import SAMPLE_RATE, dictionary_text
from acoustic_kd.audio import read_audio
from acoustic_kd.corpora.manifest import Utterance, read_manifest
from acoustic_kd.decoding.graph import arpa_words
from acoustic_kd.decoding.scoring import Score, score
from acoustic_kd.errors import UserError
from acoustic_kd.files import write_json
from acoustic_kd.lexicon import read_lexicon

LM_WEIGHTS = (5.0, 6.5, 8.0, 10.0, 12.0, 15.0)  # 6.5 is pocketsphinx's default


def decode(exp: Path, utterances: list[Utterance], lm_weight: float) -> tuple[Score, float]:
    """WER on some utterances, and seconds of decoding per second of audio."""
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
    references = {u.id: (u.text or "").split() for u in utterances}
    return score(references, found), spent / audio


def main() -> int:
    """Decode dev at each LM weight, test at the best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, metavar="EXP")
    exp = parser.parse_args().experiment
    try:
        dev, test = (read_manifest(exp / "corpus" / f"{s}.jsonl") for s in ("dev", "test"))
        words = set(arpa_words(exp / "graph" / "lm.arpa"))
        lexicon = read_lexicon(exp / "corpus" / "lexicon.txt").restricted_to(words)
        (exp / "pocketsphinx.dict").write_text(dictionary_text(lexicon), encoding="utf-8")
        weight = min(LM_WEIGHTS, key=lambda weight: decode(exp, dev, weight)[0].errors)
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
