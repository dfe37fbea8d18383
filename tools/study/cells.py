"""The cells of the study: at which temperature and how soft targets are stored."""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from acoustic_kd.config import ENCODINGS, Config, SoftTargetConfig
from acoustic_kd.errors import UserError
from acoustic_kd.ranges import check_ranges
from acoustic_kd.settings import fill, read_yaml
from acoustic_kd.soft_targets.encoding import Encoding

PARTS = ("measure", "train")
ORDER = ("dense", *(name for name in ENCODINGS if name != "dense"))  # of a table's rows


@dataclass(frozen=True)
class Row:
    """A row of the settings file; its cells are all combinations (`SoftTargetConfig` has more)."""

    temperature: tuple[float, ...] = (SoftTargetConfig.temperature,)
    encoding: tuple[str, ...] = (SoftTargetConfig.encoding,)
    kept_classes: tuple[int, ...] = (SoftTargetConfig.kept_classes,)
    kept_mass: tuple[float, ...] = (SoftTargetConfig.kept_mass,)
    bits: tuple[int, ...] = (SoftTargetConfig.bits,)


@dataclass(frozen=True)
class Cell:
    """One way to store soft targets; the encoding is `of` the experiment's classes."""

    temperature: float
    encoding: Encoding

    @property
    def name(self) -> str:
        """Where its store and its models lie."""
        return f"T{self.temperature:g}/{slug(self.encoding)}"

    @property
    def order(self) -> tuple:
        """Cells sorted by it stand as in the tables."""
        one = self.encoding
        return (
            *(self.temperature, ORDER.index(one.name)),
            *(one.kept_mass, one.kept_classes, -one.bits),
        )


def slug(encoding: Encoding) -> str:
    """An encoding as part of a path, such as `top-p-0.98-32-8bit`."""
    words = [encoding.name]
    words += [f"{encoding.kept_mass:g}"] if encoding.name == "top-p" else []
    words += [] if encoding.name == "dense" else [f"{encoding.kept_classes}"]
    return "-".join([*words, f"{encoding.bits}bit"])


def read_cells(path: Path, config: Config, count: int) -> dict[Cell, bool]:
    """The cells of a settings file in the order of the tables, and which are trained on.

    Args:
        config: of the experiment; gives the seed of the draws.
        count: K, its classes.

    Raises:
        UserError: the file is missing or malformed, or a setting is unknown or out of range.
    """
    values = read_yaml(path)
    if not isinstance(values, dict) or not set(values) <= set(PARTS):
        raise UserError(f"{path}: expected the lists 'measure' and 'train' and nothing else")
    cells: dict[Cell, bool] = {}
    for part in PARTS:
        rows = values.get(part) or []
        if not isinstance(rows, list):
            raise UserError(f"{path}: {part} must be a list of rows")
        for number, row in enumerate(rows, start=1):
            where = f"{part}.{number}."
            for cell in _cells(path, where, fill(Row, row, str(path), where), config, count):
                cells[cell] = cells.get(cell, False) or part == "train"
    if not cells:
        raise UserError(f"{path}: there are no cells")
    return {cell: cells[cell] for cell in sorted(cells, key=lambda cell: cell.order)}


def _cells(path: Path, where: str, row: Row, config: Config, count: int) -> list[Cell]:
    cells = []
    for values in product(*vars(row).values()):
        soft = replace(config.soft_targets, **dict(zip(vars(row), values, strict=True)))
        try:
            check_ranges(replace(config, soft_targets=soft))
        except UserError as error:
            raise UserError(f"{path}: {str(error).replace('soft_targets.', where)}") from None
        encoding = Encoding(
            soft.encoding, soft.kept_classes, soft.kept_mass, soft.bits, soft.seed
        ).of(count)
        cells.append(Cell(soft.temperature, encoding))
    return cells
