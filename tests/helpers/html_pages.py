"""HTML pages read back: every element closed, nothing from elsewhere, tables as text."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input"}
ELSEWHERE = {"src", "srcset", "data", "action", "xlink:href", "background", "poster"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    children: list = field(default_factory=list)  # elements and texts

    def all(self, name: str | None = None) -> list["Element"]:
        """The elements of a name, or every element, from this one on."""
        elements = [self] if name in (None, self.name) else []
        for child in self.children:
            elements += child.all(name) if isinstance(child, Element) else []
        return elements

    def text(self) -> str:
        return "".join(c.text() if isinstance(c, Element) else c for c in self.children)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        assert len(element.attributes) == len(attrs), f"{tag}: an attribute twice"
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().name == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_page(content: str) -> Element:
    """The page, after a check that it stands on its own."""
    assert content.startswith("<!DOCTYPE html>")
    reader = _Reader()
    reader.feed(content)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].name}> is not closed"
    page = reader.open[0]
    names = {element.name for element in page.all()}
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        assert not ELSEWHERE & set(element.attributes), element.attributes
        assert not [key for key in element.attributes if key.startswith("on")]
        if "href" in element.attributes:
            assert element.attributes["href"][0] == "#" and element.attributes["href"][1:] in ids
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "image", "base"}
    (style,) = page.all("style")
    assert "url(" not in style.text() and "@import" not in style.text()
    assert "prefers-color-scheme: dark" in style.text()
    return page


def tables(page: Element) -> list[list[list[str]]]:
    """Each table's rows of cells."""
    return [
        [[c.text() for c in row.children if isinstance(c, Element)] for row in table.all("tr")]
        for table in page.all("table")
    ]


def section(page: Element, name: str) -> Element:
    (element,) = (e for e in page.all() if e.attributes.get("id") == name)
    return element


def notes(page: Element, name: str) -> list[str]:
    """The paragraphs of a section."""
    return [note.text() for note in section(page, name).all("p")]
