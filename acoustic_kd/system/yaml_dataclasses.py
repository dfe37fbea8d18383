"""Nested dataclasses from YAML files and from `group.key=value` overrides.

An unknown key is an error that suggests the nearest known one, and a value of the wrong type is an
error that names the setting.
"""

import codecs
import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from acoustic_kd.system import strict_yaml
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import read_errors


def read_yaml(path: Path) -> Any:
    """The values of a YAML file; an empty mapping for an empty file."""
    with read_errors(path), path.open("rb") as file:
        content = file.read(strict_yaml.MAX_BYTES + 1)
    if len(content) > strict_yaml.MAX_BYTES:
        limit = strict_yaml.MAX_BYTES
        raise UserError(f"{path}: larger than {limit:,} bytes; give a settings file")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; convert the file") from None
    values = strict_yaml.load(text, lambda line: f"{path}:{line}")
    return {} if values is None else values


def fill(cls: type, values: Any, source: str, prefix: str, known: Sequence[str]) -> Any:
    """Make a dataclass from the values of a YAML file; missing keys have their defaults.

    Args:
        source: the file, for messages.
        prefix: what the names of its settings begin with, such as `model.`.
        known: names of settings to suggest for an unknown one.
    """
    return cls(**convert(cls, values, f"{source}: ", prefix, known))


def convert(
    cls: type, values: Any, source: str, prefix: str, known: Sequence[str] = ()
) -> dict[str, Any]:
    """The values of some fields of a dataclass, in the types of these fields.

    Args:
        values: key → value. The key of a field that ends in "_" lacks it, as in `class`.
        source, prefix, known: as in `fill`; `source` is what messages begin with.
    """
    if not isinstance(values, dict):
        where = prefix.rstrip(".") or "the file"
        raise UserError(f"{source}{where} must be a mapping of settings")
    hints = typing.get_type_hints(cls)
    fields = {key_of(field): field.name for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in fields:
            single = [
                k for k, field in fields.items() if not dataclasses.is_dataclass(hints[field])
            ]
            keys = [f"{prefix}{k}" for k in single]
            # An unknown group is compared with the known ones by its first key, too.
            like = f"{name}.{next(iter(value))}" if isinstance(value, dict) and value else name
            raise UserError(f"{source}{_unknown(name, like, [*keys, *known])}")
        hint = hints[fields[key]]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            arguments[fields[key]] = hint(**convert(hint, value or {}, source, f"{name}.", known))
        else:
            arguments[fields[key]] = _convert(value, hint, f"{source}setting '{name}'")
    return arguments


def key_of(field: dataclasses.Field[Any]) -> str:
    """The key of a field: its name, without the "_" that follows a word of Python's own."""
    return field.name.rstrip("_")


def override(config: Any, text: str, known: Sequence[str], paths: Collection[str] = ()) -> Any:
    """A dataclass with one value replaced, as `group.key=VALUE` says.

    VALUE is YAML without comments. For the settings `paths` it is the path itself, or null.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"setting '{text}': expected KEY.SUBKEY=VALUE")
    if not value.strip():
        raise UserError(f"setting '{name}' has no value after the =; give one")
    if name in paths:
        parsed = None if value == "null" else value
    else:
        parsed = strict_yaml.load(value, lambda line: f"setting '{name}'", comments=False)
    return replace_value(config, name, parsed, known)


def replace_value(config: Any, name: str, value: Any, known: Sequence[str]) -> Any:
    """A dataclass with the value of `group.key` replaced."""
    return _replace(config, name.split("."), value, name, known)


def _replace(node: Any, path: list[str], value: Any, name: str, known: Sequence[str]) -> Any:
    fields = dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
    names = {key_of(field): field.name for field in fields}
    if path[0] not in names:
        raise UserError(_unknown(name, name, known))
    field = names[path[0]]
    old, hint = getattr(node, field), typing.get_type_hints(type(node))[field]
    if len(path) > 1 and dict in _origins(hint):
        new = _put(old, path[1:], value)
    elif len(path) > 1:
        new = _replace(old, path[1:], value, name, known)
    elif dataclasses.is_dataclass(old):
        raise UserError(f"setting '{name}' is a group; set one of its keys, as in {name}.KEY=VALUE")
    else:
        new = _convert(value, hint, f"setting '{name}'")
    return dataclasses.replace(node, **{field: new})


def _put(mapping: Any, path: list[str], value: Any) -> dict[str, Any]:
    """A nested mapping with the value at a path of keys replaced."""
    old = mapping if isinstance(mapping, dict) else {}
    return old | {path[0]: _put(old.get(path[0]), path[1:], value) if len(path) > 1 else value}


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint`; int widens to float, a single value to a tuple of one."""
    options = _options(hint)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is tuple:
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(_convert(item, arguments[0], where) for item in items)
        if origin is Literal and type(value) is type(arguments[0]):
            return value  # whether it is one of them is a question of range
        if origin is dict and isinstance(value, dict):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise UserError(f"{where}: the key {_ascii(repr(odd[0]))} must be text")
            return value
        if option is float and (number := _number(value)) is not None:
            return number
        if type(value) is option:
            return value
    names = " or ".join(map(_type_name, options))
    raise UserError(f"{where}: expected {names}, got {_ascii(reprlib.repr(value))}")


def _origins(hint: Any) -> list[Any]:
    """What a type, or each type of a union, is made of: dict of dict[str, int]."""
    return [typing.get_origin(option) for option in _options(hint)]


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the only type."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _type_name(option: Any) -> str:
    if option is type(None):
        return "null"
    if typing.get_origin(option) is Literal:
        return type(typing.get_args(option)[0]).__name__
    if typing.get_origin(option) is dict:
        return "a mapping"
    return getattr(option, "__name__", "list")


def _number(value: Any) -> float | None:
    """A float from a number, or from text such as `1e-3`, which YAML reads as a string."""
    if isinstance(value, str):
        return strict_yaml.number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _unknown(name: str, like: str, known: Sequence[str]) -> str:
    """The text of an error for an unknown setting, with the nearest known one."""
    return f"unknown setting '{_ascii(name)}'{suggestion(like, known)}"


def suggestion(name: str, known: Sequence[str]) -> str:
    """The end of an error for an unknown name: the nearest known one, if there is any."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _ascii(text: str) -> str:
    """Text in which letters of other alphabets that look like Latin ones can be told apart."""
    return text.encode("ascii", "backslashreplace").decode()
