"""`acoustic-kd serve`: a page on which anyone can try bundles, in a browser."""

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from acoustic_kd.features.audio import open_sound
from acoustic_kd.runtime.recognizer import Recognizer
from acoustic_kd.system.errors import UserError, installation

MAX_SECONDS = 120  # of a recording
MAX_FILE_SIZE = "50mb"
MAX_WAITING = 8  # requests; a further one is refused
KEPT_SECONDS = 600  # a recording on this machine
DELETE_SECONDS = 60  # between two searches for old recordings
HEADINGS = ["word", "start", "end", "confidence"]


def page(recognizers: Mapping[str, Recognizer]) -> Any:
    """The page, a gradio.Blocks: a recording, and the words that each recogniser hears."""
    import gradio

    def recognise(path: str | None) -> list[Any]:
        if path is None:
            raise gradio.Error("Record or choose a file first.", print_exception=False)
        outputs: list[Any] = []
        try:
            with open_sound(Path(path)) as sound:
                if sound.frames > MAX_SECONDS * sound.rate:
                    raise UserError(f"the recording is longer than {MAX_SECONDS} seconds")
            for recognizer in recognizers.values():
                heard = recognizer(path)
                rows = [[w.word, w.start, w.end, w.confidence] for w in heard.words]
                outputs += [heard.text, rows]
        except UserError as error:
            text = str(error).replace(f"{path}: ", "").replace(path, "the recording")
            raise gradio.Error(text, print_exception=False) from None
        return outputs

    logging.getLogger("uvicorn.error").addFilter(_is_fault)
    with gradio.Blocks(title="acoustic_kd", analytics_enabled=False) as blocks:
        audio = gradio.Audio(sources=["microphone", "upload"], type="filepath", label="Recording")
        button, outputs = gradio.Button("Recognise", variant="primary"), list[Any]()
        with gradio.Row():
            for name in recognizers:
                with gradio.Column(min_width=280):
                    outputs.append(gradio.Textbox(label=name, lines=2))
                    outputs.append(gradio.Dataframe(headers=HEADINGS, show_label=False))
        # One at a time: a second one would only slow down the first.
        button.click(recognise, audio, outputs, concurrency_limit=1, api_name="recognise")
    return blocks.queue(max_size=MAX_WAITING)


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether an error is more than a client that ends its connection while it sends."""
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != "ClientDisconnect"


def delete_old(folder: Path) -> None:
    """Delete old recordings, also those that were not sent to their end."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # deleted by Gradio
            if path.is_file() and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


def serve(bundles: Sequence[str], host: str, port: int) -> None:
    """Show the page until it is interrupted."""
    if not 0 < port < 65536:
        raise UserError(f"--port is {port}; it must be a number from 1 to 65535")
    with tempfile.TemporaryDirectory(prefix="acoustic-kd-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # before gradio is imported; of recordings
        try:
            import gradio  # noqa: F401
        except ImportError:
            raise UserError(f"package 'gradio' is missing: {installation('serve')}") from None
        recognizers = {Path(name).name: Recognizer.from_pretrained(name) for name in bundles}
        if len(recognizers) < len(bundles):
            raise UserError("two bundles have the same name; rename one")
        blocks = page(recognizers)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                max_file_size=MAX_FILE_SIZE,
                prevent_thread_lock=True,
                quiet=True,
            )
        except OSError:
            text = f"{host}:{port}: this address is not free; give another --port"
            raise UserError(text) from None
        try:
            print(f"http://{host}:{port}/ (Ctrl-C ends)", flush=True)
            ended = Event()
            while not ended.wait(DELETE_SECONDS):
                delete_old(Path(folder))
        finally:
            blocks.close()


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A page on which bundles can be tried, with a microphone or a file. Recordings are deleted "
        f"after {(KEPT_SECONDS + DELETE_SECONDS) // 60} minutes at most, and when the page ends. "
        "Needs the extra serve."
    )
    parser.epilog = "Example: acoustic-kd serve an4-distilled an4-ensemble"
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", help="directories, or hub names")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="0.0.0.0: other machines may use it, too (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    serve(options.bundles, options.host, options.port)
