"""A room imports only rooms that stand before it; every verb has its module."""

import ast
from pathlib import Path

from acoustic_kd.cli import VERBS

PACKAGE = Path(__file__).parents[2] / "acoustic_kd"
ORDER = [
    *("version", "system", "settings", "kaldi", "corpora", "language", "features", "soft_targets"),
    *("training", "decoding", "alignment", "runtime", "experiment", "reports", "mnist"),
    *("verbs", "cli", "launch", "__main__", "__init__"),
]


def imported(node: ast.AST) -> list[str]:
    """Rooms that an import statement names."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "acoustic_kd":
        names = [node.module] if "." in node.module else [f".{alias.name}" for alias in node.names]
        return [name.split(".")[1] for name in names]
    return []


def level(room: str) -> int:
    return ORDER.index(room) if room in ORDER else len(ORDER)


def test_imports_run_downward():
    wrong = [
        f"{path}:{node.lineno} imports {room}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for room in imported(node)
        if level(room) > level(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    ]
    assert not wrong


def test_every_verb_has_its_module():
    files = {path.stem for path in (PACKAGE / "verbs").glob("*.py")} - {"__init__"}
    assert files == {verb.replace("-", "_") for verb in VERBS}
