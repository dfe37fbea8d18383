"""Experiment trackers, by Accelerate: each model is a run, which a resumed training continues."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from acoustic_kd.system.errors import UserError, first_line, installation, warn
from acoustic_kd.system.files import take_turn, write_text

RUN_ID = "tracker.txt"  # the tracker's name, and the id that it gave the run
# Where a tracker's own object has that id, if not in `id`.
ID_OF = {"aim": "hash", "dvclive": "dir", "mlflow": "info.run_id", "tensorboard": "log_dir",
         "trackio": "name"}  # fmt: skip
# How a tracker adds a report, from its module, its own object, the HTML page and its text.
ADD_REPORT: dict[str, Callable[[Any, Any, Path, str], Any]] = {
    "aim": lambda aim, run, page, text: run.track(aim.Text(text), name="report"),
    "clearml": lambda _, run, page, text: run.upload_artifact("report", page),
    "comet_ml": lambda _, run, page, text: run.log_asset(str(page)),
    "dvclive": lambda _, run, page, text: run.log_artifact(str(page)),
    "mlflow": lambda mlflow, run, page, text: mlflow.log_artifact(str(page)),
    "swanlab": lambda swanlab, run, page, text: run.log({"report": swanlab.Text(text)}),
    "tensorboard": lambda _, run, page, text: run.add_text("report", text),
    "trackio": lambda trackio, run, page, text: run.log({"report": trackio.Markdown(text)}),
    "wandb": lambda wandb, run, page, text: run.log({"report": wandb.Html(str(page))}),
}


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers show it; those that write files write them below `folder`."""

    project: str
    name: str
    group: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path("logs")


class Tracker:
    """A started run. A tracker that fails gives a warning and ends; the training does not."""

    def __init__(self, kind: str | None, run: TrackedRun, id_file: Path, step: int = 0) -> None:
        """Begin a run of tracker `kind` (None: none), or continue that of `id_file` at `step`."""
        self._kind, self._name = kind or "", run.name
        self._tracker = _started(kind, run, id_file, step) if kind else None

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log values by name, of a step of the training, or the final ones (None)."""
        self._attempt(lambda tracker: tracker.log(dict(values), step=step))

    def add_report(self, page: Path, text: str) -> None:
        """Add a report: the HTML page, or where the tracker shows none, the same in Markdown."""
        add = ADD_REPORT.get(self._kind)
        self._attempt(lambda t: add and add(import_module(self._kind), t.tracker, page, text))

    def close(self) -> None:
        """End the run; some trackers upload what remains."""
        self._attempt(lambda tracker: tracker.finish())

    def _attempt(self, action: Callable[[Any], Any]) -> None:
        try:
            if self._tracker is not None:
                action(self._tracker)
        except Exception as error:  # trackers raise errors of many kinds
            self._tracker = None
            reason = first_line(error)
            warn(f"{self._name}: {self._kind} failed and logs nothing from here on ({reason})")


def _started(kind: str, run: TrackedRun, id_file: Path, step: int) -> Any:
    """An `accelerate.tracking.GeneralTracker` that has begun a run, or continues one."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # slow to import

    given = id_file.read_text("utf-8", errors="replace") if id_file.exists() else ""
    known, _, run_id = given.partition(" ")
    resumed = run_id if known == kind else None
    resume = "allow" if resumed else "never"
    shown = {"name": run.name, "group": run.group or None, "resume": resume}
    arguments: dict[str, dict[str, Any]] = {
        "aim": {"logging_dir": run.folder, "experiment": run.project, "run_hash": resumed},
        "clearml": {"task_name": run.name, "reuse_last_task_id": resumed or False,
                    "continue_last_task": 0 if resumed else False},  # 0: steps are not shifted
        "comet_ml": {"experiment_key": resumed},
        "dvclive": {"dir": str(run.folder / run.name), "resume": bool(resumed),
                    "save_dvc_exp": False, "dvcyaml": None},  # several models, one repository
        "mlflow": {"run_name": run.name, "run_id": resumed},
        "swanlab": shown | {"id": resumed},
        # What was logged after the checkpoint is hidden, and logged again.
        "tensorboard": {"logging_dir": run.folder, "purge_step": step},
        "trackio": shown,
        "wandb": shown | {"id": resumed},
    }  # fmt: skip
    # Accelerate's first argument is the name of the run here, else the project.
    title = run.name if kind in ("aim", "tensorboard") else run.project
    tracker = LOGGER_TYPE_TO_CLASS[kind](title, **arguments[kind])
    setting = f"setting 'train.tracker' is {kind}, which"
    try:
        with take_turn(run.folder):  # only one of several models makes the project
            tracker.start()
        if kind == "comet_ml":  # its start takes no name
            tracker.tracker.set_name(run.name)
        if not (resumed and kind in ("mlflow", "tensorboard")):  # the others accept them again
            values = run.settings.items()  # not all trackers accept lists and null
            flat = {k: v if isinstance(v, (int, float, str)) else json.dumps(v) for k, v in values}
            tracker.store_init_configuration(flat)
    except ImportError:
        how = installation(kind) if kind == "tensorboard" else f"install the package {kind}"
        raise UserError(f"{setting} is not installed: {how}") from None
    except Exception as error:
        text = f"{setting} cannot start ({first_line(error)}); log in, start its server or set null"
        advice = f", or delete {id_file} to begin another run" if resumed else ""
        raise UserError(text + advice) from None
    write_text(id_file, f"{kind} {attrgetter(ID_OF.get(kind, 'id'))(tracker.tracker)}")
    return tracker
