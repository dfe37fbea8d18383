"""Transforms of speakers: in frames and copies of train, in decoding, in transcribing."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from variants import TO_FRAMES

from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.decoding.lattice import Lattice
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.decoding.workers import DecodingResult
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import AcousticScorer, find_system, speaker_space
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.outputs import stored_frames
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.features.copies import original_id
from acoustic_kd.features.fmllr import Labelled, read_transforms
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.verbs.bundle import bundle
from acoustic_kd.verbs.decode import FrameAccuracy, decode_split

WEIGHTS = [(5.0, 0.0), (7.0, 0.0)]
SETTING = "frames.speaker_cepstra=5"


@pytest.fixture(scope="module")
def transformed(finished_recipe, tmp_path_factory):
    """The tiny recipe with transforms."""
    return finished_recipe.copy(tmp_path_factory.mktemp("transforms") / "exp", SETTING).run()


@pytest.fixture(scope="module")
def experiment(transformed):
    return open_experiment(transformed.directory)


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


def speakers_of(directory, split):
    return {u.id: u.speaker for u in read_manifest(directory / "corpus" / f"{split}.jsonl")}


def test_frames_of_train_alone_have_the_transforms_of_their_speakers(experiment):
    transforms = read_transforms(experiment.path("frames") / "transforms.json")
    for split in ("train", "dev", "test"):
        speakers = speakers_of(experiment.directory, split)
        stored = {u.id: u.features for u in stored_frames(experiment.path("frames") / split)}
        for u in normalised(experiment, split):
            if u.id in stored:
                own = transforms[speakers[u.id]] if split == "train" else np.float32
                np.testing.assert_array_equal(stored[u.id], own(u.features).astype(np.float16))


def test_copies_at_the_own_vocal_tract_length_have_them_too(transformed, tmp_path):
    copies = ("features.vtlp_warps=[1,0.9]", "features.tempos=[1,1.25]")
    plain, with_transforms = (
        transformed.copy(tmp_path / name, *copies, *more).run([*TO_FRAMES, "copies"])
        for name, more in (("plain", ["frames.speaker_cepstra=0"]), ("transformed", []))
    )
    found = [
        {u.id: u.features for u in stored_frames(recipe.directory / "copies" / "train")}
        for recipe in (plain, with_transforms)
    ]
    transforms = read_transforms(with_transforms.directory / "frames" / "transforms.json")
    speakers = speakers_of(with_transforms.directory, "train")
    assert found[0].keys() == found[1].keys()
    for name, before in found[0].items():
        after = found[1][name]
        if "#warp1tempo" in name:
            expected = transforms[speakers[original_id(name)]](before.astype(np.float32))
            np.testing.assert_allclose(after, expected, atol=0.05)
            assert not np.array_equal(after, before)
        else:
            np.testing.assert_array_equal(after, before)


def test_the_second_pass_has_the_transform_of_all_that_the_speaker_said(experiment, scorer):
    search = Passes(["A"])
    decoded = decode(experiment, scorer, search)
    (first, tried), (second, again) = search.given
    assert again == WEIGHTS and tried == WEIGHTS[:1] and decoded.keys() == second.keys()
    assert search.beams == [experiment.config.decode.first_beam, None]
    said = list(normalised(experiment, "dev"))
    assert len(set(speakers_of(experiment.directory, "dev").values())) == 1
    known = [Labelled("", u.features, first[u.id].argmax(1)) for u in said]
    transform = speaker_space(experiment).transforms(known)[""]
    for u in said:
        plain, own = (
            log_likelihoods(scorer.posteriors(frames), scorer.log_prior)
            for frames in (u.features, transform(u.features))
        )
        np.testing.assert_array_equal(first[u.id], plain)
        np.testing.assert_array_equal(second[u.id], own)
        assert not np.array_equal(plain, own)


def test_a_speaker_without_words_keeps_the_frames_and_is_named(experiment, scorer, capsys):
    search = Passes([])
    decode(experiment, scorer, search)
    (first, _), (second, _) = search.given
    assert all(np.array_equal(first[name], second[name]) for name in first)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("  speaker ") and line.endswith(
        " has no words in the first decoding; the speaker's frames get no transform"
    )


@pytest.mark.parametrize(("share", "kept"), [(1.0, 1), (0.5, 2), (0.34, 3), (0.001, None)])
def test_a_share_of_each_dev_speakers_utterances_is_decoded(experiment, scorer, share, kept):
    config = replace(experiment.config.decode, dev_share=share)
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


def test_transcribe_and_bundles_transform_each_recording(transformed, tmp_path, monkeypatch):
    path = read_manifest(transformed.directory / "corpus" / "test.jsonl")[0].audio
    transcriber = Transcriber(transformed.directory)
    own = [rows for _, (_, rows, _) in transcriber._lattices(path)]
    bundle(transformed.directory, tmp_path / "bundle")
    packed = Recognizer.from_pretrained(tmp_path / "bundle")
    np.testing.assert_array_equal(packed.speaker_space.means, transcriber.speaker_space.means)
    assert packed.words(path) == transcriber.words(path)
    monkeypatch.setattr(Lattice, "best", lambda *_: [])
    without_words = [rows for _, (_, rows, _) in transcriber._lattices(path)]
    transcriber.speaker_space = None
    plain = [rows for _, (_, rows, _) in transcriber._lattices(path)]
    assert all(map(np.array_equal, without_words, plain))
    assert not np.array_equal(own[0], plain[0])


def test_a_deleted_file_is_named(transformed, tmp_path, outcome):
    recipe = transformed.copy(tmp_path / "exp")
    (recipe.directory / "frames" / "speaker_space.json").unlink()
    shutil.rmtree(recipe.directory / "decode")
    status, _, error = outcome(recipe, "decode")
    assert status == 2 and error.count("\n") == 1 and "speaker_space.json" in error
