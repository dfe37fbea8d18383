"""The pooled results of several folds (`corpus.folds`)."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.scoring import read_transcripts, score
from acoustic_kd.reports.experiment_files import verify_experiment
from acoustic_kd.reports.results import Measurement, make_results
from acoustic_kd.reports.stored import read_measurement, read_results
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import json_sha256

COUNTS = ("errors", "words", "substitutions", "insertions", "deletions")


def pool_folds(experiments: list[Path]) -> dict[str, Any]:
    """The contents of a `results.json` over the test utterances of all folds together.

    A member of one fold and that of the same number in another count as one member, tested on all.
    """
    if len(experiments) < 2:
        raise UserError("folds: give the directories of two experiments or more")
    for folder in experiments:
        verify_experiment(folder)
    results = [read_results(folder) for folder in experiments]
    names = [model["name"] for model in results[0]["each_model"]]
    speakers: dict[str, str] = {}
    references: dict[str, list[str]] = {}
    transcripts: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    parts: dict[str, list[Measurement]] = {name: [] for name in names}
    for folder, result in zip(experiments, results, strict=True):
        if [model["name"] for model in result["each_model"]] != names:
            raise UserError(
                f"{folder}: its systems differ from those of {experiments[0]}; give folds of one "
                "recipe"
            )
        for name in names:
            place = folder / "decode" / name
            parts[name].append(read_measurement(place))
            transcripts[name] |= read_transcripts(place / "test.txt")
        for utterance in read_manifest(folder / "corpus" / "test.jsonl"):
            if utterance.id in speakers:
                raise UserError(
                    f"{folder}: test utterance '{utterance.id}' belongs to another fold, too; give "
                    "each fold once, made with the same corpus.folds and corpus.seed"
                )
            speakers[utterance.id] = utterance.speaker
            if utterance.id in transcripts["ensemble"]:
                references[utterance.id] = (utterance.text or "").split()
    measurements = [_pooled(folds, references, transcripts[name]) for name, folds in parts.items()]
    systems = {system["name"]: system for system in results[0]["systems"]}
    pooled = make_results(
        results[0]["corpus"],
        json_sha256([result["config_digest"] for result in results]),
        measurements,
        references,
        transcripts,
        {name: system["parameters"] for name, system in systems.items()},
        systems["ensemble"]["members"],
        speakers,
    )
    minutes = Counter[str]()
    for result in results:
        minutes.update(result.get("minutes", {}))
    commands = [result["command"] for result in results if "command" in result]
    return pooled | {
        "folds": len(experiments),
        "minutes": {stage: round(took, 2) for stage, took in minutes.items()},
        "command": "\n".join([*commands, "acoustic-kd folds EXP … --out DIR"]),
    }


def _pooled(
    parts: list[Measurement], references: dict[str, list[str]], transcripts: dict[str, list[str]]
) -> Measurement:
    """One system's measurements on several folds, pooled as if of one test set.

    The tuned weights and the speed of the search are means; dev words count once for each fold.
    """
    weight, penalty = np.mean([(part.lm_weight, part.penalty) for part in parts], axis=0).tolist()
    measurement = Measurement(parts[0].name, parts[0].kind, weight, penalty)
    for split in parts[0].frames:
        # A dev utterance may be in several folds, each time of another model.
        measurement.frames[split] = {
            name if split == "test" else f"{number} {name}": counts
            for number, part in enumerate(parts)
            for name, counts in part.frames[split].items()
        }
        speeds = [part.real_time_factor[split] for part in parts]
        measurement.real_time_factor[split] = float(np.mean(speeds))
        measurement.unfinished[split] = sum(part.unfinished[split] for part in parts)
    counts = {key: sum(part.wer["dev"][key] for part in parts) for key in COUNTS}
    measurement.wer["dev"] = {"percent": 100 * counts["errors"] / counts["words"], **counts}
    measurement.wer["test"] = asdict(score(references, transcripts))
    return measurement
