"""Variants of the tiny recipe. Each is run once a session; tests work on copies."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tiny_recipe import SETTINGS, TinyRecipe, kaldi_data, prepare, silent_data

from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.corpora.load import load
from acoustic_kd.corpora.utterances import SPLITS
from acoustic_kd.experiment.outputs import stored_frames
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.features.frame_sequence import FrameSequence
from acoustic_kd.language.lexicon import Lexicon, read_lexicon, write_lexicon
from acoustic_kd.settings import load_config

Get = Callable[[str], TinyRecipe]  # another variant, finished

TO_FRAMES = ("corpus", "features", "align", "senones", "frames")
SHARE = "corpus.untranscribed_share=0.5"  # one of the two speakers
PIECES = ("lang.units=pieces", "lang.pieces=40")
UNKNOWN_TEXTS = {"a": "GO ON BLIMPING", "b": "GO BLIMPING 4TH", "c": "GO", "d": "OSTROVANE NAÏVE"}


def plain(get: Get, folder: Path) -> TinyRecipe:
    return prepare(folder).run()


def untranscribed(get: Get, folder: Path) -> TinyRecipe:
    """Data whose second half has no transcripts."""
    recipe = kaldi_data(get("plain"), folder)
    take_away(Path(recipe.options[1]), utterances_without_transcripts(recipe))
    return recipe.run()


def letters(get: Get, folder: Path) -> TinyRecipe:
    """Graphemes, with two iterations of a flat start."""
    flat = ("align.method=flat", "align.iterations=2", "align.gaussians=1")
    return TinyRecipe(folder / "exp", (*SETTINGS, "lang.units=graphemes", *flat)).run()


def pieces(get: Get, folder: Path) -> TinyRecipe:
    """Word pieces with the models of the variant in letters."""
    return get("letters").copy(folder / "exp", *PIECES).run()


def copies(get: Get, folder: Path) -> TinyRecipe:
    """Copies of train at two other vocal tract lengths, for the transfer set."""
    return get("plain").copy(folder / "exp", "features.transfer_vtlp_warps=[0.9,1.1]").run()


def realigned(get: Get, folder: Path) -> TinyRecipe:
    """Aligned with the trained ensemble; up to the frames."""
    first = get("plain")
    model = ("align.method=dnn", f"align.model={first.directory}")
    return TinyRecipe(folder / "exp", (*first.settings, *model)).run(TO_FRAMES)


def greek(get: Get, folder: Path) -> TinyRecipe:
    """The demo in Greek: letters and a flat start; up to the alignment."""
    settings = ("corpus.demo_language=el", "lang.units=graphemes", "align.method=flat")
    settings = (*SETTINGS, *settings, "align.gaussians=2", "align.iterations=5")
    return TinyRecipe(folder / "exp", settings).run(TO_FRAMES[:3])


def kaldi_targets(get: Get, folder: Path) -> TinyRecipe:
    """On features and alignments in Kaldi's formats; up to the distilled model."""
    write_kaldi_archives(get("plain").directory, folder)
    stages = list(STAGES)[: list(STAGES).index("distill") + 1]
    return on_kaldi_features(get("plain"), folder, folder / "exp").run(stages)


def unknown_words(get: Get, folder: Path) -> TinyRecipe:
    """Words that the lexicon lacks get pronunciations; the corpus alone."""
    recipe = silent_data(folder, UNKNOWN_TEXTS, f"align.lexicon={folder / 'words.txt'}")
    write_lexicon(folder / "words.txt", some_words())
    return recipe.run(["corpus"])


BUILDERS: dict[str, Callable[[Get, Path], TinyRecipe]] = {
    builder.__name__: builder
    for builder in (
        plain, untranscribed, letters, pieces, copies, realigned, greek, kaldi_targets,
        unknown_words,
    )
}  # fmt: skip


# --- data ---------------------------------------------------------------------------------------


def take_away(data: Path, ids: Iterable[str]) -> None:
    """Move utterances of train into a folder of their own, whose `text` nobody could read."""
    folder, ids = data / "untranscribed", set(ids)
    folder.mkdir()
    for name in ("wav.scp", "utt2spk", "text"):
        lines = (data / "train" / name).read_text().splitlines(keepends=True)
        moved = [line for line in lines if line.split()[0] in ids]
        (data / "train" / name).write_text("".join(line for line in lines if line not in moved))
        (folder / name).write_text("".join(moved))
    (folder / "text").write_bytes(b"\xff\xfe nonsense\n\n")


def utterances_without_transcripts(recipe: TinyRecipe) -> set[str]:
    """The utterances that lose their transcripts by SHARE."""
    options = ["corpus.name=kaldi_dir", f"corpus.data_dir={recipe.options[1]}", SHARE]
    corpus = load(load_config(None, options).corpus, Path())
    return {utterance.id for utterance in corpus.splits["untranscribed"]}


def some_words() -> Lexicon:
    """A few thousand words with GO and ON: enough to learn pronunciations from."""
    whole = read_lexicon(bundled_lexicon())
    return whole.restricted_to({*sorted(whole.entries)[::55], "GO", "ON"})


def stored(folder: Path) -> list[FrameSequence]:
    """The utterances of a store of frames."""
    return list(stored_frames(folder))


def write_kaldi_archives(experiment: Path, folder: Path) -> None:
    """The alignments of every split, as `ali-to-pdf` writes them; directories with feats.scp."""
    kaldi = pytest.importorskip("kaldi_native_io", reason="needs acoustic-kd[dev]")
    with kaldi.Int32VectorWriter(f"ark:{folder / 'pdf.1.ark'}") as writer:
        for split in SPLITS:
            for utterance in stored(experiment / "frames" / split):
                writer.write(utterance.id, utterance.targets.tolist())
    for split in SPLITS:
        (folder / "feats" / split).mkdir(parents=True)
        specifier = f"ark,scp:{folder}/{split}.ark,{folder}/feats/{split}/feats.scp"
        with kaldi.FloatMatrixWriter(specifier) as writer:
            for utterance in stored(experiment / "features" / split):
                writer.write(utterance.id, utterance.features)
        rows = map(json.loads, (experiment / "corpus" / f"{split}.jsonl").open())
        speakers = "".join(f"{row['id']} {row['speaker']}\n" for row in rows)
        (folder / "feats" / split / "utt2spk").write_text(speakers)


def kaldi_settings(plain: TinyRecipe, archives: Path) -> tuple[str, ...]:
    """Settings of an experiment on alignments from Kaldi."""
    kept = (s for s in plain.settings if not s.startswith("align.lexicon"))
    return (*kept, "align.method=kaldi", f"align.pdf_ali={archives}/pdf.*.ark")


def on_kaldi_features(plain: TinyRecipe, archives: Path, directory: Path) -> TinyRecipe:
    """An experiment on the feats.scp in `archives`/feats."""
    settings = (*kaldi_settings(plain, archives), "corpus.name=kaldi_feats", "align.pdfs=150")
    return TinyRecipe(directory, settings, ("--data-dir", str(archives / "feats")))
