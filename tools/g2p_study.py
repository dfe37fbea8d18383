#!/usr/bin/env python3
"""How well words that a lexicon lacks are said: our model beside the libraries that are installed.

Some words of a lexicon are held out and the rest is learnt from; espeak-ng and g2p_en come ready
made (g2p_en has learnt from CMU's dictionary, with the held-out words in it) and need its phones.
Prints a table: words not said as any of their listed variants (WER), phones wrong against the
nearest variant (PER), seconds to learn and to say 1,000 words. What is not installed is said.
"""

import argparse
import ctypes
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import kaldialign

from acoustic_kd.language.g2p import train_model
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon
from acoustic_kd.system.errors import UserError

Say = Callable[[list[str]], list[tuple[str, ...]]]

# ruff: noqa: RUF001
# espeak-ng's sounds of American English as CMU's, longer spellings before shorter ones.
IPA = {
    "aɪɚ": "AY ER", "aɪə": "AY AH", "tʃ": "CH", "dʒ": "JH", "aɪ": "AY", "aʊ": "AW", "ɔɪ": "OY",
    "eɪ": "EY", "oʊ": "OW", "iː": "IY", "uː": "UW", "ɑː": "AA", "ɔː": "AO", "oː": "AO",
    "ɜː": "ER", "əl": "AH L", "n̩": "AH N", "l̩": "AH L", "ɚ": "ER", "ɐ": "AH", "ə": "AH", "ʌ": "AH",
    "ɪ": "IH", "ᵻ": "IH", "i": "IY", "ɛ": "EH", "æ": "AE", "a": "AE", "ʊ": "UH", "u": "UW",
    "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "o": "OW", "e": "EH", "ɹ": "R", "r": "R", "θ": "TH", "ð": "DH",
    "ʃ": "SH", "ʒ": "ZH", "ŋ": "NG", "j": "Y", "ɡ": "G", "h": "HH", "ɾ": "T", "ʔ": "T", "x": "K",
} | {sound: sound.upper() for sound in "bdfklmnpstvwz"}  # fmt: skip


class Score(NamedTuple):
    """Of some words: per cent said wrongly, and per cent of their phones."""

    wer: float
    per: float


def score(said: dict[str, tuple[str, ...]], listed: Lexicon) -> Score:
    """Compare each word with the nearest of its listed pronunciations."""
    wrong = errors = phones = 0
    for word, spoken in said.items():
        distances = [
            (kaldialign.edit_distance(list(variant), list(spoken))["total"], len(variant))
            for variant in listed[word]
        ]
        error, length = min(distances, key=lambda pair: pair[0] / pair[1])
        wrong, errors, phones = wrong + (error > 0), errors + error, phones + length
    return Score(100 * wrong / len(said), 100 * errors / phones)


def hold_out(lexicon: Lexicon, number: int, seed: int) -> tuple[Lexicon, Lexicon]:
    """The lexicon without `number` of its words, chosen at random, and those words.

    Raises:
        UserError: it has no more words than that.
    """
    words = sorted(lexicon.entries)
    if not 0 < number < len(words):
        raise UserError(f"--held-out {number}: give 1 to {len(words) - 1}, below the lexicon's")
    chosen = set(random.Random(seed).sample(words, number))
    return lexicon.restricted_to(set(words) - chosen), lexicon.restricted_to(chosen)


def ours(learnt: Lexicon) -> Say:
    """The toolkit's joint-sequence model."""
    model = train_model(learnt)
    return lambda words: [g[0].phones if g else () for g in model.pronounce(words)]


def phonetisaurus(learnt: Lexicon) -> Say:
    """The joint n-gram of Phonetisaurus, as its Python package trains it."""
    import phonetisaurus as library

    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "model.fst"
    library.train({word: list(map(list, learnt[word])) for word in learnt.entries}, path)

    def say(words: list[str]) -> list[tuple[str, ...]]:
        found = dict(library.predict(words, path))
        folder.cleanup()
        return [tuple(found.get(word, ())) for word in words]

    return say


def sequitur(learnt: Lexicon) -> Say:
    """Sequitur, its order raised from 1 to 6 as its manual says; hours for a large lexicon."""
    import subprocess

    folder = tempfile.TemporaryDirectory()
    here = Path(folder.name)
    write_lexicon(here / "words.txt", learnt)
    tool = [sys.executable, str(Path(sys.executable).with_name("g2p.py"))]
    common = ["--train", "words.txt", "--devel", "5%"]
    for order in range(1, 7):
        more = [] if order == 1 else ["--model", f"model-{order - 1}", "--ramp-up"]
        command = [*tool, *common, *more, "--write-model", f"model-{order}"]
        run = subprocess.run(command, cwd=here, capture_output=True, text=True)  # noqa: S603
        if not (here / f"model-{order}").exists():
            lines = [line for line in run.stderr.splitlines() if "Error" in line]
            raise RuntimeError(lines[0] if lines else "no model was written")

    def say(words: list[str]) -> list[tuple[str, ...]]:
        (here / "new.txt").write_text("".join(f"{word}\n" for word in words))
        command = [*tool, "--model", "model-6", "--apply", "new.txt"]
        run = subprocess.run(command, cwd=here, capture_output=True, text=True)  # noqa: S603
        rows = [line.split() for line in run.stdout.splitlines()]
        found = {row[0]: tuple(row[1:]) for row in rows if row}
        return [found.get(word, ()) for word in words]

    return say


def g2p_en(learnt: Lexicon) -> Say:
    """g2p_en's network alone: its dictionary needs a download and has the words in it."""
    import nltk

    nltk.data.find = lambda *_, **__: None  # else importing it starts downloads
    from g2p_en.g2p import G2p, cmudict

    cmudict.dict = dict
    network = G2p()
    return lambda words: [
        tuple(phone.rstrip("012") for phone in network.predict(word.lower())) for word in words
    ]


def espeak(learnt: Lexicon) -> Say:
    """espeak-ng's rules and exceptions for American English."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0x8000)
    if library.espeak_SetVoiceByName(b"en-us") != 0:
        raise RuntimeError("no voice en-us")

    def say(words: list[str]) -> list[tuple[str, ...]]:
        said = []
        for word in words:
            text = ctypes.c_char_p(word.lower().encode())
            found = library.espeak_TextToPhonemes(ctypes.byref(text), 1, 2) or b""
            said.append(cmu_phones(found.decode()))
        return said

    return say


def cmu_phones(ipa: str) -> tuple[str, ...]:
    """espeak-ng's IPA in CMU's phones; stress and what has no counterpart is dropped."""
    phones: list[str] = []
    while ipa:
        size = next((n for n in (3, 2, 1) if ipa[:n] in IPA), 0)
        phones += IPA.get(ipa[:size], "").split()
        ipa = ipa[max(size, 1) :]
    return tuple(phones)


# name → (how it is made, the package it comes from)
METHODS: dict[str, tuple[Callable[[Lexicon], Say], str | None]] = {
    "acoustic_kd": (ours, None),
    "phonetisaurus": (phonetisaurus, "phonetisaurus"),
    "sequitur": (sequitur, "sequitur-g2p"),
    "g2p_en": (g2p_en, "g2p-en"),
    "espeak-ng": (espeak, "espeakng-loader"),
}


def measure(names: Iterable[str], learnt: Lexicon, held_out: Lexicon) -> list[str]:
    """One row of the table for each method."""
    words, rows = sorted(held_out.entries), []
    for name in names:
        make, package = METHODS[name]
        try:
            version = metadata.version(package) if package else ""
            begun = time.process_time(), time.perf_counter()
            say = make(learnt)
            learning = time.perf_counter() - begun[1]
            middle = time.perf_counter()
            said = say(words)
            saying = (time.perf_counter() - middle) / len(words) * 1000
        except (ImportError, metadata.PackageNotFoundError):
            rows.append(f"| {name} | | not installed | | |")
            continue
        except Exception as error:  # whatever goes wrong in a library is a finding
            rows.append(f"| {name} {version} | | fails: {error} | | |")
            continue
        found = score(dict(zip(words, said, strict=True)), held_out)
        row = f"| {name} {version} | {found.wer:.1f} | {found.per:.1f} |"
        rows.append(f"{row} {learning:.0f} | {saying:.1f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lexicon", type=Path, metavar="LEXICON", help="in CMU's format")
    parser.add_argument(
        "--held-out", type=int, default=2000, metavar="N", help="words (default: %(default)s)"
    )
    parser.add_argument(
        "--learn", type=int, metavar="N", help="learn from N of the others (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choices (default: 0)")
    parser.add_argument(
        "--only", nargs="+", choices=METHODS, default=list(METHODS), help="some of the methods"
    )
    options = parser.parse_args(arguments)
    try:
        learnt, held_out = hold_out(read_lexicon(options.lexicon), options.held_out, options.seed)
        if options.learn is not None:
            learnt = hold_out(learnt, options.learn, options.seed)[1]
    except UserError as error:
        print(f"tools/g2p_study.py: error: {error}", file=sys.stderr)
        return 2
    print(f"{len(learnt.entries)} words to learn from, {len(held_out.entries)} to say\n")
    print("| | WER | PER | seconds to learn | seconds for 1,000 words |\n|---|---|---|---|---|")
    print("\n".join(measure(options.only, learnt, held_out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
