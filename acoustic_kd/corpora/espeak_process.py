"""Synthesise the sentences of one voice with espeak-ng; run as a script, in a fresh process.

espeak-ng carries state from one utterance to the next, which even its random seed does not clear.
So the samples of a sentence depend on all sentences before it. A fresh process that speaks one
voice's sentences in order gives the same samples every time.

Standard input: JSON {"library", "data", "voice", "rate", "pitch", "sentences"}. Standard output:
for each sentence the number of bytes (little-endian uint32), then int16 samples at 22,050 Hz.
Only the standard library is imported, so that the process starts fast.
"""

import ctypes
import json
import sys
from pathlib import Path

RATE_HZ = 22050
_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: hand the samples to the callback, play nothing
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: return an error for missing data, no exit()
_CHARS_UTF8 = 1
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p
)


def speak(job: dict) -> list[bytes]:
    """Return the int16 samples of each of the job's sentences."""
    library = ctypes.CDLL(job["library"])
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, job["data"].encode(), _DONT_EXIT)
    if rate != RATE_HZ:
        sys.exit(f"espeak-ng speaks at {rate} Hz instead of {RATE_HZ}, or its data is missing")
    chunks: list[bytes] = []

    def collect(samples: "ctypes._Pointer[ctypes.c_int16]", count: int, _events: object) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0  # continue

    callback = _CALLBACK(collect)  # must live as long as the library calls it
    library.espeak_SetSynthCallback(callback)
    # espeak-ng would silently speak an unknown variant as the plain accent.
    variant = Path(job["data"], "voices", "!v", job["voice"].partition("+")[2])
    if not variant.is_file() or library.espeak_SetVoiceByName(job["voice"].encode()) != 0:
        sys.exit(f"espeak-ng has no voice '{job['voice']}'")
    library.espeak_SetParameter(_PARAMETER_RATE, job["rate"], 0)
    library.espeak_SetParameter(_PARAMETER_PITCH, job["pitch"], 0)
    spoken = []
    for sentence in job["sentences"]:
        chunks.clear()
        text = sentence.lower().encode()  # capitals would be spelled out or stressed
        size = ctypes.c_size_t(len(text) + 1)
        if library.espeak_Synth(text, size, 0, 0, 0, _CHARS_UTF8, None, None) != 0 or not chunks:
            sys.exit(f"espeak-ng cannot speak '{sentence}'")
        spoken.append(b"".join(chunks))
    return spoken


def main() -> None:
    """Read the job from standard input and write its speech to standard output."""
    for samples in speak(json.load(sys.stdin)):
        sys.stdout.buffer.write(len(samples).to_bytes(4, "little") + samples)


if __name__ == "__main__":
    main()
