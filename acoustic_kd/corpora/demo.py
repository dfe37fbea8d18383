"""The demo corpus: noisy speech that espeak-ng synthesises here, so that nothing is downloaded.

It has the languages of `demo_sentences`. No voice and no sentence is in two splits. The same
settings give the same bytes every time.
"""

import importlib.util
import io
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from acoustic_kd.corpora import espeak_process
from acoustic_kd.corpora.demo_sentences import ACCENTS, sentences
from acoustic_kd.corpora.utterances import SPLITS, Corpus, Normalise, Utterance, normalise_text
from acoustic_kd.system.errors import UserError, installation
from acoustic_kd.system.files import atomic_path

SAMPLE_RATE = 16000
SNR_DECIBELS = (10, 15, 20, 25)
RMS_RANGE = (0.03, 0.08)  # of the speech; full scale is 1
BABBLE_SENTENCES = 8  # of each voice
SILENCE_SECONDS = (0.15, 0.35)  # before and after the speech


@dataclass(frozen=True)
class Voice:
    """One speaker of espeak-ng: accent, voice variant, words a minute, pitch (0 … 99)."""

    accent: str
    variant: str
    rate: int
    pitch: int

    @property
    def speaker(self) -> str:
        return self.variant.lower()


# Only variants without `breath`: it makes espeak-ng 1.52 read uninitialised memory, so that
# those voices (f2, f3, f5, Alicia, …) sound different every time.
VOICES = {
    "train": [
        Voice("en-us", "m1", 150, 45),
        Voice("en-us", "f1", 160, 50),
        Voice("en", "m3", 155, 40),
        Voice("en-us", "linda", 145, 42),
        Voice("en-us", "m4", 170, 35),
        Voice("en", "f4", 165, 48),
        Voice("en-us", "m6", 140, 55),
        Voice("en-us", "belinda", 142, 38),
        Voice("en-us-nyc", "m8", 162, 50),
        Voice("en-us", "Annie", 152, 52),
        Voice("en-us", "Michael", 148, 38),
        Voice("en-us", "Alex", 172, 46),
        Voice("en-us", "edward", 156, 50),
        Voice("en-us", "john", 164, 60),
        Voice("en-us", "Gene", 168, 50),
        Voice("en-us", "Denis", 146, 50),
    ],
    "dev": [
        Voice("en-us", "m2", 154, 50),
        Voice("en-us", "aunty", 160, 40),
        Voice("en", "paul", 150, 45),
        Voice("en-us", "Mike", 158, 55),
    ],
    "test": [
        Voice("en-us", "m5", 158, 48),
        Voice("en-us", "Andrea", 152, 40),
        Voice("en", "m7", 162, 44),
        Voice("en-us", "grandma", 156, 50),
        Voice("en-us", "adam", 150, 42),
        Voice("en-us", "grandpa", 160, 50),
    ],
}


def voices(language: str) -> dict[str, list[Voice]]:
    """The speakers of each split, the same in every language, with the accents of `language`.

    Speakers of British English have its last accent, all others its first.
    """
    accents = ACCENTS.get(language)
    if accents is None:
        return VOICES
    return {
        split: [replace(v, accent=accents[-1 if v.accent == "en" else 0]) for v in speakers]
        for split, speakers in VOICES.items()
    }


def read(config: Any, out_dir: Path, normalise: Normalise = normalise_text) -> Corpus:
    """Synthesise the corpus as `out_dir`/SPLIT/SPEAKER/ID.wav (16 kHz, 16 bit).

    Args:
        config: has `seed`, `demo_language`, `demo_train_voices`, `demo_dev_voices`,
            `demo_test_voices`, and sentences per voice: `demo_train_sentences`,
            `demo_eval_sentences` (dev and test).
    """
    _check_installed()
    plan = _plan(config)
    corpus = Corpus(splits={split: [] for split in SPLITS})
    count = sum(len(plan[split]) for split in SPLITS)
    with tqdm(total=count, desc="synthesis", unit="voice", disable=None) as bar:
        for split in SPLITS:
            speech = {voice: _speak(voice, texts) for voice, texts in plan[split].items()}
            babble = _babble(list(speech.values()))
            for voice, texts in plan[split].items():
                folder = Path(out_dir).absolute() / split / voice.speaker
                paths = _write_voice(folder, voice, speech[voice], babble, config.seed)
                corpus.splits[split] += [
                    Utterance(path.stem, voice.speaker, str(path), normalise(text))
                    for path, text in zip(paths, texts, strict=True)
                ]
                bar.update()
    return corpus


def _check_installed() -> None:
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError(
            "the demo corpus needs espeak-ng, which is not installed: " + installation("demo")
        )


def _plan(config: Any) -> dict[str, dict[Voice, list[str]]]:
    """The sentences of each voice, in each split; no sentence is spoken twice."""
    num_voices = {split: getattr(config, f"demo_{split}_voices") for split in SPLITS}
    per_voice = {split: config.demo_eval_sentences for split in SPLITS}
    per_voice["train"] = config.demo_train_sentences
    total = sum(num_voices[split] * per_voice[split] for split in SPLITS)
    pool = iter(sentences(total, config.seed, config.demo_language))
    speakers = voices(config.demo_language)
    return {
        split: {
            voice: list(islice(pool, per_voice[split]))
            for voice in speakers[split][: num_voices[split]]
        }
        for split in SPLITS
    }


def _speak(voice: Voice, texts: list[str]) -> list[np.ndarray]:
    """Synthesise speech without noise: float32 [samples] at 16 kHz for each text."""
    import espeakng_loader

    job = {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
        "voice": f"{voice.accent}+{voice.variant}",
        "rate": voice.rate,
        "pitch": voice.pitch,
        "sentences": texts,
    }
    command = [sys.executable, espeak_process.__file__]
    finished = subprocess.run(  # noqa: S603 (our own script, no shell)
        command, input=json.dumps(job).encode(), capture_output=True, check=False
    )
    if finished.returncode != 0:
        cause = finished.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise UserError(
            f"espeak-ng failed for voice '{job['voice']}' ({cause[-1]}); run: "
            "pip install --force-reinstall espeakng-loader"
        )
    return _resample(_unpack(finished.stdout))


def _unpack(stream: bytes) -> list[np.ndarray]:
    """Split the output of `espeak_process` into utterances, int16 [samples] each."""
    utterances, start = [], 0
    while start < len(stream):
        size = int.from_bytes(stream[start : start + 4], "little")
        utterances.append(np.frombuffer(stream, dtype="<i2", count=size // 2, offset=start + 4))
        start += 4 + size
    return utterances


def _resample(speech: list[np.ndarray]) -> list[np.ndarray]:
    """int16 [samples] at espeak-ng's rate → float32 [samples] at 16 kHz, for each utterance."""
    import torch  # takes seconds to import; only this corpus needs it so early

    from acoustic_kd.system.torchaudio_functions import resample

    # One call for all: many small calls are slow while other programs use the cores.
    waves = [torch.from_numpy(samples.astype(np.float32) / 32768) for samples in speech]
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    resampled = resample(batch, espeak_process.RATE_HZ, SAMPLE_RATE).numpy()
    lengths = [len(wave) * SAMPLE_RATE // espeak_process.RATE_HZ for wave in waves]
    return [row[:length] for row, length in zip(resampled, lengths, strict=True)]


def _write_voice(
    folder: Path, voice: Voice, speech: list[np.ndarray], babble: np.ndarray, seed: int
) -> list[Path]:
    """Add noise to a voice's speech and write each utterance to a file named by its id."""
    paths = []
    for number, clean in enumerate(speech):
        name = f"{voice.speaker}-{number:03d}"
        # Seeded by name: the noise of an utterance does not depend on any other utterance.
        rng = np.random.default_rng([seed, *name.encode()])
        samples = np.round(_with_noise(clean, babble, rng) * 32767).astype(np.int16)
        paths.append(folder / f"{name}.wav")
        content = io.BytesIO()  # libsndfile does not say why a disk refuses to write
        soundfile.write(content, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        with atomic_path(paths[-1]) as temporary:
            temporary.write_bytes(content.getvalue())
    return paths


def _with_noise(clean: np.ndarray, babble: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speech at a random level between two silences, in noise at one of `SNR_DECIBELS`."""
    pads = [round(seconds * SAMPLE_RATE) for seconds in rng.uniform(*SILENCE_SECONDS, size=2)]
    speech = np.pad(_unit_power(clean), pads)
    noise = _noise(len(speech), babble, rng) * 10 ** (-rng.choice(SNR_DECIBELS) / 20)
    return np.clip((speech + noise) * rng.uniform(*RMS_RANGE), -1, 1)


def _noise(count: int, babble: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White, pink and babble noise in random proportions: [count] of unit power."""
    white = rng.standard_normal(count)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), count)
    start = rng.integers(len(babble))
    voices = np.take(babble, np.arange(start, start + count), mode="wrap")
    parts = [_unit_power(part) for part in (white, pink, voices)]
    weights = np.sqrt(rng.dirichlet(np.ones(len(parts))))
    return _unit_power(sum(w * part for w, part in zip(weights, parts, strict=True)))


def _babble(speech: list[list[np.ndarray]]) -> np.ndarray:
    """Many talkers at once: a few sentences of each voice of the split, superposed."""
    talkers = [np.concatenate(spoken[:BABBLE_SENTENCES]) for spoken in speech]
    mixture = np.zeros(max(map(len, talkers)))
    for number, talker in enumerate(talkers):
        # Forwards and backwards: even few voices sound like a crowd, and no word stands out.
        for part in (talker, talker[::-1]):
            whole = np.resize(_unit_power(part), len(mixture))
            mixture += np.roll(whole, number * len(mixture) // len(talkers))
    return mixture


def _unit_power(samples: np.ndarray) -> np.ndarray:
    samples = samples.astype(np.float64)
    return samples / max(np.sqrt(np.mean(samples**2)), 1e-9)
