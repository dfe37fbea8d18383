"""`capture`: soft targets of any classifiers, through a DataLoader."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import acoustic_kd as akd
from acoustic_kd.soft_targets import predictions as blocks
from acoustic_kd.soft_targets import write
from acoustic_kd.soft_targets.manifest import read_entry

DENSE = akd.Encoding("dense")
IMAGES, LABELS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)), torch.arange(10)
DATA = TensorDataset(IMAGES, LABELS)


def make_models(count=3):
    """Networks whose predictions depend on the mode they are in."""
    torch.manual_seed(1)
    return [nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5)) for _ in range(count)]


class Named(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, number):
        return f"item-{number}", IMAGES[number], LABELS[number]


def stored(folder):
    soft = akd.read_soft_targets(folder)
    return dict(zip(soft.keys, soft[:], strict=True))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0]])
def test_the_mean_of_the_models_is_stored_by_position(tmp_path, mean, weights):
    models = make_models()
    akd.capture(models, DataLoader(DATA, 3), tmp_path, 4.0, mean, weights, DENSE)
    with torch.inference_mode():
        logits = [model.eval()(IMAGES) for model in models]
    expected = akd.mean_of(logits, 4.0, mean, weights)
    soft = akd.read_soft_targets(tmp_path)
    assert list(soft.keys) == [str(n) for n in range(10)] and soft.temperature == 4.0
    torch.testing.assert_close(soft[:], expected, atol=1e-3, rtol=0)
    header = read_entry(tmp_path / "shard-00000.h5").header
    assert (header.mean, header.inventory) == (mean, "unnamed")
    assert header.weights == (None if weights is None else (0.125, 0.25, 0.625))
    assert akd.inspect(tmp_path, verify=True)[2] == []


def test_the_five_lines_of_the_page(tmp_path):
    torch.manual_seed(2)
    student, models = nn.Linear(4, 5), make_models()
    optimizer = torch.optim.SGD(student.parameters(), 0.05)
    labels = TensorDataset(IMAGES, LABELS % 5)
    akd.capture(models, DataLoader(labels, 4), tmp_path, temperature=4.0)
    loss = akd.DistillationLoss(temperature=4.0, hard_weight=0.5)
    values = []
    for _ in range(20):
        total = 0.0
        for x, y, soft in DataLoader(akd.WithSoftTargets(labels, tmp_path), 5, shuffle=True):
            optimizer.zero_grad()
            value = loss(student(x), soft, y)
            value.backward()
            optimizer.step()
            total += value.item()
        values.append(total)
    assert values[-1] < values[0]


def test_keys_of_the_batches_may_come_in_any_order(tmp_path):
    models = make_models(1)
    akd.capture(models, DataLoader(Named(), 3, shuffle=True), tmp_path, 1.0, encoding=DENSE)
    soft = stored(tmp_path)
    assert set(soft) == {f"item-{n}" for n in range(10)}
    expected = models[0].eval()(IMAGES).softmax(-1).detach()
    for number in range(10):
        actual = soft[f"item-{number}"]
        torch.testing.assert_close(actual, expected[number], atol=1e-3, rtol=0)


def test_a_subset_is_stored_by_the_positions_of_the_whole(tmp_path):
    akd.capture(make_models(1), DataLoader(Subset(DATA, [7, 2]), 1), tmp_path, 1.0)
    assert set(stored(tmp_path)) == {"7", "2"}


@pytest.mark.parametrize("batches", [[IMAGES], [(IMAGES,)], [[IMAGES, LABELS]]])
def test_inputs_are_the_batch_or_its_first_part(tmp_path, batches):
    data = [(str(n), IMAGES[n]) for n in range(10)]
    named = [([key for key, _ in data], IMAGES, LABELS)]
    akd.capture(make_models(1), named, tmp_path / "keys", 1.0, encoding=DENSE)
    loader = DataLoader(DATA, 10, collate_fn=lambda items: batches[0])
    akd.capture(make_models(1), loader, tmp_path / "positions", 1.0, encoding=DENSE)
    (one, two) = (akd.read_soft_targets(tmp_path / name) for name in ("keys", "positions"))
    assert torch.equal(one[:], two[:])


def test_any_function_is_a_model_and_inputs_may_be_anything(tmp_path):
    def model(words):
        return torch.tensor([[len(word), 1.0] for word in words])

    akd.capture([model], [(["a", "b"], ["x", "xyz"])], tmp_path, 1.0, encoding=DENSE)
    soft = stored(tmp_path)
    assert soft["b"][0] > soft["a"][0]
    (name,) = read_entry(tmp_path / "shard-00000.h5").header.members
    assert name.endswith("model")


def test_members_are_the_digests_of_their_weights(tmp_path):
    models = make_models(2)
    same, other = make_models(2)
    with torch.no_grad():
        other[0].bias[1] += 1
    found = []
    for number, pair in enumerate([models, [same, other]]):
        akd.capture(pair, DataLoader(DATA, 10), tmp_path / f"{number}", 1.0)
        found.append(read_entry(tmp_path / f"{number}" / "shard-00000.h5").header.members)
    (one, two), (one_again, changed) = found
    assert re.fullmatch("[0-9a-f]{64}", one) and one == one_again
    assert len({one, two, changed}) == 3


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_as_before_even_after_an_error(tmp_path, fails):
    frozen = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Dropout(0.1)).train()
    frozen[2].eval()
    seen = []

    def last(inputs):
        seen.append([part.training for part in frozen.modules()])
        assert torch.is_inference_mode_enabled()
        if fails:
            raise KeyboardInterrupt
        return inputs[:, :1].expand(-1, 5)

    try:
        akd.capture([frozen, last], DataLoader(DATA, 5), tmp_path, 1.0)
    except KeyboardInterrupt:
        assert fails
    assert [part.training for part in frozen.modules()] == [True, True, True, False]
    assert not any(seen[0])
    assert bool(list(tmp_path.iterdir())) != fails
    assert not torch.is_inference_mode_enabled()


def test_predictions_are_encoded_block_after_block(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_FRAMES", 4)
    monkeypatch.setattr(write.write_batches, "__defaults__", (6,))  # frames in a shard
    monkeypatch.setattr(write._write_data, "__defaults__", (4,))
    done, asked, encode = [], [], write.encode

    def watched(predictions, *rest):
        done.append(len(predictions))
        return encode(predictions, *rest)

    def model(inputs):
        asked.append((len(inputs), sum(done)))
        return inputs

    monkeypatch.setattr(write, "encode", watched)
    entries = akd.capture([model], DataLoader(IMAGES, 3), tmp_path, 1.0, encoding=DENSE)
    assert [entry.header.frames for entry in entries] == [6, 4]
    assert done == [4, 2, 4] and asked == [(3, 0), (3, 0), (3, 6), (1, 6)]
    assert akd.inspect(tmp_path, verify=True)[2] == []


# --- refused ------------------------------------------------------------------------------------


def nan(inputs):
    return torch.where(inputs[:, :1] == IMAGES[7, 0], torch.nan, inputs)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(IMAGES)


def sometimes(inputs):
    return inputs if inputs[0, 0] == IMAGES[0, 0] else inputs[:, :3]


ORDER = "the loader does not give all items in order, so positions cannot be their keys; use a"


@pytest.mark.parametrize(
    ("models", "loader", "message"),
    [
        ([torch.tanh], DataLoader(DATA, 3, shuffle=True), ORDER),
        ([torch.tanh], DataLoader(DATA, 3, drop_last=True), ORDER),
        ([torch.tanh], DataLoader(DATA, 3, sampler=[3, 1]), ORDER),
        ([torch.tanh], DataLoader(DATA, batch_sampler=[[3, 1]]), ORDER),
        ([torch.tanh], DataLoader(Stream(), 3), ORDER),
        ([torch.tanh], [IMAGES], ORDER),
        ([torch.tanh], [], "the loader gives no batch, so there is nothing to store"),
        ([torch.tanh], DataLoader(TensorDataset(IMAGES[:0]), 3), "the loader gives no batch"),
        ([torch.tanh], [([], IMAGES[:0])], "the loader gives no batch, so there"),
        ([torch.tanh], [{"x": IMAGES}], "a batch is a dict without keys or inputs; expected a"),
        ([torch.tanh], [(["a"],)], "a batch is a tuple without keys or inputs"),
        ([torch.tanh], [(["a", "b"], IMAGES)], "model 1 gives [10, 4], expected logits [2, 4]"),
        ([torch.tanh], [(["a"], IMAGES[:1])] * 2, "duplicate utterance 'a'"),
        ([torch.tanh], [(["a", "a"], IMAGES[:2])], "duplicate utterance 'a'"),
        ([torch.tanh], [(["a b"], IMAGES[:1])], "utterance id 'a b' is empty or contains a space"),
        ([torch.tanh], [(["\ud800"], IMAGES[:1])], "is not text: it has half of a character"),
        ([torch.tanh, torch.sum], DataLoader(DATA, 3), "model 2 gives [], expected logits [3, 4]"),
        ([torch.tanh, lambda x: x[:, :2]], DataLoader(DATA, 3), "model 2 gives [3, 2], expected"),
        ([sometimes], DataLoader(DATA, 3), "model 1 gives [3, 3], expected logits [3, 4]"),
        ([lambda x: (x,)], DataLoader(DATA, 3), "model 1 gives tuple, expected logits [3, K]"),
        ([nan], DataLoader(DATA, 3), "(utterance '7') sums to nan, not 1; the member's output"),
    ],
)
def test_what_cannot_be_captured_is_one_line_and_leaves_no_file(
    tmp_path, models, loader, message, monkeypatch
):
    monkeypatch.setattr(write.write_batches, "__defaults__", (3,))  # whole shards before it
    with pytest.raises(akd.UserError, match=re.escape(message)) as caught:
        akd.capture(models, loader, tmp_path, 2.0)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_directory_in_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/soft"):
        with pytest.raises(akd.UserError, match="cannot be made, because .*file is a file"):
            akd.capture([torch.tanh], DataLoader(DATA, 5), tmp_path / name, 2.0)


def test_a_loader_that_stops_early_is_refused(tmp_path):
    class Half(DataLoader):
        def __iter__(self):
            return iter([IMAGES[:5]])

    with pytest.raises(akd.UserError, match="the loader gave 5 of the 10 items of its dataset"):
        akd.capture([torch.tanh], Half(DATA, 5), tmp_path, 2.0)
    assert list(tmp_path.iterdir()) == []


def test_a_store_and_wrong_arguments_are_refused(tmp_path):
    loader = DataLoader(DATA, 5)
    with pytest.raises(akd.UserError, match="temperature is 0.0, expected a number above 0"):
        akd.capture([torch.tanh], loader, tmp_path, 0.0)
    for weights in ([-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(akd.UserError, match="expected numbers from 0 on, not all 0"):
            akd.capture(2 * [torch.tanh], loader, tmp_path, 2.0, weights=weights)
    with pytest.raises(akd.UserError, match="there are 2 weights for 1 members"):
        akd.capture([torch.tanh], loader, tmp_path, 2.0, weights=[1, 2])
    with pytest.raises(TypeError, match="models is a Linear, expected a list of models"):
        akd.capture(nn.Linear(4, 5), loader, tmp_path, 2.0)
    with pytest.raises(ValueError, match="at least one member"):
        akd.capture([], loader, tmp_path, 2.0)
    with pytest.raises(akd.UserError, match=re.escape("gives [5, 4], expected logits [5, 7]")):
        akd.capture([torch.tanh], loader, tmp_path, 2.0, classes=akd.Classes(7, "mine"))
    assert list(tmp_path.iterdir()) == []
    akd.capture([torch.tanh], loader, tmp_path, 2.0, classes=akd.Classes(4, "mine"))
    with pytest.raises(akd.UserError, match="holds soft targets already"):
        akd.capture([torch.tanh], loader, tmp_path, 2.0)


def test_a_capture_that_was_killed_looks_unfinished(tmp_path, monkeypatch):
    """Its manifest entries come last: here it dies when the second of three is written."""
    monkeypatch.setattr(write.write_batches, "__defaults__", (4,))
    original, calls = write.write_entry, []
    folder, left = tmp_path / "store", tmp_path / "left"
    left.mkdir()

    class Killed(BaseException):
        pass

    def dying(path, *rest):
        calls.append(path.name)
        assert len(list(folder.glob("shard-*.h5"))) == 3
        if len(calls) == 2:
            for entry in folder.glob("*"):  # as kill -9 leaves them
                entry.rename(left / entry.name)
            raise Killed
        return original(path, *rest)

    monkeypatch.setattr(write, "write_entry", dying)
    with pytest.raises(Killed):
        akd.capture([torch.tanh], DataLoader(DATA, 4), folder, 2.0)
    with pytest.raises(akd.UserError, match="shard-00001.json is missing, so the shard is unfin"):
        akd.read_soft_targets(left)
