"""The part of YAML that settings need, read so that nothing is guessed.

It is YAML 1.2 without tags: `010` is ten, `1:30`, `yes` and `on` are text, digits are ASCII. A key
that is given twice is an error, and so is a date without quotes. Aliases and merge keys work, as
long as they stay small.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, NoReturn

import yaml

from acoustic_kd.system.errors import UserError

MAX_BYTES = 1 << 18  # of a settings file; larger files take seconds to parse
MAX_VALUES = 10_000  # after all aliases are replaced by what they stand for
MAX_DEPTH = 20
MAX_DIGITS = 400  # more than any finite float has

CONSTANTS = {"": None, "~": None} | {
    spelled: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelled in (word, word.capitalize(), word.upper())
}
INTEGER = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|\.?(inf|nan))", re.I)
DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?")


def load(text: str, at: Callable[[int], str], comments: bool = True) -> Any:
    """The value of a YAML document; None for an empty one.

    Args:
        at: number of a line, from 1 on → what messages begin with.
        comments: whether a comment may follow the value.
    """
    try:
        return _Document(text).value(comments)
    except _Wrong as wrong:
        line, reason = wrong.args
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, reason = mark.line + 1 if mark else 1, f"not valid YAML ({error.problem})"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"not valid YAML (it has the character U+{error.character:04X})"
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        line, reason = 1, f"not valid YAML ({error})"
    raise UserError(f"{at(line)}: {reason}")


def number(text: str) -> float | None:
    """The float that a text such as `1e-3` writes, or None."""
    if not FLOAT.fullmatch(text):
        return None
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Wrong(Exception):
    """What this module refuses: number of the line, reason."""


class _Composer(yaml.SafeLoader):
    """Makes nodes without types, and refuses tags and deep nesting before they cost anything."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None):
            _refuse(event, f"the tag {event.tag} is not supported; leave it out")
        if self.depth == MAX_DEPTH:
            _refuse(event, f"values are nested more than {MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Document:
    """Converts the nodes of one document."""

    def __init__(self, text: str) -> None:
        self.text, self.left = text, MAX_VALUES

    def value(self, comments: bool) -> Any:
        loader = _Composer(self.text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        rest = self.text[node.end_mark.index if node else 0 :].strip()
        if rest.startswith("#") and not comments:
            raise _Wrong(1, f"{rest} is a comment in YAML; to mean text, put the value in quotes")
        return None if node is None else self._value(node, "", 0)

    def _value(self, node: Any, name: str, depth: int) -> Any:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:  # an alias may even stand for what it is part of
            _refuse(node, f"{name or 'the file'} has too many values, or an alias of itself")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, name, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, name, depth + 1) for item in node.value]
        return _text(node, name) if node.style else _plain(node, name)

    def _mapping(self, node: yaml.MappingNode, name: str, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        values: dict[str, Any] = {}
        seen = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                _refuse(key_node, f"a key of {name or 'the file'} is no name")
            key = _text(key_node, name)
            inner = f"{name}.{key}" if name else key
            if key in seen:
                _refuse(key_node, f"{inner} is given twice; keep one of them")
            seen.add(key)
            if key == "<<" and not key_node.style:
                merged = self._merged(value_node, name, depth)
            else:
                values[key] = self._value(value_node, inner, depth + 1)
        return merged | values

    def _merged(self, node: yaml.Node, name: str, depth: int) -> dict[str, Any]:
        """The keys of one mapping or several; the first that has a key gives its value."""
        merged: dict[str, Any] = {}
        several = isinstance(node, yaml.SequenceNode)
        for part in reversed(node.value) if several else [node]:
            if not isinstance(part, yaml.MappingNode):
                _refuse(node, "<< merges mappings alone")
            merged |= self._value(part, name, depth + 1)
        return merged


def _plain(node: yaml.ScalarNode, name: str) -> Any:
    """The value of a scalar without quotes."""
    text = _text(node, name)
    if text in CONSTANTS:
        return CONSTANTS[text]
    if DATE.fullmatch(text):
        _refuse(node, f"{_of(name)}{text} is a date in YAML; to mean text, put it in quotes")
    if len(text) > MAX_DIGITS and FLOAT.fullmatch(text):
        _refuse(node, f"{_of(name)}a number of {len(text)} characters is too long")
    if INTEGER.fullmatch(text):
        return int(text)
    value = number(text)
    return text if value is None else value


def _text(node: yaml.ScalarNode, name: str) -> str:
    """The text of a scalar. An escape such as "\\0" can write what no name has."""
    text: str = node.value
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
            _refuse(node, f"{_of(name)}text has the character U+{ord(character):04X}")
    return text


def _of(name: str) -> str:
    return f"{name}: " if name else ""


def _refuse(place: Any, reason: str) -> NoReturn:
    raise _Wrong(place.start_mark.line + 1, reason)
