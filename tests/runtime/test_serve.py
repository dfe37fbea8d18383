"""The page to try bundles: what it hears, what it refuses, and what it leaves behind."""

import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.verbs import serve

gradio_client = pytest.importorskip("gradio_client", reason="needs acoustic-kd[serve]")
pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Where the page keeps what it is sent."""
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def client(bundle, recordings):
    """A client of a page of the bundle, twice."""
    recognizers = {name: Recognizer.from_pretrained(bundle) for name in ("one", "two")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(recordings))
        blocks = serve.page(recognizers)
        _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, max_file_size="1mb")
        try:
            yield gradio_client.Client(address, verbose=False)
        finally:
            blocks.close()


def recognise(client, path):
    return client.predict(gradio_client.handle_file(str(path)), api_name="/recognise")


def test_each_bundle_says_what_it_hears(client, bundle, spoken):
    expected = Recognizer.from_pretrained(bundle)(spoken[0])
    one, table, two, _ = recognise(client, spoken[0])
    assert one == two == expected.text
    assert table["headers"] == serve.HEADINGS
    assert [row[0] for row in table["data"]] == [word.word for word in expected.words]


def test_two_at_once_both_get_their_words(client, spoken):
    alone = [recognise(client, audio)[0] for audio in spoken[:2]]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda audio: recognise(client, audio)[0], spoken[:2])) == alone


def test_what_cannot_be_recognised_is_one_line(client, tmp_path, monkeypatch):
    noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write(tmp_path / "long.wav", noise, 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    monkeypatch.setattr(serve, "MAX_SECONDS", 1)
    for name, message in {
        "long": "longer than 1 seconds", "silent": "no sound", "text": "is text"
    }.items():  # fmt: skip
        with pytest.raises(gradio_client.exceptions.AppError, match=message) as error:
            recognise(client, tmp_path / f"{name}.wav")
        assert str(tmp_path) not in str(error.value) and "\n" not in str(error.value)


def test_a_large_file_is_refused(client, tmp_path):
    soundfile.write(tmp_path / "large.wav", np.ones(10**6), 16000)
    with pytest.raises(Exception, match="(?i)size|413|large"):
        recognise(client, tmp_path / "large.wav")


def test_a_client_that_disconnects_leaves_no_traceback(client, spoken, monkeypatch):
    logged = []
    handler = SimpleNamespace(level=logging.ERROR, handle=logged.append)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [handler])
    host, port = urlsplit(client.src).netloc.split(":")
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        'Content-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as sending:
        sending.sendall(head.encode() + Path(spoken[0]).read_bytes()[:3000])
        time.sleep(0.5)  # the server reads
    client.submit(gradio_client.handle_file(str(spoken[0])), api_name="/recognise").cancel()
    assert recognise(client, spoken[0])[0]
    assert logged == []


def test_old_recordings_are_deleted(tmp_path):
    for name, age in {"new": 0, "old": serve.KEPT_SECONDS + 1}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").touch()
        os.utime(tmp_path / name / "a.wav", 2 * (time.time() - age,))
    serve.delete_old(tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("*.wav")] == ["new"]


def test_recordings_lie_in_the_temporary_folder_alone(client, recordings, spoken):
    recognise(client, spoken[0])
    assert any(path.suffix == ".wav" for path in recordings.rglob("*"))


def test_the_command_deletes_its_folder_when_it_ends(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen = []

    def launch(blocks, **options):
        seen.append((list(tmp_path.iterdir()), options))

    monkeypatch.setattr("gradio.Blocks.launch", launch)
    monkeypatch.setattr("gradio.Blocks.close", lambda blocks: None)
    monkeypatch.setattr(serve, "Event", lambda: SimpleNamespace(wait=lambda seconds: True))
    serve.serve([str(bundle)], "127.0.0.1", 7860)
    ((folders, options),) = seen
    assert len(folders) == 1 and options["server_name"] == "127.0.0.1"
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_not_free_is_one_line(bundle, command_refusal):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = command_refusal("serve", bundle, "--port", port)
        assert f"127.0.0.1:{port}: this address is not free" in message
    assert "--port is 70000; it must be" in command_refusal("serve", bundle, "--port", 70000)
