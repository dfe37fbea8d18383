"""The page to try bundles in a real browser, whose microphone is a file.

Needs the package playwright, and Chromium: on the path, or in the environment variable CHROMIUM.
"""

import os
import shutil
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.verbs import serve

pytest.importorskip("gradio", reason="needs acoustic-kd[serve]")
pytest.importorskip("onnx", reason="needs acoustic-kd[onnx]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
BROWSERS = (os.environ.get("CHROMIUM", ""), "chromium", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def address(bundle, tmp_path_factory):
    """The page of a bundle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("recordings")))
        blocks = serve.page({"tiny": Recognizer.from_pretrained(bundle)})
        _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
        try:
            yield address
        finally:
            blocks.close()


@pytest.fixture(scope="module")
def browser(spoken, tmp_path_factory):
    """A browser that hears an utterance, with silence around it."""
    samples, rate = soundfile.read(spoken[0], dtype="int16")
    silence = np.zeros(rate // 2, np.int16)
    microphone = tmp_path_factory.mktemp("microphone") / "talk.wav"
    soundfile.write(microphone, np.concatenate([silence, samples, silence]), rate)
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=BROWSER,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
            ],
        )
        yield launched
        launched.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_what_the_microphone_hears_is_recognised(address, browser, width):
    page, errors, hosts = browser.new_page(viewport={"width": width, "height": 850}), [], set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.goto(address)
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(3000)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_selector("audio, [data-testid=waveform-controls]", state="attached")
    page.get_by_role("button", name="Recognise").click()
    words = page.get_by_label("tiny")
    page.wait_for_function("text => text.value != ''", arg=words.element_handle())
    assert words.input_value().strip()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert errors == [] and hosts <= {urlsplit(address).netloc, ""}
    page.close()
