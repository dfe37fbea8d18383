"""The report of several folds as one: each experiment tests on other speakers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acoustic_kd.files import read_json
from acoustic_kd.pages.experiment import NO_FRAMES
from acoustic_kd.pages.frames import STYLES, by_phone, calibration_table, pooled, reliability
from acoustic_kd.pages.parts import Note, Part, Section, Table, render
from acoustic_kd.pages.results import (
    gain_pictures,
    lead_of,
    models_section,
    results_section,
    side_by_side,
    speakers_section,
)
from acoustic_kd.pages.source import Source, differing_settings, short_names
from acoustic_kd.pages.tables import size_table, training_section

FOLD = "corpus.fold"  # the setting in which folds differ


def folds_page(directories: Sequence[Path], results: Mapping[str, Any]) -> str:
    """The report of folds.

    Args:
        directories: of the experiments.
        results: of them, pooled (`acoustic_kd.folds`).

    Raises:
        UserError: one is given twice, or a file of it is damaged.
    """
    names = short_names([Path(directory).resolve() for directory in directories])
    folds = [
        Source(name, directory, read_json(directory / "results.json"))
        for name, directory in zip(names, map(Path, directories), strict=True)
    ]
    sections = [
        results_section(results),
        _each_fold(folds),
        training_section(folds),
        Section("cost", "Size, speed, memory", [size_table(folds, "fold")]),
        *_frames(folds),
        models_section(results),
        speakers_section(results),
        _settings(folds),
    ]
    systems = ", ".join(system["name"] for system in results["systems"])
    title = f"{results['corpus']}: {systems} over {len(folds)} folds"
    return render(title, lead_of(results), sections)


def _each_fold(folds: Sequence[Source]) -> Section:
    parts: list[Part] = []
    if others := [key for key in differing_settings(folds) if key != FOLD]:
        text = f"The folds differ in more than {FOLD}: {', '.join(others)}."
        parts.append(Note(text, caution=True))
    gains = gain_pictures({fold.name: fold.results for fold in folds})
    return Section("folds", "Each fold", [*parts, *side_by_side(folds, "fold"), *gains])


def _frames(folds: Sequence[Source]) -> list[Section]:
    """Of all folds together; their senones differ, their phones do not."""
    titles = {"phones": "Frame accuracy by phone", "calibration": "Calibration"}
    if lacking := [fold.name for fold in folds if not fold.frames]:
        notes = [Note(f"{name}: {NO_FRAMES}") for name in lacking]
        return [Section(name, title, notes) for name, title in titles.items()]
    figures = {
        kind: pooled([part for fold in folds for part in fold.frames[kind]])
        for kind in folds[0].frames
    }
    drawn = reliability(figures, STYLES)
    calibration: list[Part] = [calibration_table(figures), *([drawn] if drawn else [])]
    return [
        Section("phones", titles["phones"], by_phone(figures)),
        Section("calibration", titles["calibration"], calibration),
    ]


def _settings(folds: Sequence[Source]) -> Section:
    """Those that the folds have in common."""
    differ = differing_settings(folds)
    shared = sorted((key, str(v)) for key, v in folds[0].settings.items() if key not in differ)
    table = [Table([["setting", ""], *(list(row) for row in shared)])] if shared else []
    return Section("settings", "Settings of all folds", table, folded=True)
