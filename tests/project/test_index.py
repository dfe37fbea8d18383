"""docs/index.md names every module of the package once, and no other."""

import re
from pathlib import Path

from acoustic_kd.experiment.stages import STAGES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "acoustic_kd"
TOUR = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").partition("\n## Where is what\n")[2]


def test_the_tour_names_every_module_once():
    named = re.findall(r"^- `([\w/]+\.py)`: \S", TOUR, re.MULTILINE)
    modules = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert sorted(named) == sorted(modules)


def test_stages_have_their_numbers():
    named = re.findall(r"^- `verbs/(\w+)\.py`: stage (\d+): ", TOUR, re.MULTILINE)
    numbers = {name.replace("-", "_"): str(number) for number, name in enumerate(STAGES)}
    assert dict(named) == numbers
