"""Measurements of a tiny test set, with figures that are easy to check by hand."""

import json

import numpy as np

from acoustic_kd.decoding.scoring import score
from acoustic_kd.decoding.workers import DecodingResult
from acoustic_kd.reports.results import Measurement, make_results

REFERENCES = {"u1": list("ABCD"), "u2": list("ABCDEF")}
SPEAKERS = {"u1": "anna", "u2": "ben"}
WORDS = {
    "member-01": {"u1": "ABXD", "u2": "ABC"},  # 1 substitution, 3 deletions
    "member-02": {"u1": "ABCD", "u2": "ABCDEFGG"},  # 2 insertions
    "control": {"u1": "ABC", "u2": "ABCD"},  # 3 deletions
    "ensemble": {"u1": "ABCD", "u2": "ABCDE"},
    "distilled-01": {"u1": "ABC", "u2": "ABCDE"},
}
RIGHT = {  # of 10 and of 20 frames
    "member-01": (6, 10),
    "member-02": (5, 12),
    "control": (7, 11),
    "ensemble": (8, 13),
    "distilled-01": (7, 12),
}
PARAMETERS = {
    "baseline": 1_500_000,
    "control": 700_000,
    "ensemble": 3_000_000,
    "distilled": 700_000,
}


def measurement(name, words, right):
    measured = Measurement(name, name.split("-")[0].replace("member", "baseline"), 9.0, 0.5)
    for split in ("dev", "test"):
        frames = {"u1": (right[0], 10), "u2": (right[1], 20)}
        sizes, none = ((10, True, 0.002), (20, False, 0.001)), np.zeros(0, np.int32)
        decoded = [DecodingResult([], *size, none) for size in sizes]
        measured.add(split, score(REFERENCES, words), frames, decoded)
    return measured


def results_of(words, right):
    transcripts = {n: {u: list(text) for u, text in texts.items()} for n, texts in words.items()}
    measurements = [measurement(name, transcripts[name], right[name]) for name in words]
    # As they come back from measurement.json.
    again = [Measurement(**json.loads(json.dumps(vars(m)))) for m in measurements]
    return make_results("tiny", "digest", again, REFERENCES, transcripts, PARAMETERS, 2, SPEAKERS)
