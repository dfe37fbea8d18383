"""The demo corpus: real synthesis of a few sentences."""

import ast
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pocketsphinx
import pytest

from acoustic_kd.corpora import demo as demo
from acoustic_kd.corpora import espeak_process
from acoustic_kd.corpora.demo_sentences import sentences, vocabulary
from acoustic_kd.corpora.load import load
from acoustic_kd.features.audio import read_audio
from acoustic_kd.language.lexicon import read_lexicon
from acoustic_kd.settings import CorpusConfig
from acoustic_kd.system.errors import UserError

SMALL = CorpusConfig(
    demo_train_voices=2,
    demo_dev_voices=1,
    demo_test_voices=1,
    demo_train_sentences=3,
    demo_eval_sentences=2,
)


def config(**changes) -> CorpusConfig:
    return replace(SMALL, **changes)


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory):
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    folder = tmp_path_factory.mktemp("demo")
    return folder, load(config(), folder)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_splits_share_no_voice_and_no_sentence(synthesised):
    splits = synthesised[1].splits
    assert {split: len(us) for split, us in splits.items()} == {"train": 6, "dev": 2, "test": 2}
    everyone = [u for us in splits.values() for u in us]
    assert len({u.text for u in everyone}) == len(everyone)
    assert sum(len({u.speaker for u in us}) for us in splits.values()) == 4
    speakers = [voice.speaker for voices in demo.VOICES.values() for voice in voices]
    assert len(set(speakers)) == len(speakers)


def test_audio_is_speech_with_noise(synthesised):
    for utterance in synthesised[1].splits["train"]:
        samples = read_audio(utterance, 16000)
        words = len(utterance.text.split())
        assert 0.15 * words < len(samples) / 16000 < 1.0 * words + 1
        edge = samples[: round(0.1 * 16000)]
        assert 0.002 < np.abs(samples).max() <= 1
        assert 0 < edge.std() < 0.5 * samples.std()  # noise alone before the speech


def test_pocketsphinx_aligns_it(synthesised):
    utterance = synthesised[1].splits["train"][0]
    decoder = pocketsphinx.Decoder(bestpath=False, loglevel="FATAL")
    decoder.set_align_text(utterance.text.lower())
    decoder.start_utt()
    samples = (read_audio(utterance, 16000) * 32767).astype(np.int16)
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    # Optional silences are `<sil>`, second pronunciations `word(2)`.
    aligned = [segment.word.split("(")[0] for segment in decoder.seg()]
    words = [word for word in aligned if not word.startswith(("<", "["))]
    assert words == utterance.text.lower().split()


def test_same_bytes_again_whatever_was_there(synthesised):
    folder, _ = synthesised
    before = hashes(folder)
    lost, damaged, *_ = sorted(folder.rglob("*.wav"))
    lost.unlink()
    damaged.write_bytes(b"RIFF")
    load(config(), folder)
    assert hashes(folder) == before


def test_seed_changes_sentences_and_noise(synthesised, tmp_path):
    other = load(config(seed=2), tmp_path).splits["test"]
    assert {u.text for u in other} != {u.text for u in synthesised[1].splits["test"]}


def test_killed_while_writing_leaves_no_half_file(tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")

    def dies(file, *_args, **_kwargs):
        Path(file).write_bytes(b"RIFF half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.soundfile, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        load(config(), tmp_path)
    assert hashes(tmp_path) == {}


def test_every_word_is_in_the_dictionary_of_the_aligner():
    path = pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")
    lexicon = read_lexicon(path)
    assert [word for word in sorted(vocabulary()) if word not in lexicon] == []
    assert 60 <= len(vocabulary()) <= 150


def test_sentences_are_different_and_a_longer_list_begins_the_same():
    many = sentences(700, seed=1)
    assert len(set(many)) == 700
    assert sentences(50, seed=1) == many[:50]
    assert sentences(50, seed=2) != many[:50]
    assert {word for text in many for word in text.split()} == vocabulary()


def test_no_voice_uses_breath():
    loader = pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    folder = Path(loader.get_data_path()) / "voices" / "!v"
    for voice in [voice for voices in demo.VOICES.values() for voice in voices]:
        lines = (folder / voice.variant).read_text(encoding="utf-8", errors="replace").splitlines()
        assert not [line for line in lines if line.startswith("breath")], voice


def test_missing_espeak_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '/path/to/checkout\[demo\]'"):
        load(config(), tmp_path)


def test_failing_synthesiser_is_one_line(monkeypatch):
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    for voice in (demo.Voice("en-us", "nobody", 150, 50), demo.Voice("xx-yy", "m1", 150, 50)):
        with pytest.raises(UserError, match=r"failed for voice .* has no voice") as caught:
            demo._speak(voice, ["YES"])
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(espeak_process, "__file__", "/nowhere.py")
    with pytest.raises(UserError, match="espeak-ng failed"):
        demo._speak(voice, ["YES"])


def test_the_synthesiser_needs_no_package():
    """The child runs by path: it must not import what a fresh interpreter lacks."""
    tree = ast.parse(Path(espeak_process.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
    }
    assert imported and imported <= sys.stdlib_module_names
