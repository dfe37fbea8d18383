#!/usr/bin/env python3
"""Measure what each change of a recipe is worth in word errors on dev, for one acoustic model.

A study is a YAML file: settings that all rows share, and for each row the settings that it changes.
For each row, `seeds` models are trained on hard targets, and each decodes `decode.dev_share` of
dev. LM weight and insertion penalty are tuned on the same utterances. EXP receives the models, what
they recognise, and the table study.md. What rows have in common is made once. Run the same command
again to resume an interrupted study.
"""

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from acoustic_kd.cli import exit_status
from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.decoding.error_listing import write_alignments
from acoustic_kd.decoding.scoring import error_counts, grid_of, pooled, tune
from acoustic_kd.decoding.workers import DecodeFunction
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import classes_of
from acoustic_kd.experiment.model_training import train_models
from acoustic_kd.experiment.models import AcousticScorer, System, member_directories
from acoustic_kd.experiment.outputs import frame_targets
from acoustic_kd.experiment.training_jobs import COPY_SETTINGS, check_windows, members
from acoustic_kd.language.pieces import Joiner
from acoustic_kd.reports.results import Measurement
from acoustic_kd.settings import shaping_settings
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import exclusive_lock, json_sha256, write_json, write_text
from acoustic_kd.system.parallel import Task
from acoustic_kd.system.steps import Step
from acoustic_kd.verbs.decode import (
    FrameAccuracy,
    decode_split,
    references_of,
    step_of,
    utterances_to_decode,
)
from study import check_options, command_of, given_settings, study_parser
from study_experiments import DATA_STAGES, experiment_of, link_to_shared, make_data, run_in_workers
from study_file import Study, read_study
from study_measures import Decoding, decode_all
from study_table import write_section
from wer_table import results_of, table

PROGRAM = "tools/wer_study.py"
WORDS_OF_ROWS = ("based_on", "ensemble", "kept", "note")  # the other keys of a row are settings
OWN_SETTINGS = ("train.members", "train.member_models")  # the study's own
# Settings of copies of train; the frames of dev do not depend on them.
OF_COPIES = (*COPY_SETTINGS, "features.transfer_vtlp_warps")


@dataclass(frozen=True)
class Row:
    """One row of a study.

    Attributes:
        based_on: the row that it is compared with, and whose changes it has, too; None for the
            first row.
        settings: `group.key` → value, with those of the rows that it is based on.
        ensemble: the rows whose models are averaged; no model is trained.
        kept: whether the recipe keeps the change.
        note: why, or why not.
    """

    factor: str
    name: str
    based_on: str | None
    settings: dict[str, Any]
    ensemble: tuple[str, ...]
    kept: bool
    note: str


def read_wer_study(path: Path) -> tuple[Study, dict[str, Row]]:
    """Read and check a study; returns also its rows by name."""
    study = read_study(path, Study, range(1, 100))
    check_own(f"{path}: settings", study.settings)
    rows: dict[str, Row] = {}
    for factor, of_factor in study.rows.items():
        for name, values in of_factor.items():
            if name in rows:
                raise UserError(f"{path}: two rows are named '{name}'; rename one")
            rows[name] = read_row(f"{path}: row '{name}'", factor, name, values or {}, rows)
    if not rows:
        raise UserError(f"{path}: rows has no row")
    return study, rows


def read_row(
    place: str, factor: str, name: str, values: dict[str, Any], above: dict[str, Row]
) -> Row:
    """Read and check a row.

    Args:
        place: what messages begin with.
        above: the rows above it, by name.
    """
    settings = {key: value for key, value in values.items() if key not in WORDS_OF_ROWS}
    for key in settings:
        if "." not in str(key):
            words = ", ".join(WORDS_OF_ROWS)
            raise UserError(f"{place}: '{key}' is neither a setting nor one of {words}")
    check_own(place, settings)
    base = values.get("based_on", next(iter(above), None))
    if (above or "based_on" in values) and base not in list(above):
        raise UserError(f"{place}: based_on is '{base}'; it must name a row above")
    averaged = values.get("ensemble", [])
    if not isinstance(averaged, list) or ("ensemble" in values and not averaged):
        raise UserError(f"{place}: ensemble must be a list of rows")
    if averaged and settings:
        raise UserError(f"{place}: an ensemble has no settings; it has the models of other rows")
    for other in averaged:
        if other not in list(above) or above[other].ensemble:
            raise UserError(f"{place}: ensemble has '{other}'; it must name rows above with models")
    if base is not None and above[base].ensemble and not averaged:
        raise UserError(f"{place}: based_on is '{base}', an ensemble; name a row with models")
    kept, note = values.get("kept", True), values.get("note", "")
    if not isinstance(kept, bool) or not isinstance(note, str):
        raise UserError(f"{place}: kept must be true or false, and note must be text")
    if not (kept or note):
        raise UserError(f"{place}: kept is false; give the reason in note")
    if base is not None:
        settings = above[base].settings | settings
    return Row(factor, name, base, settings, tuple(averaged), kept, note)


def check_own(place: str, settings: dict[str, Any]) -> None:
    """Refuse settings that the study itself makes."""
    for key in OWN_SETTINGS:
        if key in settings:
            raise UserError(f"{place}: {key} cannot be set; seeds is the number of models")


def main(arguments: list[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    options = study_parser(PROGRAM, __doc__).parse_intermixed_args(arguments)
    return exit_status(PROGRAM, lambda: run_study(options))


def run_study(options: argparse.Namespace) -> None:
    """Make all rows; write and print the table."""
    study, rows = read_wer_study(options.study)
    given = given_settings(options)
    check_own(str(options.study), given)
    study = replace(study, settings=study.settings | given)
    name, out = check_options(options)
    with exclusive_lock(out):
        experiments = experiments_of(study, rows, out)
        make_data({e.directory: e for e in experiments.values()}.values(), (*DATA_STAGES, "graph"))
        chosen = chosen_utterances(experiments)
        for row in rows.values():
            check_averaged(row, experiments)
        train(experiments, options.jobs)
        systems = [s for row in rows.values() for s in systems_of(row, experiments)]
        decode_all([system.decoding() for system in systems], options.jobs)
        results = results_of(study, rows.values(), systems, chosen)
        text = table(results, command_of(PROGRAM, options))
        write_json(out / "study.json", results)
        write_text(out / "study.md", text)
    print(text)
    if options.docs:
        write_section(options.docs, name, text)


def experiments_of(study: Study, rows: dict[str, Row], out: Path) -> dict[str, Experiment]:
    """Row → its experiment; an ensemble has that of the first row that it averages."""
    own = {"train.members": study.seeds, "train.member_models": []}
    return {
        name: experiment_of(study, rows[(row.ensemble or (name,))[0]].settings | own, out)
        for name, row in rows.items()
    }


def chosen_utterances(experiments: dict[str, Experiment]) -> dict[str, Utterance]:
    """The utterances of dev that are decoded, by id; they must be the same in all rows."""
    found = {
        name: {u.id: u for u in utterances_to_decode(experiment, "dev")}
        for name, experiment in experiments.items()
    }
    first, chosen = next(iter(found.items()))
    for name, others in found.items():
        if {u.id: u.text for u in others.values()} != {u.id: u.text for u in chosen.values()}:
            raise UserError(
                f"row '{name}': it has other dev utterances than row '{first}', so their word "
                "errors cannot be compared; change no setting that chooses dev"
            )
    return chosen


def check_averaged(row: Row, experiments: dict[str, Experiment]) -> None:
    """Refuse an ensemble whose models differ in the frames that they read or in their classes."""
    for other in row.ensemble[1:]:
        first, second = (experiments[name] for name in (row.ensemble[0], other))
        for key, value in shaping_settings(first.config, "features").items():
            if key not in OF_COPIES and shaping_settings(second.config, key)[key] != value:
                raise UserError(f"row '{row.name}': {key} differs in rows that it averages")
        if classes_of(first) != classes_of(second):
            raise UserError(f"row '{row.name}': the senones of rows that it averages differ")


def train(experiments: dict[str, Experiment], jobs: int) -> None:
    """Train the models of all rows, each on one core."""
    tasks: dict[Path, Task] = {}
    for row, experiment in experiments.items():
        for number, model in enumerate(members(experiment), start=1):
            name = f"member-{model.step.digest[:16]}"
            path = link_to_shared(model.step.directory, experiment, name)
            if path not in tasks and not model.step.is_current():
                title = f"{row}, model {number}"
                tasks[path] = Task(name, train_member, (experiment, number, title))
    run_in_workers(list(tasks.values()), jobs)


def train_member(experiment: Experiment, number: int, title: str) -> str:
    """Train one model; returns a line for the terminal."""
    check_windows(experiment)
    experiment.verify_inputs("train")
    model = members(experiment)[number - 1]
    named = replace(model, training_run=replace(model.training_run, name=title))
    train_models(experiment, [named])
    return title


@dataclass(frozen=True)
class RowSystem:
    """A system of a row: one of its models, or the mean of several.

    Attributes:
        seed: the number of the model; None for an ensemble.
        experiments: of its models' rows; the first one decodes.
    """

    row: str
    seed: int | None
    experiments: tuple[Experiment, ...]

    @property
    def models(self) -> list[tuple[Path, Experiment]]:
        """The directory of each model, with its experiment."""
        found = [(path, e) for e in self.experiments for path in member_directories(e)]
        return found if self.seed is None else [found[self.seed - 1]]

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories of its models."""
        return tuple(path for path, _ in self.models)

    @property
    def directory(self) -> Path:
        """Where its measurement is."""
        names = [experiment.directory.name for experiment in self.experiments]
        folder = f"ensemble-{json_sha256(names)[:8]}" if self.seed is None else f"{self.seed:02d}"
        return self.experiments[0].path("decode") / folder

    def step(self) -> Step:
        """The record of everything that shapes the measurement."""
        system = System("part of dev", "baseline", self.directories)
        return replace(step_of(self.experiments[0], system), directory=self.directory)

    def decoding(self) -> Decoding:
        """The work of measuring it."""
        return Decoding(self.experiments[0], self.step(), partial(measure, self))


def systems_of(row: Row, experiments: dict[str, Experiment]) -> list[RowSystem]:
    """The systems of a row: a model for each seed, or an ensemble."""
    if row.ensemble:
        return [RowSystem(row.name, None, tuple(experiments[name] for name in row.ensemble))]
    own = experiments[row.name]
    return [RowSystem(row.name, n, (own,)) for n in range(1, own.config.train.members + 1)]


def measure(system: RowSystem, decode: DecodeFunction) -> str:
    """Decode dev with a system; returns a line for the terminal.

    Writes `measurement.json`, the recognised words `dev.txt`, and `dev.alignment.txt`, which has
    them below the words that were spoken.
    """
    experiment, out = system.experiments[0], system.directory
    grid = experiment.config.decode.lm_weights, experiment.config.decode.insertion_penalties
    title = f"{system.row}, {'ensemble' if system.seed is None else f'model {system.seed}'}"
    scorer = AcousticScorer.of(experiment, System(title, "baseline", system.directories))
    accuracy = FrameAccuracy(frame_targets(experiment, "dev"), None)
    decoded = decode_split(experiment, "dev", scorer, decode, grid_of(*grid), accuracy, title)
    references = references_of(experiment, "dev", decoded)
    join = Joiner.of(experiment.path("graph"))
    recognised = {name: result.words for name, result in decoded.items()}
    tuned = tune(recognised, references, *grid, join)
    best = grid_of(*grid).index((tuned.lm_weight, tuned.penalty))
    words = {name: join(labels[best]) for name, labels in recognised.items()}
    result = Measurement(title, "baseline", tuned.lm_weight, tuned.penalty)
    counts = error_counts(references, words)
    result.add("dev", pooled(counts), accuracy.frames, decoded.values())
    utterances = dict(zip(references, counts[:, :2].tolist(), strict=True))
    lines = (f"{' '.join([name, *spoken])}\n" for name, spoken in words.items())
    write_text(out / "dev.txt", "".join(lines))
    write_alignments(out / "dev.alignment.txt", references, words)
    write_json(out / "measurement.json", asdict(result) | {"utterances": utterances})
    edges = "".join(f"; the best is at the edge of {setting}" for setting in tuned.edge_settings)
    return (
        f"{title}: WER {result.wer['dev']['percent']:.2f} %, frame accuracy "
        f"{result.accuracy('dev'):.2f} %, LM weight {tuned.lm_weight:g}, penalty "
        f"{tuned.penalty:g}{edges}"
    )


if __name__ == "__main__":
    sys.exit(main())
