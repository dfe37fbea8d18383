"""`acoustic-kd transcribe`: any recording → its words, by a finished experiment or a bundle.

For a bundle nothing of PyTorch is imported, nor need it be installed.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from acoustic_kd.runtime.bundle import is_bundle
from acoustic_kd.runtime.pcm import PcmStream
from acoustic_kd.runtime.recognizer import Recognizer, Transcription
from acoustic_kd.system.errors import USAGE_ERROR, UserError, print_error, printable
from acoustic_kd.system.paths import path_argument


def transcribe(recognizer: Recognizer, files: Sequence[Path], as_json: bool = False) -> int:
    """Print the words of each recording, a line each; returns the number of failures.

    An error in a recording is reported on standard error; the other recordings are transcribed.
    """
    failed = 0
    for path in files:
        try:
            if as_json:
                _print_json(recognizer(path), file=str(path))
            else:
                words = " ".join(recognizer.words(path))
                print(f"{printable(str(path))}\t{printable(words)}", flush=True)
        except UserError as error:
            failed += 1
            print_error("acoustic-kd transcribe", error)
    return failed


def transcribe_stream(recognizer: Recognizer, file: BinaryIO, raw_rate: int) -> None:
    """Print the segments of a stream, each a JSON object on a line, as soon as it has ended."""
    stream = PcmStream.open(file, raw_rate)
    heard = recognizer.stream(stream.rate)
    try:
        for block in stream.blocks():
            _print_spoken(heard.accept(block))
    except KeyboardInterrupt:  # the end of a microphone's stream
        pass
    finally:  # of a stream that was cut short, too
        _print_spoken(heard.final())


def _print_spoken(segments: Sequence[Transcription]) -> None:
    for segment in segments:
        if segment.words:
            _print_json(segment)


def _print_json(spoken: Transcription, **more: str) -> None:
    words = [dataclasses.asdict(word) for word in spoken.words]
    print(json.dumps({**more, "text": spoken.text, "words": words}), flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Transcribe recordings of any format and length: a line for each, with FILE and words. "
        "The exit status is 2 if one of them cannot be transcribed."
    )
    parser.epilog = "Example: acoustic-kd transcribe exp/an4 talk.flac --json"
    parser.add_argument(
        "recognizer", type=path_argument, metavar="EXP_OR_BUNDLE",
        help="directory of a finished experiment or of a bundle, or a bundle's name on the "
        "Hugging Face hub",
    )  # fmt: skip
    parser.add_argument("files", type=Path, metavar="FILE", nargs="*", help="recordings")
    parser.add_argument(
        "--stream", action="store_true",
        help="recognise standard input while it is written, by a bundle: WAV, or raw 16-bit "
        "samples, mono; one JSON object per line for each segment between pauses",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=int, default=16000, metavar="HZ",
        help="of raw samples (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="MODEL",
        help="of an experiment: distilled/NN, distilled/SHAPE/NN, members/NN, ensemble, … "
        "(default: distilled/01)",
    )  # fmt: skip
    parser.add_argument(
        "--int8", action="store_true", help="of a bundle: the model with weights of 8 bits"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object per line, with word times and confidences",
    )


def run(options: argparse.Namespace) -> int:
    if options.stream == bool(options.files):
        raise UserError("give recordings, or --stream to read standard input")
    recognizer = _open(options)
    if options.stream:
        transcribe_stream(recognizer, sys.stdin.buffer, options.rate)
        return 0
    failed = transcribe(recognizer, options.files, options.json)
    return USAGE_ERROR if failed else 0


def _open(options: argparse.Namespace) -> Recognizer:
    directory = options.recognizer
    if is_bundle(directory) or not directory.is_dir():
        if options.model is not None:
            raise UserError(
                f"{directory}: is no experiment; leave out --model, or correct the name"
            )
        return Recognizer.from_pretrained(directory, options.int8)
    if options.int8:
        raise UserError(f"{directory}: is not a bundle; write one: acoustic-kd bundle EXP --int8")
    from acoustic_kd.experiment.stages import DEFAULT_MODEL
    from acoustic_kd.experiment.transcriber import Transcriber

    return Transcriber(directory, options.model or DEFAULT_MODEL)
