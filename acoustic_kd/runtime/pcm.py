"""Samples from a pipe: WAV, whose header may lack the length, or raw PCM."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from acoustic_kd.features.audio import AudioError, check_rate
from acoustic_kd.features.containers import has_header

BLOCK_SECONDS = 0.1
NAME = "standard input"
# (format, bits a sample) of WAV → NumPy's type; formats are PCM and floats.
SAMPLE_TYPES = {(1, 16): "<i2", (3, 32): "<f4"}
EXTENSIBLE = 0xFFFE  # the format is further back
UNKNOWN_BYTES = 0x7FFFF000  # of a stream: programs write 0, or a number above this one


@dataclass(frozen=True)
class PcmStream:
    """An open stream of samples.

    Attributes:
        head: bytes that were read already.
        rate: hertz.
        channels: how many.
        sample_type: of NumPy.
        size: bytes of samples; 0: all that come.
    """

    file: BinaryIO
    head: bytes
    rate: int
    channels: int = 1
    sample_type: str = "<i2"
    size: int = 0

    @classmethod
    def open(cls, file: BinaryIO, raw_rate: int) -> "PcmStream":
        """Read the header of a WAV file; other content is raw 16-bit samples, little-endian, mono.

        Args:
            raw_rate: hertz of raw samples.
        """
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            if has_header(head):
                raise AudioError(f"{NAME}: neither WAV nor raw samples; give the file's name")
            check_rate(NAME, raw_rate)
            return cls(file, head, raw_rate)
        form = b""
        while True:
            name, size = struct.unpack("<4sI", _exactly(file, 8))
            if name == b"data":
                break
            content = _exactly(file, size + size % 2)
            form = content if name == b"fmt " else form
        if len(form) < 16:
            raise AudioError(f"{NAME}: a WAV header without its format; write WAV or raw PCM")
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", form[:16])
        if kind == EXTENSIBLE and len(form) >= 26:
            (kind,) = struct.unpack("<H", form[24:26])
        if (kind, bits) not in SAMPLE_TYPES or not channels:
            raise AudioError(
                f"{NAME}: WAV of {bits} bits (format {kind}) and {channels} channels; write 16-bit "
                "PCM or 32-bit floats"
            )
        check_rate(NAME, rate)
        size = 0 if size >= UNKNOWN_BYTES else size
        return cls(file, b"", rate, channels, SAMPLE_TYPES[kind, bits], size)

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples [T, channels], as they come; an AudioError if the last one is incomplete."""
        size = self.channels * np.dtype(self.sample_type).itemsize
        at_once, pending, left = int(BLOCK_SECONDS * self.rate) * size, self.head, self.size
        while True:
            content = self.file.read(min(at_once, left) if self.size else at_once)
            pending, left = pending + content, left - len(content)
            whole = len(pending) // size * size
            if whole:
                samples = np.frombuffer(pending[:whole], self.sample_type)
                yield samples.reshape(-1, self.channels)
            pending = pending[whole:]
            if not content:
                break
        if pending:
            raise AudioError(
                f"{NAME}: ends within a sample ({len(pending)} of {size} bytes); the stream was "
                "cut short, or its samples are of another kind"
            )


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise AudioError(f"{NAME}: ends within its WAV header; the stream was cut short")
    return content
