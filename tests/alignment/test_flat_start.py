"""A flat start: equal segments, iterations of training, and their resumption bit by bit."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic_kd.alignment import flat_start
from acoustic_kd.alignment.flat_start import MAX_STATE_FRAMES, ShardAligner, equal_segments
from acoustic_kd.alignment.gmm_aligner import read_iteration
from acoustic_kd.alignment.senones import monophones
from acoustic_kd.features.frame_sequence import FrameSequence
from acoustic_kd.features.frame_shard import shard_paths
from acoustic_kd.features.frames import write_store
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.system.errors import UserError

LEXICON = Lexicon({"AB": (("A", "B"), ("B",)), "BC": (("B", "C"),), "CA": (("C", "A"),)})
INVENTORY = monophones(("SIL", "A", "B", "C"))
D = 4


def spoken(rng, words):
    """The phones of words, their true states with silence around, and frames that sound so."""
    spelt = np.array([INVENTORY.index[p] for word in words for p in LEXICON[word][0]])
    chain = (np.array([0, *spelt, 0])[:, None] * 3 + np.arange(3)).ravel()
    states = np.repeat(chain, rng.integers(3, 8, len(chain)))
    means = np.random.default_rng(99).normal(0, 4, (INVENTORY.num_senones, D))
    means[:3] = -8
    frames = rng.normal(means[states], 1)
    return spelt, states, frames.astype(np.float32)


@pytest.fixture
def start(tmp_path):
    """start(folder) → shards, the first model's file, texts, true states."""
    rng = np.random.default_rng(0)
    texts, truth, utterances = {}, {}, []
    for number in range(30):
        name = f"u{number:02d}"
        texts[name] = [str(w) for w in rng.choice(sorted(LEXICON.entries), rng.integers(1, 5))]
        spelt, truth[name], frames = spoken(rng, texts[name])
        utterances.append(FrameSequence(name, frames, equal_segments(frames, spelt)))
    write_store(tmp_path / "store", utterances, INVENTORY.classes, 900, "float32")
    shards = shard_paths(tmp_path / "store")
    assert len(shards) > 3
    first = flat_start.initial_model(shards, INVENTORY)

    def begin(folder):
        first.write(tmp_path / folder / "model.safetensors")
        return tmp_path / folder / "model.safetensors"

    return shards, begin, texts, truth


def train(shards, model, texts, count=12):
    return flat_start.train_iterations(shards, model, LEXICON, INVENTORY, texts, count, 2, 6.0)


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Starting others takes longer than the work."""
    monkeypatch.setattr("acoustic_kd.system.parallel.cores", lambda: 1)


def test_training_finds_the_true_states(start):
    shards, begin, texts, truth = start
    model = begin("a")
    *_, last = train(shards, model, texts)
    assert last.finished and len(last.history) <= 12
    aligner = ShardAligner(model, LEXICON, INVENTORY, texts).aligner()
    right = total = 0
    for shard in shards:
        for utterance in flat_start.read_utterances(shard):
            path = aligner.align(texts[utterance.id], utterance.features)[0]
            # The states of silence sound alike.
            right += np.count_nonzero(np.maximum(path, 2) == np.maximum(truth[utterance.id], 2))
            total += len(path)
    assert right > 0.95 * total
    assert (last.durations[3:] > 3.5).all() and (last.durations[3:] < 7).all()


def test_training_stopped_in_any_iteration_ends_with_the_same_bits(start, monkeypatch):
    shards, begin, texts, _ = start
    whole = begin("whole")
    history = [found.history[-1] for found in train(shards, whole, texts)]
    assert {row["gaussians"] for row in history} == {1, 2}
    few = begin("few")
    assert [found.finished for found in train(shards, few, texts, count=2)] == [False, True]
    assert read_iteration(few).finished
    stopped, estimate = begin("stopped"), flat_start.estimate
    for _ in range(100):
        calls = iter([False, False, True])  # in the third iteration after each start

        def stop(*arguments, calls=calls):
            if next(calls):
                raise KeyboardInterrupt
            return estimate(*arguments)

        monkeypatch.setattr(flat_start, "estimate", stop)
        try:
            list(train(shards, stopped, texts))
            break
        except KeyboardInterrupt:
            assert not read_iteration(stopped).finished
    assert stopped.read_bytes() == whole.read_bytes()
    assert list(train(shards, stopped, texts)) == []  # it is finished


@pytest.mark.slow
def test_two_processes_train_the_same_bits(start, monkeypatch):
    shards, begin, texts, _ = start
    in_one, in_two = begin("one"), begin("two")
    list(train(shards, in_one, texts, count=3))
    monkeypatch.setattr("acoustic_kd.system.parallel.cores", lambda: 2)
    list(train(shards, in_two, texts, count=3))
    assert in_two.read_bytes() == in_one.read_bytes()


def test_a_phone_that_lasts_too_long_is_trained_as_silence():
    silent = np.arange(INVENTORY.num_senones) < 3
    lengths = np.array([MAX_STATE_FRAMES + 9, 5, MAX_STATE_FRAMES, MAX_STATE_FRAMES + 1, 4])
    path = np.repeat([0, 3, 4, 5, 6], lengths)
    found = flat_start.states_to_train(path, silent)
    kept = np.repeat([True, True, True, False, True], lengths)
    np.testing.assert_array_equal(found[kept], path[kept])
    assert set(found[~kept]) == {0, 1, 2}


def test_a_phone_taken_for_silence_throughout_has_a_duration(start, monkeypatch):
    """All frames of a rare phone may be in long pauses."""
    shards, begin, _, _ = start
    path = np.repeat([0, 3, 4, 5, 2], [4, 5, MAX_STATE_FRAMES + 10, 6, 4])
    count, texts = INVENTORY.num_senones, {"u": ["AB"]}
    loglikes = np.zeros((len(path), count))
    aligner = SimpleNamespace(
        align=lambda words, frames: (path, loglikes[:, None], loglikes),
        score=lambda path, loglikes: 0.0,
        silent=np.arange(count) < 3,
        mixtures=SimpleNamespace(means=np.zeros((count, 1, D))),
    )
    utterance = FrameSequence("u", np.zeros((len(path), D), np.float32), None)
    monkeypatch.setattr(ShardAligner, "aligner", lambda self: aligner)
    monkeypatch.setattr(flat_start, "read_utterances", lambda shard: [utterance])
    shard_aligner = ShardAligner(begin("lost"), LEXICON, INVENTORY, texts)
    found = shard_aligner.align((shards[0], frozenset()))
    assert found.frames.sum() == len(path)
    durations = flat_start._mean(found.frames, found.visits)
    assert durations[[3, 4, 5]].tolist() == [5, 2, 6]
    assert (durations >= 1).all()


def test_a_damaged_model_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"model\.safetensors: damaged \(.*run the stage again"):
        read_iteration(path)


def sound(*parts):
    """Log-mels [T, 40] of (frames, loudness) parts, with a little noise."""
    level = np.repeat([loudness for _, loudness in parts], [frames for frames, _ in parts])
    noise = np.random.default_rng(0).normal(0, 0.1, (len(level), 40))
    return (level[:, None] + noise).astype(np.float32)


def test_loud_frames_are_found():
    loud = flat_start.loud_frames(sound((100, 0.0), (80, 2.0), (60, 0.0), (100, 2.0), (200, 0.0)))
    edges = np.flatnonzero(np.diff(loud.astype(int)))
    np.testing.assert_allclose(edges, [99, 179, 239, 339], atol=3)


def test_phones_share_the_loud_frames_and_pauses_are_silence():
    states = equal_segments(sound((100, 0.0), (120, 2.0), (100, 0.0)), np.array([4, 7]))
    assert (states[:95] < 3).all() and (states[225:] < 3).all()
    middle = states[105:215]
    assert (np.diff(middle) >= 0).all() and set(middle) == {12, 13, 14, 21, 22, 23}
    assert np.ptp(np.unique(states[states >= 3], return_counts=True)[1]) <= 1
    assert np.ptp(np.unique(states[states < 3], return_counts=True)[1]) <= 2


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 200), st.integers(0, 1000)
)
def test_every_state_has_a_frame_in_order(phones, more, seed):
    frames = 3 * len(phones) + more
    features = np.random.default_rng(seed).normal(0, 1, (frames, 40)).astype(np.float32)
    states = equal_segments(features, np.array(phones))
    assert states.shape == (frames,) and states.dtype == np.int32
    spoken = states[states >= 3]
    place = np.flatnonzero(np.diff(spoken, prepend=-1))
    found, wanted = spoken[place], np.array([3 * p + s for p in phones for s in range(3)])
    np.testing.assert_array_equal(found, wanted)


def test_uniform_sound_is_speech_but_for_its_ends():
    states = equal_segments(np.ones((50, 40), np.float32), np.array([1, 2]))
    assert (states[3:-3] >= 3).all() and (states[[0, 1, 2, -3, -2, -1]] < 3).all()
