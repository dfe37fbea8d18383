"""An experiment: its settings, its directory and its stages."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from acoustic_kd.settings import NEUTRAL, Config, stage_settings
from acoustic_kd.system.environment import is_main_process
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.records import verify_files
from acoustic_kd.system.steps import Step, require_done

Part = TypeVar("Part")


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe.

    Attributes:
        name: as on the command line.
        folder: its directory in the experiment's.
        inputs: the stages whose output shapes its own, unless a later input has it already.
        also_reads: further stages that it reads.
        sources: `module:function` below `acoustic_kd` that returns the digests of files outside the
            experiment that the stage reads, by the settings.
        format: raised when the code writes something else, so that older output is made again.
        whole: as in `Step`.
        distributed: whether it may run on several processes.
        beside: files that it writes into the experiment's own directory.
        parts: the parts that several runs can divide (`--shard`), in a word; "" if it has none.
        own_checks: as in `Step`.
    """

    name: str
    folder: str
    inputs: tuple[str, ...]
    also_reads: tuple[str, ...] = ()
    sources: str | None = None
    format: int = 1
    whole: bool = True
    distributed: bool = False
    beside: tuple[str, ...] = ()
    parts: str = ""
    own_checks: str = ""

    def run(self, experiment: "Experiment") -> None:
        """Run the stage's verb, `verbs/NAME.py`; it writes under `experiment.path(name)`.

        The module is imported here, so a stage that is up to date imports none of it.
        """
        _attribute(f"verbs.{self.name.replace('-', '_')}:run")(experiment)

    def source_digests(self, config: Config) -> dict[str, str]:
        """The digests of the files outside the experiment that the stage reads."""
        return {} if self.sources is None else _attribute(self.sources)(config)


def _attribute(name: str) -> Callable[..., Any]:
    """Import `module:name`; the module is below `acoustic_kd`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"acoustic_kd.{module}"), attribute)


@dataclass(frozen=True)
class Experiment:
    """Settings and the directory of all output.

    Attributes:
        stages: all stages by name, in order.
        processes: the required number of processes, or None.
        command: the command that makes the experiment, for its report.
        share: (i, n): this run makes every nth part of a stage from the ith on; None: all parts.
        verified: files that were compared with their records, so that a run does it once.
    """

    config: Config
    directory: Path
    stages: dict[str, Stage]
    processes: int | None = None
    command: str = ""
    share: tuple[int, int] | None = None
    verified: set[Path] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self) -> None:
        model = self.config.align.model
        if model and Path(model).resolve().is_relative_to(self.directory.resolve()):
            raise UserError(
                f"setting 'align.model' is {model}, a part of this experiment; give another "
                "--exp-dir, because these models were trained on this experiment's own alignment"
            )

    def share_of(self, parts: Sequence[Part]) -> Sequence[Part]:
        """The parts of a stage that this run makes: all, or its share."""
        first, step = self.share or (0, 1)
        return parts[first::step]

    def path(self, stage: str) -> Path:
        """The directory of a stage."""
        return self.directory / self.stages[stage].folder

    def step(self, name: str) -> Step:
        """The step of a stage, with the digests of its inputs on disk, which must be up to date."""
        stage = self.stages[name]
        records: dict[str, dict[str, Any]] = {}
        inputs = {other: self._done(other, records)["digest"] for other in self.inputs(name)}
        inputs |= stage.source_digests(self.config)
        beside = tuple(self.directory / file for file in stage.beside)
        settings = self._settings(stage)
        return Step(
            name, self.path(name), settings, inputs, stage.whole, beside, NEUTRAL, stage.own_checks
        )

    def done(self, name: str) -> dict[str, Any]:
        """The record of a stage whose output is about to be read; it must be up to date."""
        return self._done(name, {})

    def _done(self, name: str, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """As `done`; `records` has the stages that were checked already."""
        if name in records:
            return records[name]
        stage = self.stages[name]
        how = f"stage {self.number(name)} ({name})"
        record = require_done(self.path(name), name, self._settings(stage), how, NEUTRAL)
        for other in self.inputs(name):
            if record["inputs"].get(other) != self._done(other, records)["digest"]:
                raise UserError(
                    f"{self.path(name)}: '{name}' was made from an older '{other}'; run {how} again"
                )
        records[name] = record
        return record

    def verify(self, name: str, *patterns: str) -> None:
        """Compare files of a stage that are about to be read with their check sums, once a run.

        Of several processes that work together, the first one does it.

        Args:
            patterns: as for `compare_files`; none: all files.
        """
        if is_main_process():
            how = f"stage {self.number(name)} ({name})"
            # Not all files with check sums of their own are needed; their readers miss them.
            missing = bool(self.stages[name].own_checks)
            verify_files(self.path(name), patterns or ("*",), self.verified, how, missing)

    def verify_inputs(self, name: str) -> None:
        """`verify` all files of the stages that a stage reads."""
        for other in (*self.inputs(name), *self._used(name, self.stages[name].also_reads)):
            self.verify(other)

    def inputs(self, name: str) -> tuple[str, ...]:
        """The stages whose output shapes that of a stage."""
        return self._used(name, self.stages[name].inputs)

    def _used(self, name: str, others: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `others` that a stage reads, by the settings."""
        unused = set() if self.config.features.has_copies else {"copies"}
        if name == "soft-targets" and self.config.soft_targets.external_posteriors:
            unused.add("train")  # external posteriors replace the members' predictions
        return tuple(other for other in others if other not in unused)

    def number(self, name: str) -> int:
        """The place of a stage in the recipe."""
        return list(self.stages).index(name)

    def _settings(self, stage: Stage) -> dict[str, Any]:
        return stage_settings(self.config, stage.name) | {"format": stage.format}
