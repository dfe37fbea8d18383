"""What a page shows of an experiment, read from its directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from acoustic_kd.corpora.utterances import Utterance, read_manifest
from acoustic_kd.decoding.scoring import read_transcripts
from acoustic_kd.reports.page import NONE
from acoustic_kd.soft_targets.verify import StoreReport, examine
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_json, read_jsonl
from acoustic_kd.system.steps import read_done

# What models are called → their folder.
PLACES = {"member": "members", "control": "distilled/control", "distilled": "distilled"}
KIND_OF = {
    "member": "baseline",
    "control": "control",
    "ensemble": "ensemble",
    "distilled": "distilled",
}
NEEDED = ("systems", "gain_kept", "gain_kept_ci95", "differences", "each_model")  # of results.json


@dataclass(frozen=True)
class ExperimentFiles:
    """An experiment that has results.

    Attributes:
        name: that it goes by on the page.
        results: the contents of `results.json`.
    """

    name: str
    directory: Path
    results: Mapping[str, Any]

    @cached_property
    def models(self) -> dict[str, str]:
        """Every system that was measured → its kind: `member-01` → baseline."""
        names = [model["name"] for model in self.results["each_model"]]
        return {name: KIND_OF[name.partition("-")[0]] for name in names}

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Of each single model, where it lies."""
        parts = {name: name.partition("-") for name in self.models}
        return {
            name: self.directory / PLACES[kind] / number
            for name, (kind, _, number) in parts.items()
            if kind in PLACES
        }

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Those that shaped it, as the records of its stages have them."""
        found: dict[str, Any] = {}
        for path in sorted(self.directory.glob("*/done.json")):
            found |= (read_done(path.parent) or {}).get("settings", {})
        found.pop("format", None)
        return found

    @cached_property
    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """Model → the rows of its `metrics.jsonl`, where there are any."""
        paths = {name: folder / "metrics.jsonl" for name, folder in self.folders.items()}
        found = {name: read_jsonl(path) for name, path in paths.items() if path.is_file()}
        return {name: rows for name, rows in found.items() if rows}

    @cached_property
    def frames(self) -> dict[str, list[dict[str, Any]]]:
        """Kind of system → the `frames.json` of its systems; empty where one of them has none."""
        found: dict[str, list[dict[str, Any]]] = {}
        for name, kind in self.models.items():
            path = self.directory / "decode" / name / "frames.json"
            if not path.is_file():
                return {}
            found.setdefault(kind, []).append(read_json(path))
        return found

    @cached_property
    def soft_targets(self) -> StoreReport:
        """What the manifest of its soft targets says."""
        return examine(self.directory / "soft_targets")

    @cached_property
    def graph(self) -> dict[str, Any]:
        """How large the decoding graph is, as far as that is known."""
        path = self.directory / "graph" / "graph.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def _test(self) -> list[Utterance]:
        """The test utterances that were decoded, if what says so is there."""
        path = self.directory / "corpus" / "test.jsonl"
        if not path.is_file() or not self.transcripts:
            return []
        return [u for u in read_manifest(path) if u.id in self.transcripts["ensemble"]]

    @property
    def references(self) -> dict[str, list[str]]:
        """Test utterance → words; nothing where the manifest or what was recognised is gone."""
        return {utterance.id: (utterance.text or "").split() for utterance in self._test}

    @property
    def speakers(self) -> dict[str, str]:
        """Test utterance → who speaks, likewise."""
        return {utterance.id: utterance.speaker for utterance in self._test}

    @cached_property
    def measurements(self) -> dict[str, dict[str, Any]]:
        """System → its `measurement.json`; nothing where one of them has none."""
        paths = {n: self.directory / "decode" / n / "measurement.json" for n in self.models}
        if not all(path.is_file() for path in paths.values()):
            return {}
        return {name: read_json(path) for name, path in paths.items()}

    @cached_property
    def transcripts(self) -> dict[str, dict[str, list[str]]]:
        """System → test utterance → recognised words; nothing where a system has none."""
        paths = {name: self.directory / "decode" / name / "test.txt" for name in self.models}
        if not all(path.is_file() for path in paths.values()):
            return {}
        return {name: read_transcripts(path) for name, path in paths.items()}

    def of_kind(self, kind: str) -> list[str]:
        """The systems of a kind."""
        return [name for name, its in self.models.items() if its == kind]


def short_names(places: Sequence[Path]) -> list[str]:
    """What experiments go by: the last parts of their paths that tell them apart.

    Raises:
        UserError: one is given twice.
    """
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place}: given twice; an experiment differs from itself in nothing")
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return ["/".join(place.parts[-depth:]) for place in places]


def differing_settings(sources: Sequence[ExperimentFiles]) -> list[str]:
    """The settings in which experiments differ."""
    keys = sorted(set().union(*(source.settings for source in sources)))
    first = sources[0].settings
    return [
        key
        for key in keys
        if any(s.settings.get(key, NONE) != first.get(key, NONE) for s in sources)
    ]


def read_source(directory: Path, name: str) -> ExperimentFiles:
    """A finished experiment.

    Raises:
        UserError: there is none, it is not finished or out of date, or its results are of another
            kind.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such experiment")
    path = directory / "results.json"
    report = read_done(directory / "report")
    begun = (directory / "report" / "started.json").exists() and report is None
    if begun or not path.is_file():
        raise UserError(f"{directory}: the experiment is not finished; run stage report first")
    decoded = (read_done(directory / "decode") or {}).get("digest")
    if report is not None and report["inputs"].get("decode") != decoded:
        raise UserError(
            f"{directory}: its results are older than what is decoded; run stage report"
        )
    results = read_json(path)
    if not isinstance(results, dict) or results.get("corpus") == "mnist":
        raise UserError(f"{path}: not of the speech recipe, so there is nothing to compare")
    if missing := [key for key in NEEDED if key not in results]:
        raise UserError(
            f"{path}: has no '{missing[0]}'; an older version made it: run stage report"
        )
    return ExperimentFiles(name, directory, results)
