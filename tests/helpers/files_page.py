"""The table of files in docs/files.md."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
NAMES = {
    "SPLIT": "(train|dev|test|untranscribed)",
    "NNNNN": r"\d{5}",
    "NN": r"\d\d",
    "SYSTEM": r"[a-z]+(-\d\d)?",
    "…": ".*",
}
ROW = re.compile(r"^\| (`[^`]+`(?:, `[^`]+`)*) \| [a-z-]+(?:, [a-z-]+)* \|", re.MULTILINE)


def table_files():
    """The files that the page's first table names, as written there."""
    cells = ROW.findall(PAGE.split("\n## ")[0])
    files = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(files) > 50 and len(set(files)) == len(files)
    return files


def table_patterns():
    """Each file of the table → the pattern of its paths."""
    patterns = {}
    for file in table_files():
        pattern = re.escape(file)
        for name, expression in NAMES.items():
            pattern = pattern.replace(re.escape(name), expression)
        patterns[file] = re.compile(pattern)
    return patterns
