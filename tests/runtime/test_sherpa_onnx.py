"""sherpa-onnx reads a bundle for it, and gives the words of our own recogniser."""

import re

import numpy as np
import pytest
import soundfile

from acoustic_kd.cli import main
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.system.errors import UserError

pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")


@pytest.fixture(scope="module")
def for_sherpa(finished_recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "for-sherpa"
    arguments = ["bundle", finished_recipe.directory, "--out", out, "--for", "sherpa-onnx"]
    assert main([*map(str, arguments)]) == 0
    return out


def test_the_code_of_the_card_gives_the_words(for_sherpa, bundle, spoken, monkeypatch, capfd):
    pytest.importorskip("sherpa_onnx", reason="needs sherpa-onnx")
    card = (for_sherpa / "README.md").read_text()
    code = re.search("```python\n(.*?)```", card, re.DOTALL)[1]
    monkeypatch.chdir(for_sherpa.parent)
    recognizer = Recognizer.from_pretrained(bundle)
    for audio in spoken:
        samples, rate = soundfile.read(audio, dtype="int16")
        soundfile.write("talk.wav", samples, rate)
        exec(code, {})  # noqa: S102  # the card's own
        assert capfd.readouterr().out.strip() == recognizer(audio).text


def test_its_model_has_a_blank_and_three_copies_of_each_senone(for_sherpa, bundle, spoken):
    import onnxruntime

    session = onnxruntime.InferenceSession(for_sherpa / "model.onnx")
    frames = np.random.default_rng(0).normal(10, 3, (1, 50, 40)).astype(np.float32)
    (scores,) = session.run(None, {"log_mels": frames})
    blank, *copies = np.split(scores[0], [1, 121, 241], axis=1)
    assert (blank == -1e4).all() and scores.shape[2] == 361
    assert session.get_modelmeta().custom_metadata_map["vocab_size"] == "361"
    for copy in copies:
        np.testing.assert_array_equal(copy, copies[0])
    tokens = (for_sherpa / "tokens.txt").read_text().splitlines()
    assert len(tokens) == 361 and tokens[0] == "<blk> 0"


def test_our_own_recogniser_does_not_read_it(for_sherpa):
    with pytest.raises(UserError, match="not a bundle of acoustic-kd"):
        Recognizer.from_pretrained(for_sherpa)
