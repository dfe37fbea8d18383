"""The figures of a study of word errors, and its table."""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.transfer_set import member_shards
from acoustic_kd.features.copies import original_id
from acoustic_kd.features.frames import read_index
from acoustic_kd.reports.results import differences
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json
from acoustic_kd.system.records import read_done
from acoustic_kd.training.schedule import read_metrics
from study_table import section

if TYPE_CHECKING:
    from study_file import Study
    from wer_study import Row, RowSystem

HEADING = ["", "based on", "frames", "WER of each model", "WER", "points (95 %)", "errors"]
HEADING += ["kept", "minutes"]


def results_of(
    study: "Study",
    rows: Collection["Row"],
    systems: Sequence["RowSystem"],
    chosen: Mapping[str, Utterance],
) -> dict[str, Any]:
    """The contents of study.json, from the measurements and the records of training.

    Args:
        systems: of all rows, measured.
        chosen: the utterances that were decoded, by id.
    """
    systems_of = {row.name: [s for s in systems if s.row == row.name] for row in rows}
    measured = {
        row: [read_json(system.directory / "measurement.json") for system in of_row]
        for row, of_row in systems_of.items()
    }
    speakers = {name: utterance.speaker for name, utterance in chosen.items()}
    first = next(iter(measured.values()))[0]["utterances"]
    results: dict[str, Any] = {
        "title": study.title,
        "seeds": study.seeds,
        "words": sum(words for _, words in first.values()),
        "speakers": len({speakers[name] for name in first}),
        "rows": [],
    }
    for row in rows:
        own = measured[row.name]
        pairs = zip(systems_of[row.name], own, strict=True)
        runs = [_run(system, measurement, speakers) for system, measurement in pairs]
        results["rows"].append(
            {"factor": row.factor, "name": row.name, "based_on": row.based_on}
            | {"kept": row.kept, "note": row.note, "runs": runs}
            | {key: fmean(run[key] for run in runs) for key in ("frame_accuracy", "wer", "seconds")}
            | {"difference": row.based_on and _change(own, measured[row.based_on], speakers)}
        )
    return results


def _run(
    system: "RowSystem", measurement: dict[str, Any], speakers: Mapping[str, str]
) -> dict[str, Any]:
    """The figures of one model, or of an ensemble; training is summed over its models."""
    right, frames = np.sum(list(measurement["frames"]["dev"].values()), axis=0).tolist()
    by_speaker: dict[str, list[int]] = {}
    for name, counts in measurement["utterances"].items():
        old = by_speaker.get(speakers[name], [0, 0])
        by_speaker[speakers[name]] = [a + b for a, b in zip(old, counts, strict=True)]
    models = system.directories
    return {
        "seed": system.seed,
        "frame_accuracy": 100 * right / frames,
        "wer": measurement["wer"]["dev"]["percent"],
        "errors": measurement["wer"]["dev"]["errors"],
        "speakers": {name: by_speaker[name] for name in sorted(by_speaker)},  # errors, words
        "lm_weight": measurement["lm_weight"],
        "penalty": measurement["penalty"],
        "models": len(models),
        "parameters": sum(read_json(path / "model.json")["parameters"] for path in models),
        "seconds": sum(read_done(path)["seconds"] for path in models),
        "frames_seen": sum(
            len(read_metrics(path)) * frames_of_epoch(experiment)
            for path, experiment in system.models
        ),
    }


def frames_of_epoch(experiment: Experiment) -> int:
    """Frames of an epoch, which draws one copy of each utterance; the mean over its copies."""
    lengths: dict[str, list[int]] = {}
    for name, length in read_index(member_shards(experiment)).lengths.items():
        lengths.setdefault(original_id(name), []).append(length)
    return round(sum(map(fmean, lengths.values())))


def _change(
    own: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], speakers: Mapping[str, str]
) -> dict[str, Any]:
    """By how much WER changes from one row to another; a paired bootstrap over all models.

    Returns:
        Change in points with its 95 % interval, in percent of the base's errors, and whether
        `speakers` or `utterances` were drawn.
    """
    names = list(base[0]["utterances"])
    words = {name: counted[1] for name, counted in base[0]["utterances"].items()}
    for measurement in (*own, *base):
        if {name: counted[1] for name, counted in measurement["utterances"].items()} != words:
            raise UserError(
                f"{measurement['name']}: it has other utterances or words than "
                f"{base[0]['name']}; change no setting that chooses the words of dev"
            )
    errors = np.stack(
        [
            np.mean([[m["utterances"][name][0] for name in names] for m in measured], axis=0)
            for measured in (own, base)
        ],
        axis=1,
    )
    totals, units = np.array([words[name] for name in names]), [speakers[name] for name in names]
    found = differences(errors, totals, units, {"change": (0, 1)})
    gain, (low, high) = found["pairs"]["change"]["points"], found["pairs"]["change"]["ci95"]
    before = float(errors[:, 1].sum())
    return {
        "points": 0.0 - gain,  # 0.0 is no change; -0.0 would be written with a sign
        "ci95": [0.0 - high, 0.0 - low],
        "percent": (0.0 - gain) * float(totals.sum()) / before if before else 0.0,
        "drawn": found["drawn"],
    }


def table(results: dict[str, Any], command: str) -> str:
    """The command and one table: a row a change, grouped by factor."""
    rows = results["rows"]
    drawn = next((row["difference"]["drawn"] for row in rows if row["difference"]), "speakers")
    about = (
        f"{results['title']} On {results['words']:,} words of {results['speakers']} speakers of "
        "dev; LM weight and penalty are tuned on them, too. A row changes the first one, or the "
        "one that it is based on; points and errors are relative to it. Frames: frame accuracy in "
        f"percent. Intervals: paired bootstrap over {drawn}. Minutes: training on one core."
    )
    cells = [_cells(row, rows[0]["name"]) for row in rows]
    return section(command, about, HEADING, cells, [row["factor"] for row in rows])


def _cells(row: dict[str, Any], first: str) -> list[str]:
    change, base = row["difference"], row["based_on"]
    kept = ("yes" if row["kept"] else "no") if base else ""
    return [
        row["name"],
        base if base and base != first else "",
        f"{row['frame_accuracy']:.2f}",
        ", ".join(f"{run['wer']:.2f}" for run in row["runs"]),
        f"{row['wer']:.2f}",
        _signed("{:+.2f} ({:+.2f} … {:+.2f})", change["points"], *change["ci95"]) if change else "",
        _signed("{:+.1f} %", change["percent"]) if change else "",
        ": ".join(filter(None, (kept, row["note"]))),
        f"{row['seconds'] / 60:.0f}",
    ]


def _signed(form: str, *values: float) -> str:
    return form.format(*values).replace("-", "−")
