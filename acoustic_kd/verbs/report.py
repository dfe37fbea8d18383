"""The report stage: results.json, the table and report.html."""

from contextlib import closing
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from acoustic_kd.corpora.overlap import shared_speakers
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.scoring import read_transcripts
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.model_training import count_workers
from acoustic_kd.experiment.models import member_directories, systems, tracked_run
from acoustic_kd.experiment.outputs import read_split
from acoustic_kd.experiment.transfer_set import all_splits, copies_of_utterance, transfer_frames
from acoustic_kd.experiment.words import normaliser
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import count_frames
from acoustic_kd.language.text import TextFile
from acoustic_kd.reports.pages import report_page
from acoustic_kd.reports.results import GAINS, count_new_words, last_epoch_gain, make_results
from acoustic_kd.reports.stored import read_frame_figures, read_measurement
from acoustic_kd.reports.tables import markdown, terminal_table
from acoustic_kd.settings import shaping_settings
from acoustic_kd.system.files import json_sha256, write_json, write_text
from acoustic_kd.system.records import read_done
from acoustic_kd.training.model import read_description
from acoustic_kd.training.networks import describe
from acoustic_kd.training.processes import make_accelerator
from acoustic_kd.training.schedule import read_metrics
from acoustic_kd.training.tracking import RUN_ID, Tracker


def run(experiment: Experiment) -> None:
    """Put baseline, control, ensemble and distilled model side by side."""
    measurements, transcripts, gains = [], {}, {}
    networks: dict[str, list[str]] = {}
    sizes: dict[str, list[int]] = {}
    speeds: dict[str, list[float]] = {}
    for system in systems(experiment):
        folder = experiment.path("decode") / system.name
        measurements.append(read_measurement(folder))
        transcripts[system.name] = read_transcripts(folder / "test.txt")
        read = [
            read_description(path, "parameters", "bfloat16")
            for path in (*system.directories, *system.specialists)
        ]
        networks.setdefault(system.kind, []).extend(describe(config) for config, _ in read)
        sizes.setdefault(system.kind, []).append(sum(d["parameters"] for _, d in read))
        figures = read_frame_figures(folder / "frames.json")
        speeds.setdefault(system.kind, []).append(figures["real_time_factor"])
        if len(system.directories) == 1:
            gains[system.name] = last_epoch_gain(read_metrics(system.directories[0]))
    manifest = read_manifest(experiment.path("corpus") / "test.jsonl")
    references = {u.id: (u.text or "").split() for u in manifest if u.id in transcripts["ensemble"]}
    config = experiment.config
    results = make_results(
        config.corpus.name,
        json_sha256(shaping_settings(config)),
        measurements,
        references,
        transcripts,
        {kind: round(fmean(of_kind)) for kind, of_kind in sizes.items()},
        config.train.members,
        {u.id: u.speaker for u in manifest},
    )
    for row in results["systems"]:
        row["network"] = ", ".join(dict.fromkeys(networks[row["name"]]))
        row["network_real_time_factor"] = fmean(speeds[row["name"]])
    unseen = unseen_words(experiment, {word for words in references.values() for word in words})
    if unseen is not None:
        results["new_words"] = count_new_words(references, transcripts, unseen)
    splits = {split: read_split(experiment, split) for split in all_splits(experiment)}
    results["shared_speakers"] = shared_speakers(splits)
    results["transfer_set"] = transfer_frames(experiment)
    results["last_epoch_gains"] = {n: gain for n, gain in gains.items() if gain is not None}
    results["bfloat16"] = read_description(member_directories(experiment)[0])[1]["bfloat16"]
    results["command"] = experiment.command
    results["minutes"] = _minutes(experiment)
    page = report_page([experiment.directory], results)
    write_json(experiment.directory / "results.json", results)
    write_text(experiment.directory / "results.md", markdown(results))
    write_text(experiment.directory / "report.html", page)
    print(terminal_table(results))
    print(f"  in {experiment.directory / 'report.html'}, results.md and results.json beside it")
    summary = tracked_run(experiment, "report")
    with closing(Tracker(config.train.tracker, summary, summary.folder / RUN_ID)) as tracker:
        tracker.log(_figures(results))
        tracker.add_report(experiment.directory / "report.html", markdown(results))


def _figures(results: dict[str, Any]) -> dict[str, float]:
    """The figures that a tracker shows: accuracy and WER in percent, shares of the gain."""
    figures = {}
    for system, split in product(results["systems"], ("dev", "test")):
        figures[f"{system['name']}/wer_{split}"] = system["wer"][split]["percent"]
        figures[f"{system['name']}/accuracy_{split}"] = system["frame_accuracy"][split]
    for key in GAINS.values():
        figures |= {f"{key}/{what}": share for what, share in results.get(key, {}).items()}
    return {name: value for name, value in figures.items() if value is not None}


def unseen_words(experiment: Experiment, words: set[str]) -> set[str] | None:
    """Those words that neither the train transcripts nor `lm.text` have.

    None if they cannot be told: with `lm.arpa`, or if the text was deleted since.
    """
    lm, unseen = experiment.config.lm, set(words)
    if lm.arpa is not None or (lm.text is not None and not Path(lm.text).is_file()):
        return None
    for utterance in read_manifest(experiment.path("corpus") / "train.jsonl"):
        unseen.difference_update((utterance.text or "").split())
    if lm.text is not None and unseen:
        for sentence in TextFile(Path(lm.text), "lm.text", normaliser(experiment.config)):
            unseen.difference_update(sentence)
            if not unseen:
                break
    return unseen


def _minutes(experiment: Experiment) -> dict[str, float]:
    """Stage → minutes; the sum over its parts if it ran in several parts."""
    epoch_frames = {
        "train": count_frames(shard_paths(experiment.path("frames") / "train")),
        "distill": transfer_frames(experiment)["frames"],
    }
    # An epoch draws one copy of each utterance.
    epoch_frames["distill"] //= copies_of_utterance(experiment.config)
    minutes = {}
    accelerator = make_accelerator()
    for name in list(experiment.stages)[:-1]:
        if name == "copies" and not experiment.config.features.has_copies:
            continue
        folder = experiment.path(name)
        parts = [(read_done(path.parent) or {}).get("seconds", 0.0)
                 for path in sorted(folder.rglob("*/done.json"))]  # fmt: skip
        whole = experiment.done(name).get("seconds", 0.0)
        # A killed run leaves no record of seconds, only the speed of each epoch.
        rows = [row for path in folder.rglob("metrics.jsonl") for row in read_metrics(path.parent)]
        epochs = [epoch_frames[name] / max(1, row["frames_per_second"]) for row in rows]
        workers = count_workers(len(parts), accelerator) if name in epoch_frames and parts else 1
        minutes[name] = round(max(whole, max(sum(parts), sum(epochs)) / workers) / 60, 2)
    return minutes
