"""Values of JSON files in the types that their readers expect.

Types are Python's: `float`, `str | None`, `list[int]`, `dict[str, float]`, dataclasses, and typed
dictionaries, which may have further keys. A `float` is finite, and an `int` fits 64 bits. Of
`dict[Literal["dev", "test"], float]` each key of the `Literal` must be there.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

Read = Callable[[Any], Any]


class WrongType(Exception):
    """A value of another type than expected.

    Attributes:
        keys: where it is, innermost first.
    """

    def __init__(self, text: str, *keys: object) -> None:
        super().__init__(text)
        self.text, self.keys = text, list(keys)

    def __str__(self) -> str:
        place = ".".join(str(key) for key in reversed(self.keys))
        return f"'{place}' {self.text}" if place else self.text


@cache
def reader(kind: Any) -> Read:
    """A function that returns its argument as the type `kind`.

    It raises `WrongType` if that is impossible.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind is list:
        return lambda value: _checked(value, list, "must be a list")
    if kind in _SCALARS:
        allows, text = _SCALARS[kind]
        return _scalar(allows, text)
    if origin is Literal:
        return _scalar(lambda v: any(v is a or (type(v) is str and v == a) for a in arguments),
                       f"must be {' or '.join(map(repr, arguments))}")  # fmt: skip
    if origin in (Union, types.UnionType):
        return _union([reader(argument) for argument in arguments])
    if origin is list:
        return _items(reader(arguments[0]), list)
    if origin is tuple and arguments[-1] is ...:
        return _items(reader(arguments[0]), tuple)
    if origin is tuple:
        return _row([reader(argument) for argument in arguments])
    if origin is dict:
        return _mapping(get_args(arguments[0]), reader(arguments[1]))
    return _object(kind)


def _is_int(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


_SCALARS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    int: (_is_int, "must be an integer"),
    float: (
        lambda v: math.isfinite(v) if type(v) is float else _is_int(v), "must be a finite number"
    ),
    str: (lambda value: type(value) is str, "must be a text"),
    bool: (lambda value: type(value) is bool, "must be true or false"),
    type(None): (lambda value: value is None, "must be null"),
}  # fmt: skip


def _scalar(allows: Callable[[Any], bool], text: str) -> Read:
    def read(value: Any) -> Any:
        if not allows(value):
            raise WrongType(text)
        return value

    return read


def _union(options: list[Read]) -> Read:
    def read(value: Any) -> Any:
        for option in options[:-1]:
            try:
                return option(value)
            except WrongType:
                continue
        return options[-1](value)

    return read


def _items(item: Read, make: type) -> Read:
    def read(value: Any) -> Any:
        return make(_each(item, enumerate(_checked(value, list, "must be a list"))))

    return read


def _row(columns: list[Read]) -> Read:
    def read(value: Any) -> Any:
        if len(_checked(value, list, "must be a list")) != len(columns):
            raise WrongType(f"must be a list of {len(columns)}")
        pairs = enumerate(zip(columns, value, strict=True))
        return tuple(_inner(column, item, number) for number, (column, item) in pairs)

    return read


def _mapping(needed: Iterable[str], item: Read) -> Read:
    def read(value: Any) -> Any:
        entries = _with_keys(value, needed).items()
        return dict(zip(value, _each(item, entries), strict=True))

    return read


def _object(kind: Any) -> Read:
    """Of a dataclass, whose fields with defaults may be missing, or of a typed dictionary."""
    # A field's key in JSON lacks the "_" that follows a word of Python's own.
    readers = {name.rstrip("_"): reader(hint) for name, hint in get_type_hints(kind).items()}
    if is_typeddict(kind):
        needed, make, fields_of = kind.__required_keys__, None, {}
    else:
        fields = [field for field in dataclasses.fields(kind) if field.init]
        missing = dataclasses.MISSING
        needed = {f.name for f in fields if f.default is missing and f.default_factory is missing}
        make, fields_of = kind, {f.name.rstrip("_"): f.name for f in fields}

    def read(value: Any) -> Any:
        _with_keys(value, needed)
        present = [name for name in readers if name in value]
        known = {name: _inner(readers[name], value[name], name) for name in present}
        if make is None:
            return value | known
        for name in value:
            if name not in readers:
                raise WrongType("is unknown", name)
        return make(**{fields_of[name]: value for name, value in known.items()})

    return read


def _checked(value: Any, kind: type, text: str) -> Any:
    if type(value) is not kind:
        raise WrongType(text)
    return value


def _with_keys(value: Any, needed: Iterable[str]) -> Any:
    _checked(value, dict, "must be an object")
    for name in needed:
        if name not in value:
            raise WrongType("is missing", name)
    return value


def _each(item: Read, entries: Any) -> list[Any]:
    return [_inner(item, value, key) for key, value in entries]


def _inner(read: Read, value: Any, key: object) -> Any:
    try:
        return read(value)
    except WrongType as error:
        error.keys.append(key)
        raise
