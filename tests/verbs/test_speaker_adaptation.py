"""Two decoding passes, between which models are adapted to speakers."""

from dataclasses import replace

import numpy as np
import pytest

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.decoding.workers import DecodingResult
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import AcousticScorer, find_system
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.stages import STAGES, open_experiment
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.verbs.decode import FrameAccuracy, decode_split

WEIGHTS = [(5.0, 0.0), (7.0, 0.0)]


@pytest.fixture(scope="module")
def experiment(finished_recipe):
    """The tiny recipe's, with adaptation."""
    opened = open_experiment(finished_recipe.directory)
    decode = replace(opened.config.decode, adaptation_epochs=2, adaptation_rate=0.01)
    return Experiment(replace(opened.config, decode=decode), opened.directory, STAGES)


@pytest.fixture(scope="module")
def scorer(experiment):
    return AcousticScorer.of(experiment, find_system(experiment, "distilled/01"))


class Passes:
    """Stands for the search: keeps what each pass is given."""

    def __init__(self, words):
        self.words, self.given, self.beams = words, [], []

    def __call__(self, items, weights, beam=None):
        given = dict(items)
        self.given.append((given, list(weights)))
        self.beams.append(beam)
        return {
            name: DecodingResult([self.words] * len(weights), len(rows), True, 0.1, rows.argmax(1))
            for name, rows in given.items()
        }


def decode(experiment, scorer, search, split="dev"):
    return decode_split(
        experiment, split, scorer, search, WEIGHTS, FrameAccuracy({}, None), "distilled-01"
    )


def test_the_second_pass_has_models_adapted_to_all_that_the_speaker_said(experiment, scorer):
    search = Passes(["A"])
    decoded = decode(experiment, scorer, search)
    (first, tried), (second, again) = search.given
    assert again == WEIGHTS and tried == WEIGHTS[:1] and decoded.keys() == second.keys()
    assert search.beams == [experiment.config.decode.adaptation_beam, None]
    said = list(normalised(experiment, "dev"))
    assert len({u.speaker for u in read_manifest(experiment.path("corpus") / "dev.jsonl")}) == 1
    adapted = scorer.adapted(said, [first[u.id].argmax(1) for u in said], 2, 0.01)
    for u in said:
        plain, own = (
            log_likelihoods(r.posteriors(u.features), r.log_prior) for r in (scorer, adapted)
        )
        np.testing.assert_array_equal(first[u.id], plain)
        np.testing.assert_array_equal(second[u.id], own)
        assert not np.array_equal(plain, own)


def test_a_speaker_without_words_is_not_adapted_to_and_named(experiment, scorer, capsys):
    search = Passes([])
    decode(experiment, scorer, search)
    (first, _), (second, _) = search.given
    assert all(np.array_equal(first[name], second[name]) for name in first)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("  distilled-01: speaker ") and line.endswith(
        " has no words in the first pass; the models are not adapted to this speaker"
    )


def test_a_path_that_ends_early_gives_targets_for_its_frames_alone(experiment, scorer):
    """And one utterance is enough."""
    (utterance, *_) = normalised(experiment, "dev")
    senones = np.zeros(len(utterance.features) // 2, np.int32)
    adapted = scorer.adapted([utterance], [senones], 1, 0.01)
    half = replace_features(utterance, len(senones))
    again = scorer.adapted([half], [senones], 1, 0.01)
    ours, theirs = (
        r.posteriors(utterance.features)[: len(senones) - scorer.window[1] - 1]
        for r in (adapted, again)
    )
    assert np.abs(ours - theirs).max() < 0.2 and adapted is not scorer


def replace_features(utterance, frames):
    return replace(utterance, features=utterance.features[:frames])


@pytest.mark.parametrize(("share", "kept"), [(1.0, 1), (0.5, 2), (0.34, 3), (0.001, None)])
def test_a_share_of_each_dev_speakers_utterances_is_decoded(experiment, scorer, share, kept):
    config = replace(experiment.config.decode, dev_share=share, adaptation_epochs=0)
    some = Experiment(
        replace(experiment.config, decode=config), experiment.directory, experiment.stages
    )
    every = [u.id for u in read_manifest(experiment.path("corpus") / "dev.jsonl")]
    decoded = decode(some, scorer, Passes(["A"]))
    expected = every[::kept] if kept else every[:1]
    assert abs(len(decoded) - len(expected)) <= 1 and next(iter(decoded)) == every[0]
    assert set(decoded) <= set(every)
    whole = decode(some, scorer, Passes(["A"]), "test")
    assert len(whole) == len(read_manifest(experiment.path("corpus") / "test.jsonl"))


def test_transcribe_adapts_to_the_speaker_of_each_recording(finished_recipe, monkeypatch):
    spoken = read_manifest(finished_recipe.directory / "corpus" / "test.jsonl")
    transcriber = Transcriber(finished_recipe.directory)
    path = spoken[0].audio
    plain = [rows for _, (_, rows, _) in transcriber._lattices(path)]
    config = transcriber.experiment.config
    decode = replace(config.decode, adaptation_epochs=2)
    changed = replace(transcriber.experiment, config=replace(config, decode=decode))
    transcriber.experiment = changed
    adapted = [rows for _, (_, rows, _) in transcriber._lattices(path)]
    assert [rows.shape for rows in adapted] == [rows.shape for rows in plain]
    assert not np.array_equal(adapted[0], plain[0])
    assert isinstance(transcriber.words(path), list)
    monkeypatch.setattr(Lattice, "best", lambda *_: [])
    again = [rows for _, (_, rows, _) in transcriber._lattices(path)]
    assert all(map(np.array_equal, again, plain))  # no words, no adaptation
