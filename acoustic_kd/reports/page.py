"""The parts of a page, and the page as one HTML file without scripts or external links.

Text is escaped by the template, that within pictures by `acoustic_kd.reports.charts`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

NONE = "-"  # in a table, instead of a figure that was not measured
_NUMBER = re.compile(r"[-+−]?[\d.,]+( ?%| ± .*| … .*| [kMG]B?| min)?|-|")


@dataclass(frozen=True)
class Note:
    """A line of text; a `caution` stands out."""

    text: str
    caution: bool = False
    kind: str = field(default="note", init=False)


@dataclass(frozen=True)
class Table:
    """A heading and rows, each with a title; `caption` is a line above them."""

    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: str = field(default="table", init=False)

    @property
    def numeric(self) -> list[bool]:
        """Which columns are right-aligned."""
        columns = zip(*self.rows[1:], strict=True)
        return [all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]


@dataclass(frozen=True)
class Picture:
    """A picture with a title and an explanation; `svg` is markup."""

    title: str
    svg: str
    text: str = ""
    kind: str = field(default="picture", init=False)

    @property
    def markup(self) -> Markup:
        """The SVG element, which goes into the page as it is."""
        return Markup(self.svg)  # noqa: S704  (`acoustic_kd.reports.charts` has escaped it)


@dataclass(frozen=True)
class Sentence:
    """An utterance: its reference, and the words of each system with their marks.

    Attributes:
        systems: name → [(mark, word)]; a mark is "", substituted, inserted or deleted.
    """

    utterance: str
    reference: str
    systems: dict[str, list[tuple[str, str]]]
    kind: str = field(default="sentence", init=False)


Part = Note | Table | Picture | Sentence


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; the reader opens `folded` ones."""

    name: str
    title: str
    parts: Sequence[Part]
    folded: bool = False


def render(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The page.

    Args:
        lead: lines below the title.
        sections: the page leaves out sections without parts.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [section for section in sections if section.parts]
    return environment.get_template("page.html").render(title=title, lead=lead, sections=shown)
