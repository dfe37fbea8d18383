"""Measurements of single systems → the comparison: baseline, control, ensemble, distilled.

The baseline is any one member: its figures are means over all members. The control is a model of
the distilled model's shape and budget that learnt from hard targets alone: what the distilled model
gains over it, and not over the members, is what soft targets are worth. Every interval is a 95 %
bootstrap over the test utterances, drawn alike for all systems, so that what an easy or a hard
utterance does to all of them cancels in a comparison.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.comparison import (
    by_speaker,
    difference_table,
    differences,
    kind_pairs,
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

KINDS = ("baseline", "control", "ensemble", "distilled")
# What the ensemble's gain is taken over, and where `results.json` keeps the share of it.
GAINS = {"baseline": "gain_kept", "control": "gain_kept_over_control"}
UNTRAINED = 0.3  # points of dev frame accuracy that a last epoch may gain without a warning


@dataclass(frozen=True)
class System:
    """One model, or an ensemble of them.

    Attributes:
        kind: one of KINDS.
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
    groups = {kind: group for kind, group in groups.items() if group}
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
    by_utterance = _errors_by_utterance(groups, counts)
    named = {"frame_accuracy": list(groups["ensemble"][0].frames["test"]), "wer": list(references)}
    pairs = kind_pairs(list(groups))
    return {
        "corpus": corpus,
        "config_digest": config_digest,
        "systems": systems,
        **_gains(by_utterance, list(groups)),
        "differences": {
            what: differences(errors, totals, [speakers[name] for name in named[what]], pairs)
            for what, (errors, totals) in by_utterance.items()
        },
        "probability_better": _probabilities(by_utterance, pairs),
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
    """Mean errors of each kind of system, [U, kinds], and what they are counted in, [U]."""
    names = list(groups["ensemble"][0].frames["test"])
    frames = {
        kind: np.mean([[m.frames["test"][n] for n in names] for m in group], axis=0)
        for kind, group in groups.items()
    }
    return {
        "frame_accuracy": (
            np.stack([frames[kind][:, 1] - frames[kind][:, 0] for kind in groups], axis=1),
            frames["ensemble"][:, 1],
        ),
        "wer": (
            np.stack([counts[kind][:, 0] / len(groups[kind]) for kind in groups], axis=1),
            counts["ensemble"][:, 1],
        ),
    }


def _gains(
    by_utterance: dict[str, tuple[np.ndarray, np.ndarray]], kinds: list[str]
) -> dict[str, dict[str, Any]]:
    """The shares of the ensemble's gain that the distilled model keeps, with their intervals.

    Args:
        kinds: of the columns of errors.
    """
    found: dict[str, dict[str, Any]] = {}
    for over, key in GAINS.items():
        if over not in kinds:
            continue
        columns = [kinds.index(kind) for kind in (over, "ensemble", "distilled")]
        kept = {what: _kept(e[:, columns], totals) for what, (e, totals) in by_utterance.items()}
        found[key] = {what: share for what, (share, _) in kept.items()}
        found[f"{key}_ci95"] = {what: interval for what, (_, interval) in kept.items()}
    return found


def _kept(errors: np.ndarray, totals: np.ndarray) -> tuple[float | None, list[float] | None]:
    """The share of the ensemble's gain that the distilled model keeps, and its 95 % interval.

    Args:
        errors: [U, 3] of what the gain is taken over, of the ensemble, of the distilled model.
        totals: [U] what they are counted in.
    """
    share = _share(100 * errors.sum(0) / totals.sum())
    shares = [_share(rates) for rates in replicate(errors, totals)]
    usable = [one for one in shares if one is not None]
    if share is None or len(usable) <= 0.95 * len(shares):
        return share, None  # the ensemble's gain itself cannot be told from nothing
    return share, np.percentile(usable, [2.5, 97.5]).tolist()


def _share(rates: np.ndarray) -> float | None:
    """The share of the ensemble's gain that the distilled model keeps; None without a gain.

    Args:
        rates: error rates of what the gain is taken over, of the ensemble, of the distilled model.
    """
    one, ensemble, distilled = rates
    return float((one - distilled) / (one - ensemble)) if ensemble < one else None


def _probabilities(
    errors: dict[str, tuple[np.ndarray, np.ndarray]], pairs: Mapping[str, tuple[int, int]]
) -> dict[str, dict[str, float]]:
    """Paired bootstrap: how sure it is that one kind of system errs less than another."""
    return {
        what: {
            name: probability_better(counts[:, [other, one]], totals)
            for name, (one, other) in pairs.items()
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


MEASURES = {"frame_accuracy": "frame accuracy", "wer": "WER"}


def gain_sentences(results: Mapping[str, Any]) -> list[str]:
    """What soft targets are worth, in words: the distilled model beside its control first."""
    sentences = []
    if GAINS["control"] not in results:
        sentences.append(
            "there is no control (distill.hard_baseline=false): a gain may come from longer "
            "training instead of soft targets"
        )
    for what, title in MEASURES.items():
        pair = results["differences"][what]["pairs"].get("distilled over control")
        if pair is not None:
            sentences.append(f"{title}: {_over_control(pair)}")
        kept = [_kept_words(results, what, over) for over in GAINS if GAINS[over] in results]
        sentences.append(f"{title}: {'; '.join(kept)}")
    return sentences


def _over_control(pair: Mapping[str, Any]) -> str:
    low, high = pair["ci95"]
    shown = "" if low > 0 else ", so it is worse" if high < 0 else ", so no gain is shown"
    better = "better" if pair["points"] >= 0 else "worse"
    return (
        f"the distilled model is {abs(pair['points']):.2f} points {better} than the control "
        f"(95 %: {low + 0.0:+.2f} … {high + 0.0:+.2f}{shown})"
    )


def _kept_words(results: Mapping[str, Any], what: str, over: str) -> str:
    """What the distilled model keeps of the ensemble's gain over one kind of system."""
    share, interval = (results[f"{GAINS[over]}{suffix}"][what] for suffix in ("", "_ci95"))
    whom = {"baseline": "its members", "control": "the control"}[over]
    if share is None:
        return f"the ensemble is no better than {whom}"
    if interval is None:
        return f"the ensemble's gain over {whom} is too small to tell what is kept of it"
    return (
        f"{100 * share:.0f} % of the ensemble's gain over {whom} is kept "
        f"(95 %: {100 * interval[0]:.0f} … {100 * interval[1]:.0f} %)"
    )


def training_sentences(results: Mapping[str, Any]) -> list[str]:
    """A warning for each model whose training ended while dev still gained."""
    return [
        f"warning: {name} was not trained to the end: its last epoch gained {points:.2f} points of "
        f"dev frame accuracy (raise {_epochs_of(name)})"
        for name, points in results.get("last_epoch_gains", {}).items()
        if points > UNTRAINED
    ]


def _epochs_of(name: str) -> str:
    return "train.epochs" if name.startswith("member") else "distill.epochs"


def last_epoch_gain(history: Iterable[Mapping[str, Any]]) -> float | None:
    """Points of dev frame accuracy that the last epoch gained over the best before it.

    Args:
        history: the rows of `metrics.jsonl`.

    Returns:
        None after fewer than two epochs that were measured on dev.
    """
    dev = [row["dev_frame_accuracy"] for row in history if "dev_frame_accuracy" in row]
    return dev[-1] - max(dev[:-1]) if len(dev) > 1 else None


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


def sentences(results: Mapping[str, Any]) -> list[str]:
    """All that is said below the tables."""
    return [
        *gain_sentences(results),
        *transfer_sentences(results),
        *training_sentences(results),
        *precision_sentences(results),
    ]


def precision_sentences(results: Mapping[str, Any]) -> list[str]:
    """In which precision the models were trained; nothing where the results do not say."""
    if "bfloat16" not in results:
        return []
    return [f"the models were trained in {'bfloat16' if results['bfloat16'] else 'float32'}"]


def terminal_table(results: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    lines = [*_aligned(table_rows(results)), "", *_aligned(difference_table(results))]
    return "\n".join(lines + [f"  {sentence}" for sentence in sentences(results)])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    lines.insert(1, "  " + "  ".join("-" * width for width in widths))
    return [line.rstrip() for line in lines]


def markdown(results: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    drawn = {what: found["drawn"] for what, found in results["differences"].items()}
    lines = [
        f"# {results['corpus']}: {', '.join(s['name'] for s in results['systems'])}",
        "",
        *markdown_table(table_rows(results)),
        "",
        *(f"- {sentence}" for sentence in sentences(results)),
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
