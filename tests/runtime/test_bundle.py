"""A bundle recognises what its experiment recognises, without PyTorch; damage is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from local_hub import local_hub

import acoustic_kd as akd
from acoustic_kd.experiment.transcriber import Transcriber
from acoustic_kd.runtime import bundle as bundles
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.model import AcousticModel

pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")
pytest.importorskip("onnxruntime", reason="needs acoustic-kd[onnx]")

# Fails where a package is imported that a recogniser must not need.
WITHOUT_PYTORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Absent())
import acoustic_kd as akd

result = akd.Recognizer.from_pretrained(sys.argv[1])(sys.argv[2])
print(result.text)
"""
ABSENT = {"torch", "torchaudio", "accelerate", "h5py", "safetensors", "onnx", "jinja2"}


@pytest.fixture
def copied(bundle, tmp_path):
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def test_words_times_and_confidences_are_the_experiments(
    finished_recipe, bundle, spoken, monkeypatch
):
    monkeypatch.setenv("ACOUSTIC_KD_BFLOAT16", "0")  # ONNX Runtime multiplies in float32
    recognizer, transcriber = (
        Recognizer.from_pretrained(bundle),
        Transcriber(finished_recipe.directory),
    )
    for audio in spoken:
        found, expected = recognizer(audio).words, transcriber.timed_words(audio)
        assert [(w.word, w.start, w.end) for w in found] == [
            (w.word, w.start, w.end) for w in expected
        ]
        np.testing.assert_allclose(
            [w.confidence for w in found], [w.confidence for w in expected], atol=1e-3
        )


def test_samples_give_what_their_file_gives(bundle, spoken):
    recognizer = Recognizer.from_pretrained(bundle)
    samples, rate = soundfile.read(spoken[0], dtype="int16")
    expected = recognizer(spoken[0])
    assert recognizer(samples, rate) == expected
    assert recognizer(np.stack(2 * [samples / np.float64(32768)], axis=1), rate) == expected
    assert recognizer((samples / 32768).tolist(), float(rate)) == expected
    with pytest.raises(UserError, match="samples need their sample_rate"):
        recognizer(samples)
    for wrong in (0, -8000, 16000.5, 10**9):
        with pytest.raises(UserError, match="the sample rate must be a whole number"):
            recognizer(samples, wrong)


def test_the_example_of_the_page_runs(bundle, spoken, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "use.md").read_text()
    block = re.search("\n## Bundles\n.*?```python\n(.*?)```", page, re.DOTALL)[1]
    shutil.copytree(bundle, tmp_path / "an4")
    samples, rate = soundfile.read(spoken[0])
    soundfile.write(tmp_path / "talk.mp3", samples, rate)
    monkeypatch.chdir(tmp_path)
    exec(block, {"akd": akd, "samples": samples})  # noqa: S102


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(16000, np.int32), "give floats or int16"),
        (np.zeros((2, 3, 4), np.float32), "give floats or int16"),
        (np.zeros((2, 16000), np.float32), "give floats or int16"),
        (np.zeros((16000, 0), np.float32), "give floats or int16"),
        (np.full(16000, np.nan, np.float32), "infinite or not numbers"),
        (np.zeros(16000, np.float32), "no sound"),
        (np.zeros(0, np.float32), "shorter than one window"),
    ],
)
def test_other_samples_are_refused(bundle, samples, message):
    with pytest.raises(UserError, match=message):
        Recognizer.from_pretrained(bundle)(samples, 16000)


def test_pytorch_is_not_needed(bundle, spoken):
    command = [sys.executable, "-c", WITHOUT_PYTORCH.format(absent=ABSENT), bundle, spoken[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.rstrip("\n") == Recognizer.from_pretrained(bundle)(spoken[0]).text


def test_eight_bits_are_smaller_and_nearly_as_good(bundle, spoken):
    sizes = [(bundle / name).stat().st_size for name in (bundles.INT8_MODEL, bundles.MODEL)]
    assert sizes[0] < 0.6 * sizes[1]
    recognizer = Recognizer.from_pretrained(bundle, int8=True)
    assert any(recognizer(audio).text for audio in spoken)


def test_pytorch_can_go_on_from_it(finished_recipe, bundle):
    model = AcousticModel.from_pretrained(bundle)
    trained = AcousticModel.from_pretrained(finished_recipe.directory / "distilled" / "01")
    for name, tensor in trained.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], tensor)


def test_the_card_names_data_licence_results_and_command(bundle):
    card = (bundle / "README.md").read_text()
    assert card.startswith("---\ntags:")
    for text in ("Licence of the data", "| distilled", "recipes/run.sh", "model.int8.onnx"):
        assert text in card


def changed(**values):
    def change(folder):
        path = folder / bundles.CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def flipped(name):
    def change(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return change


def feature(**values):
    def change(folder):
        config = json.loads((folder / bundles.CONFIG).read_text())
        changed(features=config["features"] | values)(folder)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(version=2), "format 2 of bundles, and this acoustic-kd reads 1; install"),
        (changed(format="other"), "not a bundle"),
        (changed(weights=["8", 0]), "'weights.0' must be"),
        (changed(weights=[0, 0]), "a window or weight is negative"),
        (changed(window=[-1, 0]), "a window or weight is negative"),
        (changed(files={}), "lists other files than a bundle has"),
        (changed(files={"../a": ""}), "lists other files than a bundle"),
        (feature(mel_bins=20), "does not fit features.mel_bins"),
        (feature(sample_rate=0), "'features.sample_rate' is 0; it must"),
        (lambda folder: (folder / bundles.MODEL).unlink(), r"model\.onnx: missing"),
        *(
            (flipped(n), f"{n}: missing, damaged")
            for n in ("model.onnx", "HCLG.fst", "lexicon.txt")
        ),
    ],
)
def test_damage_and_other_versions_are_one_line(copied, change, message):
    change(copied)
    with pytest.raises(UserError, match=message):
        Recognizer.from_pretrained(copied)


@pytest.mark.parametrize(
    "files",
    [{"precious": "mine"}, {"config.json": "{}"}, {"config.json": "bundle", "precious": "mine"}],
)
def test_a_folder_that_is_not_a_bundle_is_not_replaced(
    finished_recipe, bundle, command_refusal, tmp_path, files
):
    for name, content in files.items():
        content = (bundle / name).read_text() if content == "bundle" else content
        (tmp_path / name).write_text(content)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    refusal = command_refusal("bundle", finished_recipe.directory, "--out", tmp_path)
    assert "exists and is not a bundle" in refusal
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("out", ["link", "."])
def test_a_bundle_is_replaced_where_it_is(
    finished_recipe, bundle, command, tmp_path, monkeypatch, out
):
    shutil.copytree(bundle, tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path if out == "link" else tmp_path / "real")
    status, _, error = command("bundle", finished_recipe.directory, "--out", out)
    assert (status, error) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "real/model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--for", "sherpa-onnx", "--int8"), "do not have --int8"),
        (("--upload", "one/two/three"), "it must be USER/NAME"),
    ],
)
def test_options_that_do_not_fit_are_refused_first(
    finished_recipe, command_refusal, tmp_path, options, message
):
    arguments = ("bundle", finished_recipe.directory, "--out", tmp_path / "out", *options)
    assert message in command_refusal(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_threads_share_a_recogniser(bundle, spoken):
    recognizer = Recognizer.from_pretrained(bundle)
    audio = [spoken[n % len(spoken)] for n in range(12)]
    expected = [recognizer(path).text for path in audio]
    with ThreadPoolExecutor(4) as pool:
        assert [found.text for found in pool.map(recognizer, audio)] == expected


def test_no_telemetry_is_left_behind(bundle, spoken, tmp_path):
    command = [sys.executable, "-m", "acoustic_kd", "transcribe", bundle, spoken[0]]
    environment = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("XDG_CACHE_HOME", None)
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_goes_to_the_hub_and_comes_back(bundle, spoken, tmp_path, monkeypatch):
    program = (
        "import sys; from pathlib import Path; from acoustic_kd.system.hub import upload\n"
        "from acoustic_kd.cli import main\n"
        "print(upload(Path(sys.argv[1]), 'user/tiny'), flush=True)\n"
        "sys.exit(main(['transcribe', 'user/tiny', sys.argv[2]]))"
    )
    with local_hub() as (address, files):
        environment = {"HF_ENDPOINT": address, "HF_TOKEN": "secret", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", program, bundle, spoken[0]],
            env=os.environ | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        where, line = done.stdout.splitlines()
        assert where == f"{address}/user/tiny"
        assert line.split("\t")[1] == Recognizer.from_pretrained(bundle)(spoken[0]).text
        assert set(files) >= {path.name for path in bundle.iterdir()}
