"""Measurements of single systems → the comparison: baseline, control, ensemble, distilled.

The baseline is any one member: its figures are means over all members. The control is a model of
the distilled model's shape and budget that is trained on hard targets alone: the gain over it, not
over the members, is the gain of soft targets. Every interval is a 95 % bootstrap interval over the
test utterances. All systems share the draws, so that the effect of an easy or a hard utterance on
all of them cancels in a comparison.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import kaldialign
import numpy as np

from acoustic_kd.decoding.error_listing import GAP
from acoustic_kd.decoding.scoring import Score, error_counts, pooled, replicate
from acoustic_kd.decoding.workers import DecodingResult
from acoustic_kd.features.fbank import SHIFT_SECONDS

# A further shape of the distilled model has kinds of its own: `control small`, `distilled small`.
KINDS = ("baseline", "control", "ensemble", "distilled")
# The system that the ensemble is compared with → the key of the share in `results.json`.
GAINS = {"baseline": "gain_kept", "control": "gain_kept_over_control"}


@dataclass
class Measurement:
    """The figures of one system; every dictionary is keyed by split.

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
        decoded: Iterable[DecodingResult],
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
    parameters: Mapping[str, int],
    members: int,
    speakers: Mapping[str, str],
) -> dict[str, Any]:
    """The contents of `results.json` (docs/results.md).

    Args:
        references: test utterance → words.
        transcripts: system → test utterance → recognised words.
        parameters: kind of system → weights and biases of all models that it averages.
        members: M.
        speakers: test utterance → speaker.
    """
    kinds = dict.fromkeys([*KINDS, *(m.kind for m in measurements)])
    groups = {kind: [m for m in measurements if m.kind == kind] for kind in kinds}
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
                "parameters": parameters[kind],
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
    names = list(groups["ensemble"][0].frames["test"])
    utterances = {"frame_accuracy": names, "wer": references}
    units = {what: [speakers[n] for n in measured] for what, measured in utterances.items()}
    frames = {
        kind: np.sum([[m.frames["test"][n] for n in names] for m in group], axis=0)
        for kind, group in groups.items()
    }
    models = {kind: len(group) for kind, group in groups.items()}
    right = [frames[kind] / count for kind, count in models.items()]
    words = [counts[kind] / count for kind, count in models.items()]
    by_utterance = {  # mean errors of each kind of system, [U, kinds], and frames or words, [U]
        "frame_accuracy": (np.stack([f[:, 1] - f[:, 0] for f in right], 1), right[0][:, 1]),
        "wer": (np.stack([w[:, 0] for w in words], 1), words[0][:, 1]),
    }
    pairs = kind_pairs(list(groups))
    return {
        "corpus": corpus,
        "config_digest": config_digest,
        "systems": systems,
        **_gains(by_utterance, list(groups)),
        "differences": {
            what: differences(errors, totals, units[what], pairs)
            for what, (errors, totals) in by_utterance.items()
        },
        "speakers": by_speaker(counts, frames, models, units),
        "each_model": [
            {
                "name": m.name,
                "kind": m.kind,
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


def kind_of(model: Mapping[str, Any]) -> str:
    """The kind of a model of `each_model`; earlier versions wrote its name alone."""
    return model.get("kind") or model["name"].partition("-")[0].replace("member", "baseline")


def _deviation(values: list[float]) -> float | None:
    """Standard deviation over models, or None for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _gains(
    by_utterance: dict[str, tuple[np.ndarray, np.ndarray]], kinds: list[str]
) -> dict[str, dict[str, Any]]:
    """The shares of the ensemble's gain that the distilled model keeps, with their intervals."""
    gains: dict[str, dict[str, Any]] = {}
    for over, key in GAINS.items():
        if over not in kinds:
            continue
        columns = [kinds.index(kind) for kind in (over, "ensemble", "distilled")]
        kept = {what: _kept(e[:, columns], totals) for what, (e, totals) in by_utterance.items()}
        gains[key] = {what: share for what, (share, _) in kept.items()}
        gains[f"{key}_ci95"] = {what: interval for what, (_, interval) in kept.items()}
    return gains


def _kept(errors: np.ndarray, totals: np.ndarray) -> tuple[float | None, list[float] | None]:
    """The share of the ensemble's gain that the distilled model keeps, and its 95 % interval.

    Args:
        errors: [U, 3] of the system compared with, the ensemble, the distilled model.
        totals: [U] words or frames.
    """
    share = _share(100 * errors.sum(0) / totals.sum())
    shares = [_share(rates) for rates in replicate(errors, totals)]
    usable = [value for value in shares if value is not None]
    if share is None or len(usable) <= 0.95 * len(shares):
        return share, None  # the ensemble's gain is not significant
    return share, np.percentile(usable, [2.5, 97.5]).tolist()


def _share(rates: np.ndarray) -> float | None:
    """The share of the ensemble's gain that the distilled model keeps; None without a gain.

    Args:
        rates: error rates of the system compared with, the ensemble, the distilled model.
    """
    single, ensemble, distilled = rates
    return float((single - distilled) / (single - ensemble)) if ensemble < single else None


def count_new_words(
    references: Mapping[str, Sequence[str]],
    transcripts: Mapping[str, Mapping[str, Sequence[str]]],
    unseen: Collection[str],
) -> dict[str, Any]:
    """Test words that a system has not seen in training, and how many it recognised.

    Args:
        references: test utterance → words.
        transcripts: system → test utterance → recognised words.
        unseen: words that neither the train transcripts nor the language model's text have.
    """
    words = [word for reference in references.values() for word in reference]
    affected = [name for name, words in references.items() if not set(unseen).isdisjoint(words)]
    return {
        "words": len(words),
        "new": sum(word in unseen for word in words),
        "right": {
            system: sum(
                expected == word and word in unseen
                for name in affected
                for expected, word in kaldialign.align(
                    list(references[name]), list(recognised[name]), GAP
                )
            )
            for system, recognised in transcripts.items()
        },
    }


def last_epoch_gain(history: Iterable[Mapping[str, Any]]) -> float | None:
    """Points of dev frame accuracy that the last epoch gained over the best before it.

    Args:
        history: the rows of `metrics.jsonl`.

    Returns:
        None if fewer than two epochs were measured on dev.
    """
    dev = [row["dev_frame_accuracy"] for row in history if "dev_frame_accuracy" in row]
    return dev[-1] - max(dev[:-1]) if len(dev) > 1 else None


# Pairs that are compared: a kind of system, and the kind that it is compared with.
PAIRS = (
    ("ensemble", "baseline"),
    ("ensemble", "control"),
    ("distilled", "baseline"),
    ("distilled", "control"),
    ("distilled", "ensemble"),
)
MIN_SPEAKERS = 5  # with fewer, utterances are drawn


def differences(
    errors: np.ndarray,
    totals: np.ndarray,
    units: Sequence[str],
    pairs: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """By how many points one kind of system errs less than another: paired bootstrap.

    A draw takes whole speakers if there are enough of them, because the utterances of one speaker
    are alike (Bisani and Ney 2004, section 3); else utterances.

    Args:
        errors: [U, S] of S systems, such as baseline, ensemble, distilled.
        totals: [U] words or frames.
        units: the speaker of each utterance.
        pairs: name → the columns of a system and of the system that it is compared with.
    """
    names = sorted(set(units))
    by_speaker = len(names) >= MIN_SPEAKERS
    if by_speaker:
        number = {name: n for n, name in enumerate(names)}
        which = np.array([number[unit] for unit in units])
        summed = np.zeros((len(names), errors.shape[1]))
        np.add.at(summed, which, errors)
        errors, totals = summed, np.bincount(which, totals, len(names))
    rates, drawn = 100 * errors.sum(0) / totals.sum(), replicate(errors, totals)
    measured = {}
    for name, (first, second) in pairs.items():
        gains = drawn[:, second] - drawn[:, first]
        measured[name] = {
            "points": float(rates[second] - rates[first]),
            "ci95": np.percentile(gains, [2.5, 97.5]).tolist(),
            "probability_better": float(np.mean((gains > 0) + 0.5 * (gains == 0))),
        }
    return {"drawn": "speakers" if by_speaker else "utterances", "pairs": measured}


def kind_pairs(kinds: Sequence[str]) -> dict[str, tuple[int, int]]:
    """`distilled over control` → their columns, for the PAIRS among some kinds.

    The distilled model of a further shape is compared with the control of that shape and with the
    baseline.
    """
    more = [kind for kind in kinds if kind.startswith("distilled ")]
    pairs = [*PAIRS]
    for kind in more:
        pairs += [(kind, "baseline"), (kind, kind.replace("distilled", "control", 1))]
    return {
        f"{first} over {second}": (kinds.index(first), kinds.index(second))
        for first, second in pairs
        if first in kinds and second in kinds
    }


def by_speaker(
    counts: Mapping[str, np.ndarray],
    frames: Mapping[str, np.ndarray],
    models: Mapping[str, int],
    units: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """Words, errors and frame accuracy of each speaker, in the order of their names.

    Args:
        counts: kind of system → [U, 5] `error_counts`, summed over its models.
        frames: kind → [U, 2] frames classified right, and frames, summed over its models.
        models: kind → how many.
        units: `wer` and `frame_accuracy` → the speaker of each utterance of counts and frames.
    """
    rows = []
    for speaker in sorted(set(units["wer"])):
        measured, decoded = (
            np.array([unit == speaker for unit in units[what]])
            for what in ("frame_accuracy", "wer")
        )
        row: dict[str, Any] = {"speaker": speaker, "utterances": int(decoded.sum())}
        for kind, counted in counts.items():
            errors, words, substituted, inserted, deleted = counted[decoded].sum(0).tolist()
            right, total = frames[kind][measured].sum(0).tolist()
            row["words"] = words // models[kind]
            row[kind] = {
                "wer": 100 * errors / words if words else None,
                "errors": errors,
                "substitutions": substituted,
                "insertions": inserted,
                "deletions": deleted,
                "frame_accuracy": 100 * right / total if total else None,
            }
        rows.append(row)
    return rows
