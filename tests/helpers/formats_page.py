"""The table of files in docs/formats.md."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
NAMES = {
    "SPLIT": "(train|dev|test|untranscribed)",
    "NNNNN": r"\d{5}",
    "NN": r"\d\d",
    "SYSTEM": r"[a-z]+(-\d\d)?",
    "…": ".*",
}


def table_patterns():
    """The files of the page's first table: as written → pattern."""
    rows = re.findall(r"^\| `([^`]+)` \| [a-z-]+(?:, [a-z-]+)* \|", PAGE.split("\n## ")[0], re.M)
    found = {}
    for row in rows:
        pattern = re.escape(row)
        for name, expression in NAMES.items():
            pattern = pattern.replace(re.escape(name), expression)
        found[row] = re.compile(pattern)
    assert len(found) > 30
    return found
