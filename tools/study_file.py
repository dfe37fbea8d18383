"""The YAML file of a study."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from acoustic_kd.system.errors import UserError
from acoustic_kd.system.yaml_dataclasses import read_yaml
from study_table import MEASURES, SYSTEMS, T95

SEEDS = range(2, max(T95) + 1)


@dataclass(frozen=True)
class Study:
    """A study's YAML file.

    Attributes:
        title: a description of what all rows share.
        config: name of the package's settings, or a file.
        settings: `group.key` → value, of all rows.
        seeds: number of experiments of each row.
        rows: factor → name of a row → the settings that it changes.
    """

    title: str
    config: str
    settings: dict[str, Any]
    seeds: int
    rows: dict[str, dict[str, dict[str, Any] | None]]


@dataclass(frozen=True)
class Comparison(Study):
    """A study of members, ensemble, control and distilled model.

    Attributes:
        columns: of the table, such as `distilled wer`: one of SYSTEMS and one of MEASURES.
    """

    columns: tuple[str, ...] = tuple(f"{system} dev" for system in SYSTEMS)


StudyKind = TypeVar("StudyKind", bound=Study)


def read_study(path: Path, kind: type[StudyKind] = Study, seeds: range = SEEDS) -> StudyKind:
    """Read and check a study.

    Args:
        kind: the class of such studies.
        seeds: the possible numbers of seeds.
    """
    values = read_yaml(path)
    names = [field.name for field in fields(kind)]
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not isinstance(values, dict) or not needed <= set(values) <= set(names):
        raise UserError(f"{path}: a study has {', '.join(names)} and nothing else")
    study = kind(**values)
    if type(study.seeds) is not int or study.seeds not in seeds:
        limits = f"{seeds[0]} to {seeds[-1]}"
        raise UserError(f"{path}: seeds is {study.seeds}; it must be a number from {limits}")
    for name in ("title", "config"):
        if not isinstance(value := getattr(study, name), str):
            raise UserError(f"{path}: {name} must be text, it is {value!r}")
    parts: dict[str, Any] = {"settings": study.settings, "rows": study.rows}
    for factor, rows in study.rows.items() if isinstance(study.rows, dict) else ():
        parts[f"rows of {factor}"] = rows
        for row, values in rows.items() if isinstance(rows, dict) else ():
            parts[f"row '{row}'"] = {} if values is None else values
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise UserError(f"{path}: {name} must be a mapping, it is {part!r}")
    return study


def read_comparison(path: Path) -> Comparison:
    """Read and check a study whose rows have members, ensemble, control and distilled model."""
    study = read_study(path, Comparison)
    known = [f"{system} {measure}" for measure in MEASURES for system in SYSTEMS]
    known.remove("ensemble train")
    columns = study.columns if isinstance(study.columns, list | tuple) else [study.columns]
    if wrong := [column for column in columns if column not in known]:
        raise UserError(f"{path}: columns has {wrong[0]!r}; it may have {', '.join(known)}")
    if not any(column.startswith("distilled") for column in columns):
        raise UserError(f"{path}: columns has no figure of the distilled model; name one")
    return study
