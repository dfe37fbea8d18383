"""What a page shows of an experiment, or of several folds that are pooled, read from its files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.utterances import Utterance, read_manifest
from acoustic_kd.decoding.scoring import read_transcripts
from acoustic_kd.reports.page import NONE
from acoustic_kd.reports.results import Measurement, kind_of
from acoustic_kd.reports.stored import read_frame_figures, read_measurement, read_results
from acoustic_kd.settings import NEUTRAL
from acoustic_kd.soft_targets.verify import StoreReport, examine
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json
from acoustic_kd.system.records import read_done, verify_files
from acoustic_kd.training.schedule import read_metrics

# A model's name without its number → the folder with the models of that name.
MODEL_FOLDERS = {"member": "members", "control": "distilled", "distilled": "distilled"}


@dataclass(frozen=True)
class ExperimentFiles:
    """An experiment that has results.

    Attributes:
        name: what the page calls it.
        directories: one, or that of each fold.
        results: the contents of `results.json`, pooled over the folds.
    """

    name: str
    directories: Sequence[Path]
    results: Mapping[str, Any]

    @cached_property
    def folds(self) -> list["ExperimentFiles"]:
        """Each fold as an experiment of its own; without folds, the experiment itself."""
        if len(self.directories) == 1:
            return [self]
        names = short_names([directory.resolve() for directory in self.directories])
        return [
            ExperimentFiles(name, [directory], read_results(directory))
            for name, directory in zip(names, self.directories, strict=True)
        ]

    @cached_property
    def models(self) -> dict[str, str]:
        """Every system that was measured → its kind: `member-01` → baseline."""
        return {model["name"]: kind_of(model) for model in self.results["each_model"]}

    def of_kind(self, kind: str) -> list[str]:
        """The systems of a kind."""
        return [name for name, model_kind in self.models.items() if model_kind == kind]

    def model_directories(self, kind: str) -> list[Path]:
        """The directories of the single models of a kind, of all folds."""
        parts = [name.split("-") for name in self.of_kind(kind)]
        return [
            directory / Path(MODEL_FOLDERS[name], *rest, "control" if name == "control" else "")
            for directory in self.directories
            for name, *rest in parts
            if name in MODEL_FOLDERS
        ]

    @cached_property
    def curves(self) -> dict[str, list[list[dict[str, Any]]]]:
        """Kind → the rows of each of its models' `metrics.jsonl`, where there are any."""
        curves: dict[str, list[list[dict[str, Any]]]] = {}
        for kind in dict.fromkeys(self.models.values()):
            paths = [folder / "metrics.jsonl" for folder in self.model_directories(kind)]
            rows = [read_metrics(path.parent) for path in paths if path.is_file()]
            curves[kind] = [curve for curve in rows if curve]
        return curves

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that shaped it and are the same in all folds, from its stages' records."""
        folds = []
        for directory in self.directories:
            settings: dict[str, Any] = {}
            for path in sorted(directory.glob("*/done.json")):
                settings |= (read_done(path.parent) or {}).get("settings", {})
            settings.pop("format", None)
            folds.append(settings)
        return {
            key: value
            for key, value in folds[0].items()
            if all(settings.get(key, NONE) == value for settings in folds)
        }

    def _decoded(self, file: str) -> list[tuple[str, Path]]:
        """(system, path) of a file that decoding wrote; empty where one of them is missing."""
        paths = [
            (name, directory / "decode" / name / file)
            for directory in self.directories
            for name in self.models
        ]
        return paths if all(path.is_file() for _, path in paths) else []

    @cached_property
    def frames(self) -> dict[str, list[dict[str, Any]]]:
        """Kind of system → the `frames.json` of its systems; empty where one is missing."""
        frames: dict[str, list[dict[str, Any]]] = {}
        for name, path in self._decoded("frames.json"):
            frames.setdefault(self.models[name], []).append(read_frame_figures(path))
        return frames

    @cached_property
    def measurements(self) -> dict[str, Measurement]:
        """System → its measurement, without folds; empty where one is missing."""
        paths = self._decoded("measurement.json")
        return {name: read_measurement(path.parent) for name, path in paths}

    @cached_property
    def transcripts(self) -> dict[str, dict[str, list[str]]]:
        """System → test utterance → recognised words; empty where those of a system are missing."""
        transcripts: dict[str, dict[str, list[str]]] = {}
        for name, path in self._decoded("test.txt"):
            transcripts.setdefault(name, {}).update(read_transcripts(path))
        return transcripts

    @cached_property
    def _test(self) -> list[Utterance]:
        """The test utterances that were decoded; none where manifest or transcripts are missing."""
        paths = [directory / "corpus" / "test.jsonl" for directory in self.directories]
        if not self.transcripts or not all(path.is_file() for path in paths):
            return []
        utterances = [utterance for path in paths for utterance in read_manifest(path)]
        return [u for u in utterances if u.id in self.transcripts["ensemble"]]

    @property
    def references(self) -> dict[str, list[str]]:
        """Test utterance → words."""
        return {utterance.id: (utterance.text or "").split() for utterance in self._test}

    @property
    def speakers(self) -> dict[str, str]:
        """Test utterance → speaker."""
        return {utterance.id: utterance.speaker for utterance in self._test}

    @cached_property
    def soft_targets(self) -> StoreReport:
        """What the manifest of the soft targets says, without folds."""
        return examine(self.directories[0] / "soft_targets")

    @cached_property
    def graph(self) -> dict[str, Any]:
        """The size of the decoding graph, without folds; empty where it is not known."""
        path = self.directories[0] / "graph" / "graph.json"
        return read_json(path, dict[str, float]) if path.is_file() else {}


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of experiments: as many last parts of their paths as tell them apart."""
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path}: given twice; give each experiment once")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]


def side_by_side(
    experiments: Sequence[ExperimentFiles], rows_of: Callable[[ExperimentFiles], list[list[str]]]
) -> list[list[str]]:
    """One table of the tables of experiments, the first column their names if they are several.

    Args:
        rows_of: an experiment's table, its heading first.
    """
    table = [["", *rows_of(experiments[0])[0]]]
    table += [[e.name, *row] for e in experiments for row in rows_of(e)[1:]]
    return table if len(experiments) > 1 else [row[1:] for row in table]


def differing_settings(experiments: Sequence[ExperimentFiles]) -> list[str]:
    """The settings in which experiments differ."""
    keys = sorted(set().union(*(experiment.settings for experiment in experiments)))

    def value(experiment: ExperimentFiles, key: str) -> Any:
        return experiment.settings.get(key, NEUTRAL.get(key, NONE))

    first = experiments[0]
    return [key for key in keys if any(value(e, key) != value(first, key) for e in experiments)]


def read_experiment(directory: Path, name: str) -> ExperimentFiles:
    """The files of an experiment, which must be finished and up to date."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such experiment")
    path = directory / "results.json"
    report = read_done(directory / "report")
    begun = (directory / "report" / "started.json").exists() and report is None
    if begun or not path.is_file():
        raise UserError(f"{directory}: the experiment is not finished; run its stage report first")
    decoded = (read_done(directory / "decode") or {}).get("digest")
    if report is not None and report["inputs"].get("decode") != decoded:
        text = "results.json is older than the decoded test set; run the stage report"
        raise UserError(f"{directory}: {text}")
    verify_experiment(directory)
    return ExperimentFiles(name, [directory], read_results(directory))


# What reports read of an experiment: folder of a stage → patterns of its files.
READ_FILES = {
    "corpus": ("test.jsonl",),
    "members": ("*/metrics.jsonl", "*/model.json"),
    "soft_targets": ("*.json",),
    "distilled": ("*/metrics.jsonl", "*/model.json"),
    "graph": ("graph.json",),
    "decode": ("*.json", "*/test.txt"),
    "report": ("../results.json",),
}


def verify_experiment(directory: Path) -> None:
    """Compare the files that reports read with their check sums; some may be missing."""
    for folder, patterns in READ_FILES.items():
        verify_files(directory / folder, patterns, missing=True)
