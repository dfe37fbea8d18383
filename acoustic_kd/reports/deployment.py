"""What distilling and quantising save together: size, speed and errors of models by format."""

from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import TypedDict

from acoustic_kd.reports.charts import Series, lines
from acoustic_kd.reports.experiment_files import ExperimentFiles
from acoustic_kd.reports.page import Part, Picture, Section, Table
from acoustic_kd.system.files import read_json
from acoustic_kd.system.records import read_done

FILE = "deployment.json"  # in the directory of an experiment; tools/deployment.py writes it
CAPTION = (
    "On the test split, in percent; 95 %: a bootstrap interval. × real time: seconds of the "
    "network for each second of audio, on one core. float32 and int8: in ONNX Runtime; bfloat16: "
    "in PyTorch."
)


class Deployment(TypedDict):
    """A row of `deployment.json`: a system in one format; digest: of its decoding."""

    system: str
    digest: str
    format: str
    megabytes: float
    real_time_factor: float
    frame_accuracy: float
    wer: float
    ci95: tuple[float, float]


def read_deployment(directory: Path) -> list[Deployment]:
    """The rows of an experiment that are up to date."""
    path = directory / FILE
    if not path.is_file():
        return []
    rows: list[Deployment] = read_json(path, list[Deployment], "sizes and speeds of models")
    return [row for row in rows if row["digest"] == decode_digest(directory, row["system"])]


def decode_digest(directory: Path, system: str) -> str:
    """The digest of a system's decoding: rows of another one are out of date."""
    return str((read_done(directory / "decode" / system) or {}).get("digest"))


def deployment_rows(rows: Sequence[Deployment]) -> list[list[str]]:
    """Heading and one row for each system and format; nothing if there are none."""
    heading = ["system", "format", "MB", "× real time", "frame acc. test", "WER test", "95 %"]
    cells = [
        [
            row["system"],
            row["format"],
            f"{row['megabytes']:.2f}",
            f"{row['real_time_factor']:.4f}",
            f"{row['frame_accuracy']:.2f}",
            f"{row['wer']:.2f}",
            f"{row['ci95'][0]:.1f} … {row['ci95'][1]:.1f}",
        ]
        for row in rows
    ]
    return [heading, *cells] if cells else []


def deployment_section(experiment: ExperimentFiles) -> Section:
    """The table, and word errors against the size of the model; nothing for folds."""
    rows = read_deployment(experiment.directories[0])
    if not rows or len(experiment.directories) > 1:
        return Section("", "", [])
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        points.setdefault(row["format"], []).append((log10(row["megabytes"]), row["wer"]))
    series = [Series(name, sorted(places), n) for n, (name, places) in enumerate(points.items())]
    sizes = [x for places in points.values() for x, _ in places]
    ticks = [(log10(v), f"{v:g}") for v in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)]
    near = [tick for tick in ticks if min(sizes) - 0.3 <= tick[0] <= max(sizes) + 0.3]
    title = "WER on test against the size of the model"
    parts: list[Part] = [
        Table(deployment_rows(rows), CAPTION),
        Picture(title, lines(title, "MB", "WER, %", series, x_ticks=near)),
    ]
    return Section("deployment", "Size and speed by format", parts)
