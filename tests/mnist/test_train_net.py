"""One net of the experiment: jitter, subsets of the images, and what is counted."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from digits import make_digits
from soft_stores import encode_in_memory

from acoustic_kd.mnist import train_net
from acoustic_kd.mnist.bias_correction import shifted
from acoustic_kd.mnist.data import Mnist
from acoustic_kd.mnist.experiment import write_frames
from acoustic_kd.mnist.variants import Teacher, Variant, VariantRun
from acoustic_kd.settings import ModelConfig
from acoustic_kd.soft_targets.encoding import Encoding
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.steps import Step
from acoustic_kd.training.model import load_model
from acoustic_kd.training.networks import build_network


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """What a worker process has loaded."""
    folder = tmp_path_factory.mktemp("exp")
    write_frames(Mnist(make_digits(200, 200), make_digits(60, 60), "digits", False), folder)
    return train_net.load(folder / "frames")


@pytest.fixture
def model():
    torch.manual_seed(1)
    return build_network(ModelConfig(1, 16, 0.0, 0.0, 0, 0), 784, 10).eval()


# --- jitter -------------------------------------------------------------------------------------


def places_of(image: np.ndarray, pixels: int) -> dict[bytes, tuple[int, int]]:
    """Every shift of an image [28, 28], with zeros moved in."""
    padded, ways = np.pad(image, pixels), range(2 * pixels + 1)
    return {padded[y : y + 28, x : x + 28].tobytes(): (y, x) for y, x in product(ways, repeat=2)}


@pytest.mark.parametrize("pixels", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_image_goes_to_one_of_its_places_and_all_places_occur(pixels, dtype):
    torch.manual_seed(1)
    images = torch.rand(4, 784).to(dtype)
    before = images.clone()
    moved = train_net.jitter(pixels)(images.repeat(300, 1))
    assert moved.shape == (1200, 784) and moved.dtype == dtype and torch.equal(images, before)
    counts, ways = [], []
    for number, image in enumerate(images.float().numpy()):
        places = places_of(image.reshape(28, 28), pixels)
        assert len(places) == (2 * pixels + 1) ** 2
        seen = [places[row.tobytes()] for row in moved[number::4].float().numpy()]
        counts += [seen.count(place) for place in places.values()]
        ways.append(tuple(seen))
    assert len(set(ways)) == len(ways)  # each image goes its own
    expected = 300 / (2 * pixels + 1) ** 2  # all as often, as chance has it
    assert min(counts) > 0 and max(counts) < 4 * expected


# --- which images -------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [(7, 8), (0, 1, 2, 4, 5, 6, 7, 8, 9), (3,)])
def test_a_subset_has_exactly_its_digits_under_their_ids(frames, digits):
    whole = frames["train"]
    part = train_net.subset(whole, digits)
    chosen = [n for n, label in enumerate(whole.targets.tolist()) if label in digits]
    assert len(part) == len(chosen) == 20 * len(digits)
    assert part.ids == [whole.ids[n] for n in chosen]
    assert torch.equal(part.features, whole.features[chosen])
    assert torch.equal(part.targets, whole.targets[chosen])
    assert part.offsets.tolist() == list(range(len(chosen) + 1))


def test_all_digits_are_all_images_in_their_order(frames):
    assert train_net.subset(frames["train"], tuple(reversed(range(10)))) is frames["train"]


# --- what is counted ----------------------------------------------------------------------------


def test_confusion_counts_what_is_taken_for_what():
    taken = torch.tensor([0, 0, 3, 9, 9, 9])
    labels = torch.tensor([0, 3, 3, 9, 9, 4])
    table = train_net.confusion(torch.nn.functional.one_hot(taken, 10).float(), labels)
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels.numpy(), taken.numpy()), 1)
    assert table == expected.tolist() and expected[9, 9] == 2 and expected[3, 0] == 1


def test_predictions_do_not_depend_on_how_many_are_made_at_once(frames, model, monkeypatch):
    whole = train_net.predict(model, frames["test"])
    assert whole.shape == (60, 10) and whole.dtype == torch.float32
    monkeypatch.setattr(train_net, "BATCH", 7)
    few = train_net.predict(model, frames["test"])
    torch.testing.assert_close(few, whole, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("temperature", [None, 5.0])
def test_corrections_shift_the_classes_they_name(frames, model, temperature):
    variant = Variant(digits=(0, 1, 2, 4, 5, 6, 9), correct=(7, 8))
    transfer = train_net.subset(frames["train"], variant.digits)
    soft = None
    if temperature is not None:  # of a teacher with logits of its own, all classes kept
        torch.manual_seed(3)
        teacher = 4 * torch.randn(len(transfer), 10)
        soft = encode_in_memory((teacher / temperature).softmax(-1), Encoding("dense"), temperature)
    result = train_net.measure(
        frames, model, VariantRun("some", variant, temperature, 1), transfer, soft
    )
    assert set(result) == {"confusion", "corrected"}
    assert set(result["corrected"]) == {"prior", "test"} | ({"teacher"} if soft else set())
    logits, labels = train_net.predict(model, frames["test"]), frames["test"].targets
    for corrected in result["corrected"].values():
        moved = shifted(logits, (7, 8), corrected["shift"])
        assert corrected["confusion"] == train_net.confusion(moved, labels)
    fewest = np.trace(result["corrected"]["test"]["confusion"])
    assert fewest >= np.trace(result["confusion"])
    assert fewest >= np.trace(result["corrected"]["prior"]["confusion"])

    def mass(logits, temperature, how=None):
        shift = result["corrected"][how]["shift"] if how else 0.0
        moved = shifted(logits.double(), (7, 8), shift)
        return float((moved / temperature).softmax(-1)[:, [7, 8]].sum(-1).mean())

    # The prior is theirs among all train images; the shift is found on the transfer set alone.
    logits = train_net.predict(model, transfer)
    assert mass(logits, temperature or 1, "prior") == pytest.approx(0.2, abs=1e-3)
    if soft:  # and the teacher's is what it gives them at temperature 1
        assert mass(logits, 1, "teacher") == pytest.approx(mass(teacher, 1), abs=1e-3)


# --- training and soft targets ------------------------------------------------------------------


SMALL = Variant(width=8, epochs=1, batch_frames=50)


def train(frames, folder: Path, run: VariantRun, **settings) -> Step:
    settings |= {"seed": run.seed, "row": run.variant}
    step = Step(run.name, folder / run.name, settings, {})
    assert train_net.train_net(frames, run, step, None, 100) > 0
    return step


def weights(step: Step) -> bytes:
    return (step.directory / "model.safetensors").read_bytes()


def test_nets_differ_by_seed_and_variant_and_repeat(tmp_path, frames):
    runs = [VariantRun(row, SMALL, None, seed) for row, seed in (("a", 1), ("a", 2), ("b", 1))]
    first, again = ([train(frames, tmp_path / n, run) for run in runs] for n in ("1st", "2nd"))
    assert len(set(map(weights, first))) == 3
    assert list(map(weights, again)) == list(map(weights, first))
    assert train_net.train_net(frames, runs[0], again[0], None, 1) == 0.0


def test_wrong_variables_of_the_environment_leave_the_older_net(tmp_path, frames, monkeypatch):
    step = train(frames, tmp_path, VariantRun("a", SMALL, None, 1))
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "x")
    with pytest.raises(UserError, match="Accelerate cannot start"):
        train(frames, tmp_path, VariantRun("a", SMALL, None, 1), changed=True)
    assert step.is_current()


def test_soft_targets_are_the_mean_of_the_members_tempered_predictions(tmp_path, frames):
    members = [train(frames, tmp_path, VariantRun("teacher", SMALL, None, seed)) for seed in (1, 2)]
    logits = [train_net.predict(load_model(m.directory), frames["train"]) for m in members]
    for mean in ("arithmetic", "geometric"):
        steps = {t: Step("soft", tmp_path / mean / f"{t:g}", {"t": t}, {}) for t in (1.0, 4.5)}
        train_net.write_soft_targets(frames, Teacher("teacher", (1, 2), mean), members, steps)
        for t, step in steps.items():
            soft = read_soft_targets(step.directory, frames["train"], t)
            kept, stored = soft.batch(torch.arange(len(soft)))
            if mean == "arithmetic":
                expected = sum((one / t).softmax(-1) for one in logits) / 2
            else:
                expected = (sum(logits) / 2 / t).softmax(-1)
            assert kept is None
            torch.testing.assert_close(stored.float(), expected, rtol=1e-3, atol=1e-4)


def test_a_net_is_trained_on_its_digits_alone(tmp_path, frames, monkeypatch):
    seen = []
    original = train_net.Trainer.__init__

    def spying(self, job, directory, train, *more):
        seen.append((sorted(set(train.targets.tolist())), more[0]))
        original(self, job, directory, train, *more)

    monkeypatch.setattr(train_net.Trainer, "__init__", spying)
    train(frames, tmp_path, VariantRun("some", Variant(width=8, epochs=1, digits=(7, 8)), None, 1))
    assert seen == [([7, 8], None)]  # and no image is held out
