"""The pages: the report of an experiment or of folds, and a comparison of several experiments.

All are made of one list of sections; a report is a comparison of one experiment.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from acoustic_kd.reports import comparison, frame_sections, model_sections, sections
from acoustic_kd.reports.deployment import deployment_section
from acoustic_kd.reports.experiment_files import ExperimentFiles, read_experiment, short_names
from acoustic_kd.reports.page import Section, render
from acoustic_kd.reports.sentences import sentences_section
from acoustic_kd.reports.tables import gain_summary, headline, sentences
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import write_text
from acoustic_kd.version import __version__

MIN_COMPARED = 2  # experiments
MakeSection = Callable[[Sequence[ExperimentFiles]], Section]


def of_one(make: Callable[[ExperimentFiles], Section]) -> MakeSection:
    """A section that comparisons leave out."""
    return lambda files: make(files[0]) if len(files) == 1 else Section("", "", [])


def of_several(make: MakeSection) -> MakeSection:
    """A section that only comparisons have."""
    return lambda files: make(files) if len(files) > 1 else Section("", "", [])


SECTIONS: Sequence[MakeSection] = (
    of_one(sections.results_section),
    of_one(sections.shapes_section),
    of_one(deployment_section),
    of_several(comparison.results_section),
    of_one(comparison.folds_section),
    of_several(comparison.differences_section),
    of_several(comparison.settings_section),
    model_sections.training_section,
    model_sections.cost_section,
    of_one(sentences_section),
    model_sections.soft_target_section,
    of_one(frame_sections.phone_section),
    of_one(frame_sections.confusion_section),
    frame_sections.calibration_section,
    of_one(frame_sections.example_section),
    of_one(sections.models_section),
    of_one(sections.speakers_section),
    of_one(sections.settings_section),
)


def make_page(title: str, lead: Sequence[str], experiments: Sequence[ExperimentFiles]) -> str:
    """The page on one or several experiments; `lead`: lines below the title."""
    return render(title, lead, [make(experiments) for make in SECTIONS])


def report_page(directories: Sequence[Path], results: Mapping[str, Any]) -> str:
    """The report of an experiment, or of folds.

    Args:
        directories: of the experiment, or of each fold.
        results: the contents of its `results.json`, or pooled over the folds.
    """
    experiment = ExperimentFiles(Path(directories[0]).resolve().name, directories, results)
    lead = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences(results)]
    return make_page(headline(results), [_made_by(results.get("command", "")), *lead], [experiment])


def _made_by(command: str) -> str:
    made = f"Made on {date.today():%Y-%m-%d} by acoustic-kd {__version__}"
    return f"{made}: {'; '.join(command.splitlines())}" if command else f"{made}."


def comparison_page(experiments: Sequence[ExperimentFiles], command: str = "") -> str:
    """Several experiments side by side."""
    names = [experiment.name for experiment in experiments]
    lead = [
        f"{experiment.name}: {' '.join(f'{line}.' for line in gain_summary(experiment.results))}"
        for experiment in experiments
    ]
    title = f"{', '.join(names[:-1])} and {names[-1]} compared"
    return make_page(title, [_made_by(command), *lead], experiments)


def compare(directories: Sequence[Path], out: Path) -> None:
    """Write a page that compares finished experiments."""
    if len(directories) < MIN_COMPARED:
        raise UserError("give the directories of two experiments or more")
    if out.is_dir():
        raise UserError(f"--out is {out}, a folder; give the name of a file, such as compare.html")
    names = short_names([directory.resolve() for directory in directories])
    pairs = zip(directories, names, strict=True)
    command = shlex.join(["acoustic-kd", "compare", *names, "--out", out.name])
    write_text(out, comparison_page([read_experiment(*pair) for pair in pairs], command))
