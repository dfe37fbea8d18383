"""`acoustic-kd settings`: every setting with its default, its range and its meaning."""

import argparse
import dataclasses
import json
from typing import get_type_hints

from acoustic_kd.settings import SETTINGS, Config, Setting
from acoustic_kd.system.yaml_dataclasses import key_of

HEAD = """\
# Settings

Every setting of a recipe, written by `acoustic-kd settings --markdown`. A settings file is YAML
with these groups, such as `model: {width: 512}`; on the command line a setting is
`model.width=512`. Paths are relative to the working directory."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print every setting with its default, its range and its meaning."
    parser.epilog = "Example: acoustic-kd settings | grep dropout"
    parser.add_argument("--markdown", action="store_true", help="print docs/settings.md")


def run(options: argparse.Namespace) -> None:
    """Print the settings, one a line, or as a Markdown page."""
    if options.markdown:
        print("\n".join(_page()))
        return
    for name, setting in SETTINGS.items():
        print(f"{name}={_default(setting)}  {setting.meaning}{_range(setting, '  [', ']')}")


def _page() -> list[str]:
    lines = [HEAD]
    for name, group in get_type_hints(Config).items():
        title = (group.__doc__ or "").partition("\n")[0]
        lines += ["", f"## {name}", "", title, "", "| setting | default | meaning | range |"]
        lines.append("|---|---|---|---|")
        for key in map(key_of, dataclasses.fields(group)):
            setting = SETTINGS[f"{name}.{key}"]
            row = f"| `{name}.{key}` | `{_default(setting)}` | {setting.meaning} |"
            lines.append(f"{row} {_range(setting)} |".replace("  |", " |"))
    return lines


def _default(setting: Setting) -> str:
    """The default as it is written in YAML."""
    return setting.default if isinstance(setting.default, str) else json.dumps(setting.default)


def _range(setting: Setting, before: str = "", after: str = "") -> str:
    return "" if setting.allowed is None else f"{before}{setting.allowed.text}{after}"
