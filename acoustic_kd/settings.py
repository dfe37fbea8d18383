"""Settings from YAML and dotted overrides.

A key nobody knows is an error that suggests the nearest known one, and a value of the wrong type
is an error that names the setting, so that a typing mistake never trains the wrong model.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from acoustic_kd.config import Config, all_settings
from acoustic_kd.errors import UserError
from acoustic_kd.ranges import check_ranges, check_values

PACKAGED = Path(__file__).with_name("conf")  # settings that come with the package


def load_config(path: Path | None, overrides: list[str]) -> Config:
    """Read `path` (YAML; null for defaults) and apply overrides such as `model.width=2560`.

    Raises:
        UserError: the file is missing or malformed, a key is unknown (the nearest is suggested),
            or a value has the wrong type or is out of range.
    """
    source = "command line" if path is None else str(path)
    values = {} if path is None else read_yaml(Path(path))
    config: Config = fill(Config, values, source, "")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"setting '{override}': expected KEY.SUBKEY=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"setting '{override}': the value is not valid YAML") from None
        config = _override(config, key.split("."), value, key)
    check_ranges(config)
    return config


def settings_file(given: Path) -> Path:
    """The settings file that `--config` names: a file, or else settings of the package by name.

    Raises:
        UserError: there is neither.
    """
    if given.exists() and not given.is_dir():
        return given
    packaged = {path.stem: path for path in PACKAGED.glob("*.yaml")}
    if str(given) not in packaged:
        names = ", ".join(sorted(packaged))
        raise UserError(f"{given}: there is no such file; the package has settings for {names}")
    return packaged[str(given)]


def shown(given: Path) -> str:
    """What `--config` names, as a printed command has it: a path below this folder from here on."""
    here = given.absolute()
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else given)


def from_flat(values: dict[str, Any]) -> Config:
    """Settings from `group.key` → value, as records of finished work hold them.

    Paths are not recorded, so whether other settings fit to them is not asked again.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    config = Config()
    for key, value in values.items():
        config = _override(config, key.split("."), value, key)
    check_values(all_settings(config))
    return config


def read_yaml(path: Path) -> Any:
    """The values of a YAML file, an empty mapping where it is empty.

    Raises:
        UserError: it cannot be read, or is not YAML.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not valid YAML ({reason})") from None
    return {} if values is None else values


def fill(cls: type, values: Any, source: str, prefix: str) -> Any:
    """A settings dataclass from the values of a YAML file.

    Args:
        source: the file, for messages.
        prefix: what the names of its settings begin with, such as `model.`.

    Raises:
        UserError: a key is unknown, or a value has the wrong type.
    """
    if not isinstance(values, dict):
        where = prefix.rstrip(".") or "the file"
        raise UserError(f"{source}: {where} must be a mapping of settings")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    kwargs = {}
    for key, value in values.items():
        if key not in known:
            leaves = [name for name in known if not dataclasses.is_dataclass(hints[name])]
            unknown = f"{prefix}{key}"
            # A group is found by what stands in it, too.
            like = f"{unknown}.{next(iter(value))}" if isinstance(value, dict) and value else ""
            unknown = unknown_setting(unknown, [f"{prefix}{name}" for name in leaves], like)
            raise UserError(f"{source}: {unknown}")
        name = f"{prefix}{key}"
        if dataclasses.is_dataclass(hints[key]):
            kwargs[key] = fill(hints[key], {} if value is None else value, source, f"{name}.")
        else:
            kwargs[key] = _convert(value, hints[key], f"{source}: setting '{name}'")
    return cls(**kwargs)


def _override(node: Any, path: list[str], value: Any, name: str) -> Any:
    key, known = path[0], dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
    if key not in {field.name for field in known}:
        raise UserError(unknown_setting(name))
    if len(path) > 1:
        new = _override(getattr(node, key), path[1:], value, name)
    elif dataclasses.is_dataclass(getattr(node, key)):
        raise UserError(f"setting '{name}' is a group; set one of its keys, as in {name}.KEY=VALUE")
    else:
        new = _convert(value, typing.get_type_hints(type(node))[key], f"setting '{name}'")
    return dataclasses.replace(node, **{key: new})


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` asks for; int widens to float, a number to a one-element tuple."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if typing.get_origin(option) is tuple:
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(_convert(item, typing.get_args(option)[0], where) for item in items)
        elif option is float:
            number = _number(value)
            if number is not None:
                return number
        elif type(value) is option:
            return value
    names = " or ".join(
        "null" if o is type(None) else getattr(o, "__name__", "list") for o in options
    )
    raise UserError(f"{where}: expected {names}, got {value!r}")


def _number(value: Any) -> float | None:
    """A float from a number, or from text such as `1e-3`, which YAML reads as a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def unknown_setting(name: str, siblings: Sequence[str] = (), like: str = "") -> str:
    """The error text for an unknown setting, with the nearest known one.

    Args:
        siblings: settings beside it that `Config` does not have.
        like: what the nearest must be near to, if not the name.
    """
    known = [*siblings, *all_settings(Config())]
    near = difflib.get_close_matches(like or name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown setting '{name}'{hint}"
