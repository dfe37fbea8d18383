"""Rounds of training: what they learn, and that what was stopped goes on to the same bits."""

from types import SimpleNamespace

import numpy as np
import pytest

from acoustic_kd.alignment import flat_start as rounds
from acoustic_kd.alignment.flat_start import (
    LONGEST,
    ShardAligner,
    equal_states,
    first_round,
    learnt_states,
    train_rounds,
)
from acoustic_kd.alignment.gmm_aligner import Iteration, read_iteration
from acoustic_kd.alignment.senones import monophones
from acoustic_kd.features.frames import FrameSequence, shard_paths, write_store
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.system.errors import UserError

LEXICON = Lexicon({"AB": (("A", "B"), ("B",)), "BC": (("B", "C"),), "CA": (("C", "A"),)})
INVENTORY = monophones(("SIL", "A", "B", "C"))
D = 4


def said(rng, words):
    """The true states of words with silence around, and frames that sound like them."""
    spelt = [p for word in words for p in LEXICON[word][0]]
    phones = np.array([0, *(INVENTORY.index[p] for p in spelt), 0])
    states = np.repeat(
        (phones[:, None] * 3 + np.arange(3)).ravel(), rng.integers(3, 8, 3 * len(phones))
    )
    means = np.random.default_rng(99).normal(0, 4, (INVENTORY.num_senones, D))
    means[:3] = -8
    frames = rng.normal(means[states], 1)
    return states, frames.astype(np.float32)


@pytest.fixture
def start(tmp_path):
    """start(folder) → shards, the first model's file, texts, true states."""
    rng = np.random.default_rng(0)
    texts, truth, utterances = {}, {}, []
    for number in range(30):
        name = f"u{number:02d}"
        texts[name] = [str(w) for w in rng.choice(sorted(LEXICON.entries), rng.integers(1, 5))]
        truth[name], frames = said(rng, texts[name])
        spelt = [INVENTORY.index[p] for word in texts[name] for p in LEXICON[word][0]]
        guess = equal_states(frames, np.array(spelt))
        utterances.append(FrameSequence(name, frames, guess))
    write_store(tmp_path / "store", utterances, INVENTORY.classes, 900, "float32")
    shards = shard_paths(tmp_path / "store")
    assert len(shards) > 3
    first = first_round(shards, INVENTORY)

    def begin(folder):
        first.write(tmp_path / folder / "model.safetensors")
        return tmp_path / folder / "model.safetensors"

    return shards, begin, texts, truth


def train(shards, model, texts, count=12, gaussians=2):
    return train_rounds(shards, model, LEXICON, INVENTORY, texts, count, gaussians, 6.0)


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Starting others takes longer than the work."""
    monkeypatch.setattr("acoustic_kd.system.parallel.cores", lambda: 1)


def test_states_are_found_without_being_told(start):
    shards, begin, texts, truth = start
    model = begin("a")
    *_, last = train(shards, model, texts)
    assert last.finished and len(last.history) <= 12
    aligner = ShardAligner(model, LEXICON, INVENTORY, texts).aligner()
    right = total = 0
    for shard in shards:
        for utterance in rounds.read_utterances(shard):
            path = aligner.align(texts[utterance.id], utterance.features)[0]
            # The states of silence sound alike.
            right += np.count_nonzero(np.maximum(path, 2) == np.maximum(truth[utterance.id], 2))
            total += len(path)
    assert right > 0.95 * total
    assert (last.durations[3:] > 3.5).all() and (last.durations[3:] < 7).all()


def test_what_was_stopped_in_any_round_ends_with_the_same_bits(start, monkeypatch):
    shards, begin, texts, _ = start
    whole = begin("whole")
    history = [found.history[-1] for found in train(shards, whole, texts)]
    assert {row["gaussians"] for row in history} == {1, 2}
    stopped, fit = begin("stopped"), rounds.fit
    for _ in range(100):
        calls = iter([False, False, True])  # in the third round from where it goes on

        def stop(*arguments, calls=calls):
            if next(calls):
                raise KeyboardInterrupt
            return fit(*arguments)

        monkeypatch.setattr(rounds, "fit", stop)
        try:
            list(train(shards, stopped, texts))
            break
        except KeyboardInterrupt:
            assert not read_iteration(stopped).finished
    assert stopped.read_bytes() == whole.read_bytes()
    assert list(train(shards, stopped, texts)) == []  # done is done


@pytest.mark.slow
def test_two_processes_learn_the_same_bits(start, monkeypatch):
    shards, begin, texts, _ = start
    one, two = begin("one"), begin("two")
    list(train(shards, one, texts, count=3))
    monkeypatch.setattr("acoustic_kd.system.parallel.cores", lambda: 2)
    list(train(shards, two, texts, count=3))
    assert two.read_bytes() == one.read_bytes()


def test_rounds_end_at_the_number_that_was_asked_for(start):
    shards, begin, texts, _ = start
    model = begin("few")
    found = list(train(shards, model, texts, count=2))
    assert [f.finished for f in found] == [False, True] and read_iteration(model).finished


def test_a_phone_that_lasts_too_long_is_learnt_as_silence():
    silent = np.arange(INVENTORY.num_senones) < 3
    lengths = np.array([LONGEST + 9, 5, LONGEST, LONGEST + 1, 4])
    path = np.repeat([0, 3, 4, 5, 6], lengths)
    found = learnt_states(path, silent)
    kept = np.repeat([True, True, True, False, True], lengths)
    np.testing.assert_array_equal(found[kept], path[kept])
    assert set(found[~kept]) == {0, 1, 2}


def test_a_phone_that_has_lost_all_its_frames_has_a_duration(start, monkeypatch):
    """A rare one may be found in a long pause alone."""
    shards, begin, _, _ = start
    path = np.repeat([0, 3, 4, 5, 2], [4, 5, LONGEST + 10, 6, 4])
    count, texts = INVENTORY.num_senones, {"u": ["AB"]}
    aligner = SimpleNamespace(
        align=lambda words, frames: (
            path,
            np.zeros((len(path), 1, count)),
            np.zeros((len(path), count)),
        ),
        score=lambda path, loglikes: 0.0,
        silent=np.arange(count) < 3,
        mixtures=SimpleNamespace(means=np.zeros((count, 1, D))),
    )
    utterance = FrameSequence("u", np.zeros((len(path), D), np.float32), None)
    monkeypatch.setattr(ShardAligner, "aligner", lambda self: aligner)
    monkeypatch.setattr(rounds, "read_utterances", lambda shard: [utterance])
    shard_aligner = ShardAligner(begin("lost"), LEXICON, INVENTORY, texts)
    found = shard_aligner.align((shards[0], frozenset()))
    assert found.frames.sum() == len(path)
    durations = rounds._mean(found.frames, found.visits)
    assert durations[[3, 4, 5]].tolist() == [5, 2, 6]
    assert (durations >= 1).all()


def test_a_damaged_model_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"model\.safetensors: damaged \(.*run the stage again"):
        read_iteration(path)


def test_round_trip(start, tmp_path):
    found: Iteration = read_iteration(start[1]("again"))
    found.write(tmp_path / "copy")
    again = read_iteration(tmp_path / "copy")
    assert (again.history, again.finished) == (found.history, found.finished)
    np.testing.assert_array_equal(again.mixtures.means, found.mixtures.means)
    np.testing.assert_array_equal(again.scores, found.scores)
