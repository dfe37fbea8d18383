"""Sections on single test frames: accuracy by phone, what else a phone might be, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from acoustic_kd.reports.charts import Row, Series, lines, rows, tempered
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.frame_figures import MIN_EXAMPLE_PROBABILITY, expected_calibration_error
from acoustic_kd.reports.page import NONE, Note, Part, Picture, Section, Table

Figures = Mapping[str, Any]  # of one system as `frames.json`, or `pooled`
STYLES = {"baseline": 0, "control": 3, "ensemble": 1, "distilled": 2}
MIN_FRAMES = 20  # of a bin, or of a phone, that is in a picture
MAX_OTHERS = 4  # phones that a phone may also be
EXAMPLES_AT_ONCE = 6  # the others are folded
MAX_PAIRS = 20  # of phones, the most confused
EXAMPLES_NOTE = (
    "For each phone a test frame that the ensemble classifies right, if possible with a "
    f"probability of {MIN_EXAMPLE_PROBABILITY:g} or more, and among these the frame with the "
    "most probability for other phones: its most probable senones (PHONE_STATE.NUMBER), "
    "tempered. Each column has its own scale; the frame's senone is bold."
)
MISSING = "decode/…/frames.json is missing; delete decode and run the stages decode and report"


def _missing(experiment: ExperimentFiles) -> list[Note]:
    """The folds without figures of frames."""
    folds = [] if experiment.frames else experiment.folds
    return [Note(f"{fold.name}: {MISSING}") for fold in folds if not fold.frames]


def phone_section(experiment: ExperimentFiles) -> Section:
    """Frame accuracy of each phone; senones of folds differ, their phones do not."""
    parts: Sequence[Part] = _missing(experiment) or by_phone(pooled_by_kind(experiment))
    return Section("phones", "Frame accuracy by phone", parts)


def confusion_section(experiment: ExperimentFiles) -> Section:
    """What the ensemble's predictions tell of similar phones; nothing for folds."""
    title, parts = "What soft targets know", list[Part]()
    if len(experiment.directories) == 1:
        parts += _missing(experiment)
        for ensemble in experiment.frames.get("ensemble", []):
            confused = confusion_picture(ensemble)
            parts += [Note(EXAMPLES_NOTE), *example_pictures(ensemble)[:EXAMPLES_AT_ONCE]]
            parts += [confused] if confused else []
            parts.append(phone_table(ensemble, pooled_by_kind(experiment)))
    return Section("confusions", title, parts)


def example_section(experiment: ExperimentFiles) -> Section:
    """The tempered frames that `confusion_section` leaves out."""
    single = len(experiment.directories) == 1 and experiment.frames
    pictures = example_pictures(experiment.frames["ensemble"][0]) if single else []
    parts = pictures[EXAMPLES_AT_ONCE:]
    return Section("examples", "More frames, tempered", parts, folded=True)


def calibration_section(experiments: Sequence[ExperimentFiles]) -> Section:
    """Whether probabilities are as often right as they say.

    Of one experiment the systems are compared, of several their distilled models.
    """
    parts: list[Part] = [note for experiment in experiments for note in _missing(experiment)]
    title, styles = "system", STYLES
    curves = figures = pooled_by_kind(experiments[0])
    if len(experiments) > 1:
        title, styles = "experiment, system", {e.name: n for n, e in enumerate(experiments)}
        measured = {e.name: pooled_by_kind(e) for e in experiments if e.frames}
        curves = {name: kinds["distilled"] for name, kinds in measured.items()}
        figures = {
            f"{name}, {kind}": row
            for name, kinds in measured.items()
            for kind, row in kinds.items()
        }
    if figures:
        drawn = reliability(curves, styles)
        parts += [calibration_table(figures, title), *([drawn] if drawn else [])]
    return Section("calibration", "Calibration", parts)


def pooled_by_kind(experiment: ExperimentFiles) -> dict[str, dict[str, Any]]:
    """Kind of system → its figures, pooled over models and folds; without further shapes."""
    return {kind: pooled(parts) for kind, parts in experiment.frames.items() if kind in STYLES}


def pooled(parts: Sequence[Figures]) -> dict[str, Any]:
    """The figures of several systems, or of several test sets, over all their frames together."""
    keys = ("frames", "right", "confidence")
    phones: dict[str, dict[str, int]] = {}
    for part in parts:
        for phone, row in part["phones"].items():
            counts = phones.setdefault(phone, dict.fromkeys(keys[:2], 0))
            for key in counts:
                counts[key] += row[key]
    bins = [
        {key: sum(entry[key] for entry in entries) for key in keys}
        for entries in zip(*(part["bins"] for part in parts), strict=True)
    ]
    totals = {key: sum(part[key] for part in parts) for key in keys[:2]}
    means = {
        key: sum(part[key] * part["frames"] for part in parts) / max(totals["frames"], 1)
        for key in ("cross_entropy", "real_time_factor")
    }
    return {**totals, **means, "phones": phones, "bins": bins}


def by_phone(figures: Mapping[str, Figures]) -> list[Part]:
    """Frame accuracy of each phone by kind of system, the worst of the ensemble's first."""
    shares = {
        kind: {
            phone: 100 * row["right"] / row["frames"] for phone, row in measured["phones"].items()
        }
        for kind, measured in figures.items()
    }
    order = sorted(shares["ensemble"], key=lambda phone: (shares["ensemble"][phone], phone))
    half = -(-len(order) // 2)
    legend = [(kind, STYLES[kind]) for kind in shares]
    parts: list[Part] = [Note("Frames whose best senone is the right one, by phone, in percent.")]
    across = "frame accuracy on test, %"
    halves = {"The harder phones": order[:half], "The easier phones": order[half:]}
    for title, part in halves.items():
        entries = [Row(p, [(STYLES[k], s[p]) for k, s in shares.items()]) for p in part]
        if entries:
            drawn = rows(title, across, entries, legend, beside=40, limits=(0, 100))
            parts.append(Picture(title, drawn))
    return parts


def phone_table(ensemble: Figures, figures: Mapping[str, Figures]) -> Table:
    """Accuracy of each phone by kind of system, and what the ensemble takes it for."""
    heading = ["phone", "frames", *(f"{kind}, %" for kind in figures)]
    table = [[*heading, "taken for, % of its frames", "might also be, mean probability in %"]]
    for phone, row in sorted(ensemble["phones"].items()):
        accuracies = [measured["phones"][phone] for measured in figures.values()]
        confusions = {p: count / row["frames"] for p, count in row["taken_for"].items()}
        table.append(
            [
                phone,
                f"{row['frames']:,}",
                *(f"{100 * a['right'] / a['frames']:.1f}" for a in accuracies),
                *(_others(phone, shares) for shares in (confusions, row["mass"])),
            ]
        )
    return Table(table, "Frame accuracy by phone; the last two columns are of the ensemble")


def _others(phone: str, shares: Mapping[str, float]) -> str:
    """The other phones with the largest shares, such as `P 10.2, D 3.1`."""
    largest = sorted(((-share, p) for p, share in shares.items() if p != phone))[:MAX_OTHERS]
    return ", ".join(f"{p} {-100 * share:.1f}" for share, p in largest) or NONE


def confusion_picture(ensemble: Figures) -> Picture | None:
    """The pairs of phones that share most probability; None if no pair does."""
    pairs = sorted(
        (-mass, phone, similar, row["taken_for"].get(similar, 0) / row["frames"])
        for phone, row in ensemble["phones"].items()
        for similar, mass in row["mass"].items()
        if phone != similar and row["frames"] >= MIN_FRAMES
    )[:MAX_PAIRS]
    if not pairs:
        return None
    entries = [
        Row(f"{phone}, {similar}", [(0, 100 * taken), (1, -100 * mass)])
        for mass, phone, similar, taken in pairs
    ]
    title = "The most confused phones"
    legend = [("taken for it, % of frames", 0), ("mean probability of it, %", 1)]
    drawn = rows(title, "% of the first phone's frames", entries, legend, beside=62)
    return Picture(title, drawn, "The label's phone, and another one.")


def example_pictures(ensemble: Figures) -> list[Picture]:
    """Tempered predictions of the examples, those with a probable label first, the least first."""

    def order(example: Mapping[str, Any]) -> tuple[bool, float]:
        probability = example["senones"].get(example["senone"], [0.0])[0]
        return probability < MIN_EXAMPLE_PROBABILITY, probability

    return [
        Picture(
            f"A frame of /{example['phone']}/: {example['senone']}",
            tempered(
                f"Tempered predictions for a frame of {example['phone']}",
                example["temperatures"],
                example["senones"],
                example["senone"],
            ),
            f"frame {example['frame']} of {example['utterance']}",
        )
        for example in sorted(ensemble.get("examples", []), key=order)
    ]


def calibration_table(figures: Mapping[str, Figures], title: str = "system") -> Table:
    """Expected calibration error and cross-entropy; `figures`: of each row."""
    heading = [title, "frame accuracy, %", "mean confidence, %", "calibration error, points"]
    table = [[*heading, "cross-entropy, nats"]]
    for name, row in figures.items():
        shares = [row["right"], sum(b["confidence"] for b in row["bins"])]
        cells = [100 * share / max(row["frames"], 1) for share in shares]
        cells.append(100 * expected_calibration_error(row["bins"]))
        table.append([name, *(f"{cell:.2f}" for cell in cells), f"{row['cross_entropy']:.3f}"])
    return Table(table, "On test frames")


def reliability(figures: Mapping[str, Figures], styles: Mapping[str, int]) -> Picture | None:
    """How often the best senone is right, against its probability; None without frames."""
    series = []
    for name, row in figures.items():
        points = [
            (b["confidence"] / b["frames"], b["right"] / b["frames"])
            for b in row["bins"]
            if b["frames"] >= MIN_FRAMES
        ]
        series += [Series(name, points, styles[name])] if points else []
    if not series:
        return None
    title, across = "Reliability", "probability of the best senone"
    drawn = lines(title, across, "share right", series, (0.0, 1.0), diagonal=True)
    return Picture(title, drawn, "On the diagonal probabilities are as often right as they say.")
