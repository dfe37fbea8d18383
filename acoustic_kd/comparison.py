"""How systems differ, with intervals, and how each fares with each speaker."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acoustic_kd.decoding.scoring import replicate

# The kinds of systems that are compared, in pairs: a system, and the one that it is compared with.
PAIRS = (
    ("ensemble", "baseline"),
    ("ensemble", "control"),
    ("distilled", "baseline"),
    ("distilled", "control"),
    ("distilled", "ensemble"),
)
LEAST_SPEAKERS = 5  # that are drawn instead of utterances
SHOWN_SPEAKERS = range(2, 41)  # so many have a table in results.md


def differences(
    errors: np.ndarray,
    totals: np.ndarray,
    units: Sequence[str],
    pairs: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """By how many points one kind of system errs less than another: paired bootstrap.

    What is drawn is speakers where there are enough of them, since the utterances of one are alike
    (Bisani and Ney 2004, section 3); else utterances.

    Args:
        errors: [U, S] of S systems, such as baseline, ensemble, distilled.
        totals: [U] what they are counted in.
        units: the speaker of each utterance.
        pairs: name → the columns of the one and of the other.
    """
    names = sorted(set(units))
    by_speaker = len(names) >= LEAST_SPEAKERS
    if by_speaker:
        number = {name: n for n, name in enumerate(names)}
        which = np.array([number[unit] for unit in units])
        summed = np.zeros((len(names), errors.shape[1]))
        np.add.at(summed, which, errors)
        errors, totals = summed, np.bincount(which, totals, len(names))
    rates, drawn = 100 * errors.sum(0) / totals.sum(), replicate(errors, totals)
    found = {}
    for name, (one, other) in pairs.items():
        gains = drawn[:, other] - drawn[:, one]
        found[name] = {
            "points": float(rates[other] - rates[one]),
            "ci95": np.percentile(gains, [2.5, 97.5]).tolist(),
            "probability_better": float(np.mean((gains > 0) + 0.5 * (gains == 0))),
        }
    return {"drawn": "speakers" if by_speaker else "utterances", "pairs": found}


def kind_pairs(kinds: Sequence[str]) -> dict[str, tuple[int, int]]:
    """`distilled over control` → their columns, for each of PAIRS of which both are there."""
    return {
        f"{one} over {other}": (kinds.index(one), kinds.index(other))
        for one, other in PAIRS
        if one in kinds and other in kinds
    }


def by_speaker(
    counts: Mapping[str, np.ndarray],
    frames: Mapping[str, Mapping[str, np.ndarray]],
    models: Mapping[str, int],
    names: Sequence[str],
    speakers: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Words, errors and frame accuracy of each speaker, in the order of their names.

    Args:
        counts: kind of system → [U, 5] `error_counts`, summed over its models.
        frames: kind → utterance → [frames classified right, frames], summed likewise.
        models: kind → how many.
        names: the U utterances.
        speakers: utterance → speaker.
    """
    rows = []
    for speaker in sorted({speakers[name] for name in names}):
        chosen = np.array([speakers[name] == speaker for name in names])
        row: dict[str, Any] = {"speaker": speaker, "utterances": int(chosen.sum())}
        for kind, counted in counts.items():
            errors, words, substituted, inserted, deleted = counted[chosen].sum(0).tolist()
            own = [both for name, both in frames[kind].items() if speakers[name] == speaker]
            right, total = np.sum(own, axis=0) if own else (0, 0)
            row["words"] = words // models[kind]
            row[kind] = {
                "wer": 100 * errors / words if words else None,
                "errors": errors,
                "substitutions": substituted,
                "insertions": inserted,
                "deletions": deleted,
                "frame_accuracy": float(100 * right / total) if total else None,
            }
        rows.append(row)
    return rows


def difference_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a pair of systems, as text."""
    found = results["differences"]
    rows = [["on test", "frame acc., points", "95 %", "better", "WER, points", "95 %", "better"]]
    for name in found["wer"]["pairs"]:
        row = [name]
        for what in ("frame_accuracy", "wer"):
            pair = found[what]["pairs"][name]
            low, high = pair["ci95"]
            sign = 1 if what == "frame_accuracy" else -1  # fewer errors: a higher accuracy
            low, high = sorted((sign * low + 0.0, sign * high + 0.0))  # + 0.0: no "-0.00"
            row += [f"{sign * pair['points'] + 0.0:+.2f}", f"{low:+.2f} … {high:+.2f}"]
            row.append(f"{100 * pair['probability_better']:.0f} %")
        rows.append(row)
    return rows


def speaker_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one row a speaker, as text; nothing for a single speaker, or very many."""
    speakers = results.get("speakers", [])
    if len(speakers) not in SHOWN_SPEAKERS:
        return []
    kinds = [system["name"] for system in results["systems"]]
    rows = [["speaker", "words", *(f"WER {k}" for k in kinds), *(f"frame acc. {k}" for k in kinds)]]
    for row in speakers:
        cells = [row[kind]["wer"] for kind in kinds]
        cells += [row[kind]["frame_accuracy"] for kind in kinds]
        texts = ["" if cell is None else f"{cell:.2f}" for cell in cells]
        rows.append([row["speaker"], str(row["words"]), *texts])
    return rows


def markdown_table(rows: list[list[str]]) -> list[str]:
    """The lines of a table, its heading first."""
    heading, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return [heading, f"|{'|'.join('---' for _ in rows[0])}|", *rest]
