"""Measurements of single systems → the comparison: baseline, ensemble, distilled.

The baseline is any one member: its figures are means over all members. Every interval is a 95 %
bootstrap over the test utterances, drawn alike for all systems, so that what an easy or a hard
utterance does to all of them cancels in a comparison.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.comparison import (
    PAIRS,
    by_speaker,
    difference_table,
    differences,
    markdown_table,
    speaker_table,
)
from acoustic_kd.decoding.decode import Decoded
from acoustic_kd.decoding.scoring import (
    Score,
    error_counts,
    pooled,
    probability_better,
    replicate,
)
from acoustic_kd.features import SHIFT_SECONDS

KINDS = ("baseline", "ensemble", "distilled")


@dataclass(frozen=True)
class System:
    """One model, or an ensemble of them.

    Attributes:
        kind: baseline, ensemble or distilled.
        directories: of the models whose predictions are averaged.
    """

    name: str
    kind: str
    directories: tuple[Path, ...]


@dataclass
class Measurement:
    """What was measured of one system; every dictionary is keyed by split.

    Attributes:
        lm_weight, penalty: chosen on dev.
        frames: utterance → [frames classified right, frames].
        wer: the score's fields.
        real_time_factor: seconds of search per second of audio, on one core.
        unfinished: utterances whose search reached no final state.
    """

    name: str
    kind: str
    lm_weight: float = 0.0
    penalty: float = 0.0
    frames: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    wer: dict[str, dict[str, Any]] = field(default_factory=dict)
    real_time_factor: dict[str, float] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        split: str,
        score: Score,
        frames: dict[str, tuple[int, int]],
        decoded: Iterable[Decoded],
    ) -> None:
        """Record the figures of one split."""
        decoded = list(decoded)
        audio = SHIFT_SECONDS * sum(utterance.num_frames for utterance in decoded)
        self.wer[split] = asdict(score)
        self.frames[split] = {name: list(counts) for name, counts in frames.items()}
        self.real_time_factor[split] = sum(utterance.seconds for utterance in decoded) / audio
        self.unfinished[split] = sum(not utterance.reached_final for utterance in decoded)

    def accuracy(self, split: str) -> float:
        """Frame accuracy in percent."""
        right, total = np.array(list(self.frames[split].values())).sum(0)
        return float(100 * right / total)


def make_results(
    corpus: str,
    config_digest: str,
    measurements: list[Measurement],
    references: Mapping[str, list[str]],
    transcripts: Mapping[str, Mapping[str, list[str]]],
    parameters: int,
    members: int,
    speakers: Mapping[str, str],
) -> dict[str, Any]:
    """The contents of `results.json` (docs/results.md).

    Args:
        references: test utterance → words.
        transcripts: system → test utterance → recognised words.
        parameters: weights and biases of one model.
        members: M.
        speakers: test utterance → speaker.
    """
    groups = {kind: [m for m in measurements if m.kind == kind] for kind in KINDS}
    counts = {
        kind: np.sum([error_counts(references, transcripts[m.name]) for m in group], axis=0)
        for kind, group in groups.items()
    }
    systems = []
    for kind, group in groups.items():
        accuracy = {split: [m.accuracy(split) for m in group] for split in ("dev", "test")}
        dev = [m.wer["dev"] for m in group]
        systems.append(
            {
                "name": kind,
                "models": len(group),
                "members": members if kind == "ensemble" else 1,
                "parameters": parameters * (members if kind == "ensemble" else 1),
                "frame_accuracy": {
                    "dev": float(np.mean(accuracy["dev"])),
                    "test": float(np.mean(accuracy["test"])),
                    "sd": _deviation(accuracy["test"]),
                },
                "wer": {
                    "dev": {"percent": float(np.mean([w["percent"] for w in dev]))},
                    "test": asdict(pooled(counts[kind]))
                    | {"sd": _deviation([m.wer["test"]["percent"] for m in group])},
                },
                "real_time_factor": float(np.mean([m.real_time_factor["test"] for m in group])),
            }
        )
    gains, intervals, differ = {}, {}, {}
    by_utterance = _errors_by_utterance(groups, counts)
    named = {"frame_accuracy": list(groups["ensemble"][0].frames["test"]), "wer": list(references)}
    for what, (errors, totals) in by_utterance.items():
        differ[what] = differences(errors, totals, [speakers[name] for name in named[what]])
        gains[what] = _share(100 * errors.sum(0) / totals.sum())
        shares = [_share(rates) for rates in replicate(errors, totals)]
        usable = [share for share in shares if share is not None]
        if gains[what] is not None and len(usable) > 0.95 * len(shares):
            intervals[what] = np.percentile(usable, [2.5, 97.5]).tolist()
        else:
            intervals[what] = None  # the ensemble's gain itself is not told from nothing
    return {
        "corpus": corpus,
        "config_digest": config_digest,
        "systems": systems,
        "gain_kept": gains,
        "gain_kept_ci95": intervals,
        "differences": differ,
        "probability_better": _probabilities(by_utterance),
        "speakers": by_speaker(
            counts,
            {
                kind: {
                    name: np.sum([m.frames["test"][name] for m in group], axis=0)
                    for name in named["frame_accuracy"]
                }
                for kind, group in groups.items()
            },
            {kind: len(group) for kind, group in groups.items()},
            named["wer"],
            speakers,
        ),
        "each_model": [
            {
                "name": m.name,
                "frame_accuracy": {split: m.accuracy(split) for split in ("dev", "test")},
                "wer": m.wer,
                "lm_weight": m.lm_weight,
                "insertion_penalty": m.penalty,
                "real_time_factor": m.real_time_factor["test"],
                "unfinished": m.unfinished,
            }
            for m in measurements
        ],
    }


def _deviation(values: list[float]) -> float | None:
    """Standard deviation over models, or None for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _errors_by_utterance(
    groups: dict[str, list[Measurement]], counts: dict[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean errors of each kind of system, [U, 3], and what they are counted in, [U]."""
    names = list(groups["ensemble"][0].frames["test"])
    frames = {
        kind: np.mean([[m.frames["test"][n] for n in names] for m in group], axis=0)
        for kind, group in groups.items()
    }
    return {
        "frame_accuracy": (
            np.stack([frames[kind][:, 1] - frames[kind][:, 0] for kind in KINDS], axis=1),
            frames["ensemble"][:, 1],
        ),
        "wer": (
            np.stack([counts[kind][:, 0] / len(groups[kind]) for kind in KINDS], axis=1),
            counts["ensemble"][:, 1],
        ),
    }


def _share(rates: np.ndarray) -> float | None:
    """The share of the ensemble's gain that the distilled model keeps; None without a gain.

    Args:
        rates: error rates of baseline, ensemble, distilled.
    """
    baseline, ensemble, distilled = rates
    return float((baseline - distilled) / (baseline - ensemble)) if ensemble < baseline else None


def _probabilities(errors: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Paired bootstrap: how sure it is that one kind of system errs less than another."""
    return {
        what: {
            name: probability_better(counts[:, [other, one]], totals)
            for name, (one, other) in PAIRS.items()
        }
        for what, (counts, totals) in errors.items()
    }


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a system, as text."""
    rows = [
        ["system", "weights", "frame acc. dev", "frame acc. test", "WER dev", "WER test", "95 %"]
    ]
    for system in results["systems"]:
        accuracy, wer = system["frame_accuracy"], system["wer"]
        low, high = wer["test"]["ci95"]
        models = "" if system["models"] == 1 else f" (mean of {system['models']})"
        name = system["name"] + models
        if system["members"] > 1:
            name = f"{system['name']} of {system['members']}"
        rows.append(
            [
                name,
                f"{system['parameters'] / 1e6:.2f} M",
                f"{accuracy['dev']:.2f}",
                f"{accuracy['test']:.2f}" + _plus_minus(accuracy["sd"]),
                f"{wer['dev']['percent']:.2f}",
                f"{wer['test']['percent']:.2f}" + _plus_minus(wer["test"]["sd"]),
                f"{low:.1f} … {high:.1f}",
            ]
        )
    return rows


def _plus_minus(deviation: float | None) -> str:
    return "" if deviation is None else f" ± {deviation:.2f}"


def gain_sentences(results: Mapping[str, Any]) -> list[str]:
    """What the distilled model keeps of the ensemble's gain over its members, in words."""
    sentences = []
    for what, title in (("frame_accuracy", "frame accuracy"), ("wer", "WER")):
        share, interval = results["gain_kept"][what], results["gain_kept_ci95"][what]
        if share is None:
            sentences.append(f"{title}: the ensemble is no better than its members")
            continue
        if interval is None:
            sentences.append(
                f"{title}: the ensemble's gain over its members is too small to tell what is kept"
            )
            continue
        sentences.append(
            f"{title}: the distilled model keeps {100 * share:.0f} % of the ensemble's gain "
            f"(95 %: {100 * interval[0]:.0f} … {100 * interval[1]:.0f} %)"
        )
    return sentences


def transfer_sentences(results: Mapping[str, Any]) -> list[str]:
    """How much of the transfer set is not transcribed, in words; nothing where all of it is."""
    frames = results.get("transfer_set", {})
    if not frames.get("untranscribed"):
        return []
    share = frames["untranscribed"] / frames["frames"]
    hours = {name: count * SHIFT_SECONDS / 3600 for name, count in frames.items()}
    return [
        f"transfer set: {hours['frames']:.2f} h, of which {hours['untranscribed']:.2f} h "
        f"({100 * share:.0f} %) without transcripts"
    ]


def terminal_table(results: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    lines = [*_aligned(table_rows(results)), "", *_aligned(difference_table(results))]
    sentences = [*gain_sentences(results), *transfer_sentences(results)]
    return "\n".join(lines + [f"  {s}" for s in sentences])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    lines.insert(1, "  " + "  ".join("-" * width for width in widths))
    return [line.rstrip() for line in lines]


def markdown(results: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    drawn = {what: found["drawn"] for what, found in results["differences"].items()}
    lines = [
        f"# {results['corpus']}: baseline, ensemble, distilled",
        "",
        *markdown_table(table_rows(results)),
        "",
        *(f"- {s}" for s in (*gain_sentences(results), *transfer_sentences(results))),
        "",
        "Figures in percent; ± is the standard deviation over models, 95 % a bootstrap interval "
        "over test utterances. LM weight and insertion penalty were tuned on dev.",
        "",
        *markdown_table(difference_table(results)),
        "",
        "Differences in points; 95 % and the probability of being better are of a paired bootstrap "
        f"over test {drawn['wer']}.",
    ]
    if table := speaker_table(results):
        lines += ["", "## By speaker", "", *markdown_table(table)]
    return "\n".join(lines) + "\n"
