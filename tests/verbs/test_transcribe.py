"""Transcribing: the decode stage's words, times within the recording, refusals in one line."""

import io
import json
import os
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import soundfile
from damage import forget_check_sums
from hypothesis import given
from hypothesis import strategies as st

from acoustic_kd.cli import exit_status
from acoustic_kd.corpora.utterances import Utterance, read_manifest, write_manifest
from acoustic_kd.decoding.scoring import read_transcripts
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.normalised import Normaliser, normalised
from acoustic_kd.experiment.outputs import UNLABELLED
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.experiment.transcriber import Transcriber, moments_of_train
from acoustic_kd.features.audio import AudioError
from acoustic_kd.features.copies import Copy
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.frames import write_store
from acoustic_kd.features.normalise import loudest_levels
from acoustic_kd.features.recordings import recording_features
from acoustic_kd.runtime import recognizer
from acoustic_kd.runtime.recognizer import Recognizer, cut
from acoustic_kd.settings import Config, FeatureConfig


@pytest.fixture(scope="module")
def spoken(finished_recipe):
    """The sentences of the tiny recipe's one test speaker."""
    return read_manifest(finished_recipe.directory / "corpus" / "test.jsonl")


@pytest.fixture(scope="module")
def transcriber(finished_recipe):
    return Transcriber(finished_recipe.directory)


@pytest.mark.parametrize("model", ["distilled/01", "distilled/control", "members/02", "ensemble"])
def test_words_are_those_of_the_decode_stage(finished_recipe, spoken, model):
    transcriber = Transcriber(finished_recipe.directory, model)
    experiment = transcriber.experiment
    features = finished_recipe.directory / "features"
    (transcriber.train_moments,) = Normaliser(experiment, features, "test").moments.values()
    transcriber.features = replace(transcriber.features, normalise="global")
    names = {"distilled/01": "distilled-01", "members/02": "member-02", "ensemble": "ensemble"}
    folder = finished_recipe.directory / "decode" / names.get(model, "control")
    expected = read_transcripts(folder / "test.txt")
    assert any(expected.values())
    for utterance in spoken:
        assert transcriber.words(utterance.audio) == expected[utterance.id]
        assert [w.word for w in transcriber.timed_words(utterance.audio)] == expected[utterance.id]


def test_one_line_a_file_and_a_bad_file_ends_no_other(finished_recipe, spoken, command, tmp_path):
    (tmp_path / "bad.wav").write_text("no sound")
    files = [spoken[0].audio, tmp_path / "bad.wav", spoken[1].audio]
    status, out, error = command("transcribe", finished_recipe.directory, *files)
    assert status == 2
    lines = [line.split("\t") for line in out.splitlines()]
    assert [name for name, _ in lines] == [spoken[0].audio, spoken[1].audio]
    assert set(lines[0][1].split()) <= set(Transcriber(finished_recipe.directory).decoder.words)
    assert error.startswith(f"acoustic-kd transcribe: error: {tmp_path / 'bad.wav'}: is text")
    assert error.count("\n") == 1


def test_json_has_times_and_confidences(finished_recipe, spoken, command):
    arguments = ("transcribe", finished_recipe.directory, spoken[0].audio)
    status, out, error = command(*arguments, "--json")
    assert (status, error) == (0, "")
    found = json.loads(out)
    assert found["file"] == spoken[0].audio
    assert command(*arguments)[1] == f"{found['file']}\t{found['text']}\n"
    assert " ".join(word["word"] for word in found["words"]) == found["text"]
    times = [time for word in found["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times) and times[0] >= 0
    assert times[-1] <= soundfile.info(spoken[0].audio).duration
    assert all(0 < word["confidence"] <= 1 for word in found["words"])


def test_words_have_the_times_at_which_they_are_spoken(transcriber, spoken, tmp_path):
    """Later by as much as the silence that is put before them."""
    samples, rate = soundfile.read(spoken[0].audio, dtype="float32")
    tail = np.zeros(rate // 2, np.float32)
    times = []
    for before, after in ((0, 1), (1, 0)):  # as much silence in both: their moments are alike
        pieces = [*before * [tail], samples, *after * [tail]]
        soundfile.write(tmp_path / "a.wav", np.concatenate(pieces), rate)
        times.append(transcriber.timed_words(tmp_path / "a.wav"))
    first, second = times
    common = [(a, b) for a, b in zip(first, second, strict=False) if a.word == b.word]
    assert common
    assert np.median([b.start - a.start for a, b in common]) == pytest.approx(0.5, abs=0.1)


def test_long_recordings_are_cut_and_their_times_continue(
    transcriber, spoken, tmp_path, monkeypatch
):
    samples = [soundfile.read(u.audio, dtype="float32")[0] for u in spoken]
    path = tmp_path / "long.flac"
    soundfile.write(path, np.concatenate(samples), 16000)
    features = recording_features(path, transcriber.experiment.config.features)[0]
    monkeypatch.setattr(recognizer, "cut", partial(cut, max_frames=150, min_frames=60))
    pieces = recognizer.cut(features)
    assert len(pieces) >= len(features) / 150
    # The model hears beyond a piece's ends, as if nothing had been cut.
    scorer = transcriber.scorer
    whole = scorer.posteriors(features)
    for piece in pieces:
        found = recognizer.posteriors_of_piece(scorer, features, piece)
        np.testing.assert_allclose(found, whole[piece], atol=1e-5)
    words = transcriber.timed_words(path)
    assert [word.word for word in words] == transcriber.words(path)
    starts = [word.start for word in words]
    assert starts == sorted(starts) and starts[-1] > 1.5


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=400), st.integers(2, 60), st.data())
def test_pieces_are_whole_and_no_longer_than_they_may_be(energies, longest, data):
    shortest = data.draw(st.integers(1, longest // 2))
    features = np.array(energies, np.float32)[:, None]
    pieces = cut(features, longest, shortest)
    joined = np.concatenate([np.arange(len(features))[piece] for piece in pieces])
    assert joined.tolist() == list(range(len(features)))
    lengths = [piece.stop - piece.start for piece in pieces]
    assert max(lengths) <= longest
    assert len(pieces) == 1 or min(lengths) >= shortest


def test_a_piece_ends_in_the_pause():
    features = np.full((5000, 40), 5.0, np.float32)
    features[2100:2180] = -5.0
    first, *_ = cut(features)
    assert 2100 < first.stop < 2180


def lost(name):
    return lambda directory: (directory / name).unlink()


def of_another_version(directory):
    path = directory / "graph" / "done.json"
    record = json.loads(path.read_text())
    record["settings"]["decode.ngrams"] = 3
    path.write_text(json.dumps(record))
    forget_check_sums(path.parent)


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (lost("decode/done.json"), (), "'decode' is not done yet; run stage 10 (decode) first"),
        (lost("frames/done.json"), (), "'frames' is not done yet; run stage 4 (frames) first"),
        (lost("graph/HCLG.fst"), (), "HCLG.fst"),
        (of_another_version, (), "unknown setting 'decode.ngrams'"),
        (shutil.rmtree, (), "neither a directory nor a model of the Hugging Face hub"),
        (None, ("--model", "distilled/7"),
         "has members/01, members/02, distilled/control, ensemble, distilled/01"),
    ],
)  # fmt: skip
def test_experiments_and_models_that_are_refused(
    recipe, spoken, command_refusal, spoil, more, message
):
    if spoil:
        spoil(recipe.directory)
    assert message in command_refusal("transcribe", recipe.directory, spoken[0].audio, *more)


def test_a_recording_in_which_nobody_speaks(transcriber, spoken, monkeypatch):
    monkeypatch.setattr(transcriber, "silence", np.ones_like(transcriber.silence))
    with pytest.raises(AudioError, match="no speech in it"):
        transcriber.words(spoken[0].audio)


@pytest.mark.parametrize(("rate", "trained", "warns"), [(8000, 7800, 1), (8000, 4100, 0)])
def test_a_recording_without_the_upper_part_of_the_band(tmp_path, capsys, rate, trained, warns):
    transcriber = object.__new__(Recognizer)
    transcriber.features, transcriber.trained_hz = FeatureConfig(), trained
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, rate), rate)
    transcriber._check_band(path, recording_features(path, FeatureConfig())[0])
    output, error = capsys.readouterr()
    assert output == "" and error.count("holds nothing above 4.0 kHz, but the models were") == warns


def test_global_moments_are_those_that_the_stages_normalise_by(tmp_path):
    """Of train without its copies at other vocal tract lengths."""
    config = Config(features=FeatureConfig(normalise="global", vtlp_warps=(0.9, 1.0)))
    experiment = Experiment(config, tmp_path, STAGES)
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (50, 4)).astype(np.float32)
    copies = [Frames("u", features, None), Frames(Copy(0.9).id_of("u"), 2 * features, None)]
    write_store(tmp_path / "features" / "train", copies, UNLABELLED, 1000, "float32")
    write_manifest(tmp_path / "corpus" / "train.jsonl", [Utterance("u", "s", "/u.wav", "YES")])
    expected = {u.id: u.features for u in normalised(experiment, "train")}["u"]
    loudest = loudest_levels([("", features)])[""]
    found = moments_of_train(experiment).normalise(features, loudest)
    np.testing.assert_array_equal(found, expected)


def test_a_name_that_is_not_utf_8_is_printed(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "utf-8"))
    name = os.fsdecode(b"caf\xe9.wav")
    assert exit_status("test", lambda: print(f"{name}\tКОФЕ", flush=True)) == 0
    assert written.getvalue().decode() == "caf\\udce9.wav\tКОФЕ\n"
