"""The ensemble: its means, and the same predictions wherever its members are in memory."""

import json

import numpy as np
import pytest
import torch
from soft_stores import contents, make_frames

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.settings import ModelConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.write import Provenance, blocks_of, write_shard
from acoustic_kd.system import memory as system_memory
from acoustic_kd.system.environment import Processes
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import free_host_memory, free_memory
from acoustic_kd.training import ensemble_predictions
from acoustic_kd.training.ensemble import Mean, mean_of
from acoustic_kd.training.ensemble_predictions import Ensemble, MemorySizes, Plan, minimum, plan
from acoustic_kd.training.model import load_model, save_model, settings_of
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.precision import logits_of
from acoustic_kd.training.windows import make_splicer

CPU = torch.device("cpu")
CONFIG = ModelConfig(layers=2, width=24, dropout=0.2, left_frames=2, right_frames=1)
CLASSES = Classes(40, "inventory")
DESCRIPTION = {"model": settings_of(CONFIG), "dimension": 2, "classes": 40, "digest": "m"}
FRAMES, BLOCK = 53, 10  # the last block is smaller
PLANS = [
    Plan(True, False, 1),
    *(Plan(False, waiting, blocks) for waiting in (True, False) for blocks in (1, 4, 100)),
]


# --- the means ----------------------------------------------------------------------------------

LOGITS = [
    3 * torch.randn(6, 5, dtype=torch.float64, generator=torch.manual_seed(n)) for n in range(3)
]


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("weights", [None, (1, 0, 3)])
def test_arithmetic_and_geometric_means(temperature, weights):
    """The members' logits stay as they were."""
    before = torch.stack(LOGITS)
    p = np.stack([softmax(z.numpy() / temperature) for z in LOGITS])
    geometric = np.exp(np.average(np.log(p), 0, weights))
    for mean, expected in (
        ("arithmetic", np.average(p, 0, weights)),
        ("geometric", geometric / geometric.sum(-1, keepdims=True)),
    ):
        actual = mean_of(LOGITS, temperature, mean, weights).numpy()
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
    assert torch.equal(torch.stack(LOGITS), before)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_logits_that_require_a_gradient_have_the_same_mean_without_one(mean):
    actual = mean_of((z.clone().requires_grad_() for z in LOGITS), 2.0, mean, (1, 2, 3))
    assert torch.equal(actual, mean_of(LOGITS, 2.0, mean, (1, 2, 3)))
    assert not actual.requires_grad


# --- members on the device, in host memory, in their files --------------------------------------


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folders = []
    for number in range(3):
        torch.manual_seed(number)
        folders.append(tmp_path_factory.mktemp("member"))
        model = build_network(CONFIG, 2, CLASSES.count)
        save_model(folders[-1], model, DESCRIPTION | {"digest": f"m{number}"})
    return folders


@pytest.fixture(scope="module")
def frames():
    frames = make_frames((30, 23), CLASSES, ("a", "b"))
    frames.features.normal_(generator=torch.Generator().manual_seed(9))
    return frames


def predicted(members, frames, mean, low=False, memory_gb=None):
    ensemble = Ensemble(members, mean, CPU, low, memory_gb)
    return ensemble, ensemble.predictions(frames, blocks_of(FRAMES, BLOCK))


@pytest.mark.parametrize("weights", [None, (1.0, 0.0, 3.0)])
@pytest.mark.parametrize("kind", ["arithmetic", "geometric"])
@pytest.mark.parametrize("low", [False, True])
def test_predictions_are_the_mean_over_the_members(members, frames, kind, weights, low):
    """To the bit, also where the weights were rounded to bfloat16 beforehand."""
    models = [load_model(folder) for folder in members]
    windows = make_splicer(CONFIG, frames.features, frames.offsets, low)
    ensemble, actual = predicted(members, frames, Mean(2.0, kind, weights), low)
    actual = list(actual)
    assert ensemble.digests == ("m0", "m1", "m2")
    assert [len(p) for p in actual] == [10, 10, 10, 10, 10, 3]
    for block, numbers in zip(actual, blocks_of(FRAMES, BLOCK), strict=True):
        with torch.inference_mode():
            logits = [logits_of(m, windows.around(numbers, m.config), low) for m in models]
        expected = mean_of(logits, 2.0, kind, weights)
        assert torch.equal(block, expected)


@pytest.mark.parametrize(
    "encoding", [Encoding("top-k", 5), Encoding("sampled", 7), Encoding("dense", bits=8)], ids=str
)
@pytest.mark.parametrize("kind", ["arithmetic", "geometric"])
def test_the_same_bytes_however_the_members_are_held(
    tmp_path, monkeypatch, members, frames, encoding, kind
):
    stores = []
    for number, how in enumerate(PLANS):
        monkeypatch.setattr(ensemble_predictions, "plan", lambda *_, how=how: how)
        ensemble, predictions = predicted(members, frames, Mean(2.0, kind, (1, 2, 4)))
        path = tmp_path / f"{number}" / "shard-00000.h5"
        origin = Provenance(2.0, ensemble.digests, kind, (1, 2, 4))
        write_shard(path, frames, predictions, origin, encoding, BLOCK)
        assert ensemble.plan == how
        stores.append(contents(path.parent))
    assert all(store == stores[0] for store in stores)


def test_a_second_store_is_predicted_by_the_members_that_are_there(members, frames):
    ensemble, first = predicted(members, frames, Mean(1.0))
    again = ensemble.predictions(frames, blocks_of(FRAMES, BLOCK))
    for block, expected in zip(list(first), again, strict=True):
        assert torch.equal(block, expected)


def test_a_setting_of_memory_is_kept_to(members, frames):
    sizes = Ensemble(members, Mean(1.0), CPU)._sizes(BLOCK)
    expected = torch.cat(list(predicted(members, frames, Mean(1.0))[1]))
    everything = sum(sizes.members) + sizes.block + sizes.total
    for memory, how in (
        (everything, Plan(True, False, 1)),
        (everything - 1, Plan(False, False, 1 + (everything - 1 - minimum(sizes)) // sizes.total)),
        (minimum(sizes) + 3 * sizes.total, Plan(False, False, 4)),
        (minimum(sizes), Plan(False, False, 1)),
    ):
        gigabytes = (memory + 0.5) / ensemble_predictions.GIGABYTE
        ensemble, actual = predicted(members, frames, Mean(1.0), memory_gb=gigabytes)
        assert torch.equal(torch.cat(list(actual)), expected) and ensemble.plan == how
    with pytest.raises(UserError, match="'soft_targets.memory_gb' is .*; raise it to .* or more"):
        next(predicted(members, frames, Mean(1.0), memory_gb=(minimum(sizes) - 1) / 1e9)[1])


def test_plans():
    sizes = MemorySizes((100, 100, 100), 50, 10)
    assert plan(sizes, None) == plan(sizes, 360) == Plan(True, False, 1)
    assert plan(sizes, 359, 300) == plan(sizes, 359, None) == Plan(False, True, 20)
    assert plan(sizes, 359, 299) == Plan(False, False, 20)
    assert plan(sizes, 160) == Plan(False, False, 1)
    assert plan(sizes, 179) == Plan(False, False, 2)
    assert plan(sizes, 10) == Plan(False, False, 1)  # too little, as far as one can tell: tried


@pytest.mark.parametrize(
    ("logits", "mean", "message"),
    [([], "arithmetic", "at least one member"), (LOGITS, "harmonic", "arithmetic or geometric")],
)
def test_there_is_no_mean_of_nothing_or_of_another_kind(logits, mean, message):
    with pytest.raises(ValueError, match=message):
        mean_of(logits, 1.0, mean)


@pytest.mark.parametrize(
    ("description", "weights", "message"),
    [
        (None, (1, 2), "2 weights for 1 members"),
        (None, None, "json: cannot be read"),
        ({"digest": "m"}, None, "model.json: does not describe a model"),
        (DESCRIPTION, None, "model.safetensors: no such file; run"),
    ],
)
def test_refusals(tmp_path, description, weights, message):
    if description:
        (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=message):
        Ensemble([tmp_path], Mean(1.0, "arithmetic", weights), CPU)


# --- free memory --------------------------------------------------------------------------------


def test_free_memory_is_some():
    assert 2**20 < free_memory(CPU) < 2**50
    assert free_memory(torch.device("meta")) is None


def fake_system(folder, available, limit, used=0, files=0):
    proc, cgroup = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroup / "jobs" / "7").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 999999 kB\nMemAvailable:   {available} kB\n")
    (proc / "self" / "cgroup").write_text("1:name=old:/\n0::/jobs/7\n")
    stat = f"anon 3\ninactive_file {files}"
    for name, text in (("max", limit), ("current", used), ("stat", stat)):
        (cgroup / "jobs" / "7" / f"memory.{name}").write_text(f"{text}\n")
    return proc, cgroup


def test_free_memory_is_what_the_machine_and_the_limit_leave(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    machine = fake_system(tmp_path / "a", 100, "max")
    assert free_host_memory(*machine) == 100 * 1024
    assert free_host_memory(*fake_system(tmp_path / "b", 100, 50_000, 20_000, 500)) == 30_500
    assert free_host_memory(*fake_system(tmp_path / "c", 100, 50_000, 60_000)) == 0
    monkeypatch.setattr(system_memory, "processes", lambda: Processes(0, 4, 4))
    assert free_host_memory(*machine) == 25 * 1024
    monkeypatch.setattr(system_memory, "processes", Processes)
    assert free_host_memory(tmp_path, tmp_path) > 2**20  # no such files: as the system says
