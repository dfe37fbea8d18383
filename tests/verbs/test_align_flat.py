"""Alignment with nothing trained before, of synthesised speech with bad utterances among it."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from damage import forget_check_sums
from tiny_recipe import SETTINGS, TinyRecipe, write_kaldi_data

from acoustic_kd.alignment.gmm_aligner import read_iteration
from acoustic_kd.alignment.pocketsphinx import PocketsphinxAligner, bundled_lexicon
from acoustic_kd.alignment.segmentation import Segmentation, read_segmentations
from acoustic_kd.corpora.demo_sentences import vocabulary
from acoustic_kd.corpora.load import load
from acoustic_kd.corpora.utterances import SPLITS, Utterance, read_manifest
from acoustic_kd.experiment.flat_start import ScoredSegmentation, without_outliers
from acoustic_kd.features.audio import read_audio
from acoustic_kd.language.lexicon import SILENCE, read_lexicon, write_lexicon
from acoustic_kd.settings import POCKETSPHINX_HZ, CorpusConfig

SPEECH = CorpusConfig(
    demo_train_voices=3,
    demo_dev_voices=1,
    demo_test_voices=1,
    demo_train_sentences=20,
    demo_eval_sentences=3,
)
FLAT = ("align.method=flat", "align.gaussians=2", "align.iterations=12", "align.max_failed=0.1")
WRONG, MINUTE, PAUSED, FOREIGN = "m1-005", "f1-007", "m3-009", "m1-012"  # utterances to spoil


def spoil(folder: Path, utterances: dict[str, Utterance]) -> None:
    """Plant what real corpora hold."""
    text = folder / "train" / "text"
    texts = dict(line.split(" ", 1) for line in text.read_text().splitlines())
    # The transcript of another utterance, about as long.
    length = len(texts[WRONG])
    others = (n for n in texts if n != WRONG and texts[n].split()[0] != texts[WRONG].split()[0])
    texts[WRONG] = texts[min(others, key=lambda n: abs(len(texts[n]) - length))]
    # A minute of speech of which one word is transcribed.
    talk = [read_audio(u, POCKETSPHINX_HZ) for u in utterances.values() if u.speaker == "f1"]
    minute = np.concatenate(talk)[: 60 * POCKETSPHINX_HZ]
    soundfile.write(folder / "train" / f"{MINUTE}.wav", minute, POCKETSPHINX_HZ)
    texts[MINUTE] = "TOMORROW"
    # Long silences around speech whose transcript is right.
    noise = np.random.default_rng(0).normal(0, 1e-3, 20 * POCKETSPHINX_HZ).astype(np.float32)
    speech = read_audio(utterances[PAUSED], POCKETSPHINX_HZ)
    paused = np.concatenate([noise, speech + noise[: len(speech)], noise])
    soundfile.write(folder / "train" / f"{PAUSED}.wav", paused, POCKETSPHINX_HZ)
    texts[FOREIGN] = "XYZZY"
    text.write_text("".join(f"{name} {said}\n" for name, said in texts.items()))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """An experiment on speech with bad utterances, whose features are made."""
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    folder = tmp_path_factory.mktemp("flat")
    splits = load(SPEECH, folder / "audio").splits
    write_kaldi_data(folder / "data", splits)
    spoil(folder / "data", {u.id: u for u in splits["train"]})
    lexicon = read_lexicon(bundled_lexicon()).restricted_to(vocabulary())
    write_lexicon(folder / "lexicon.txt", lexicon)
    settings = (*SETTINGS, "corpus.name=kaldi_dir", f"align.lexicon={folder / 'lexicon.txt'}")
    options = ("--data-dir", str(folder / "data"))
    return TinyRecipe(folder / "exp", (*settings, *FLAT), options).run(["corpus", "features"])


@pytest.fixture(scope="module")
def aligned(prepared):
    return prepared.copy(prepared.directory.with_name("aligned")).run(["align"])


def segmentations(recipe):
    return {
        s.id: s
        for split in SPLITS
        for s in read_segmentations(recipe.directory / "align" / f"{split}.jsonl")
    }


def reasons(recipe):
    rows = (recipe.directory / "align" / "excluded.jsonl").read_text().splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, rows)}


def test_the_bad_utterances_are_left_out_and_no_others(aligned):
    found = reasons(aligned)
    assert found.keys() == {WRONG, MINUTE, FOREIGN}
    for name in (WRONG, MINUTE):
        assert found[name].startswith("it does not sound like its transcript: its alignment scores")
    assert found[FOREIGN] == "word 'XYZZY' is not in the lexicon"
    assert not found.keys() & segmentations(aligned).keys()
    assert len(segmentations(aligned)) == 3 * 20 + 2 * 3 - 3


def test_long_silences_are_found_as_such(aligned):
    found = segmentations(aligned)[PAUSED]
    assert found.phones[0] == found.phones[-1] == SILENCE
    assert (found.durations[[0, -1]].sum(1) > 1900).all()


def starts_of_phones(aligned):
    """The first frame of each phone but silence."""
    durations = aligned.durations.sum(1)
    return (np.cumsum(durations) - durations)[[phone != SILENCE for phone in aligned.phones]]


def test_boundaries_are_near_those_of_a_trained_model(aligned):
    lexicon = read_lexicon(aligned.directory / "corpus" / "lexicon.txt")
    trained, apart = PocketsphinxAligner(lexicon), []
    utterances = read_manifest(aligned.directory / "corpus" / "train.jsonl")
    found = segmentations(aligned)
    for utterance in [u for u in utterances if u.id in found and u.id != PAUSED][::4]:
        words, mine = utterance.text.split(), found[utterance.id]
        other = trained.align(utterance.id, words, read_audio(utterance, POCKETSPHINX_HZ))
        spoken = [tuple(p for p in s.phones if p != SILENCE) for s in (mine, other)]
        if spoken[0] == spoken[1]:
            apart += np.abs(starts_of_phones(mine) - starts_of_phones(other)).tolist()
    assert len(apart) > 80 and np.median(apart) <= 3 and np.mean(apart) < 6


def test_the_last_model_is_kept_and_its_training_frames_are_not(aligned):
    folder = aligned.directory / "align" / "flat"
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "scores.jsonl"]
    history = read_iteration(folder / "model.safetensors").history
    assert [row["round"] for row in history] == list(range(1, len(history) + 1))
    gaussians = [row["gaussians"] for row in history]
    assert gaussians == sorted(gaussians) and set(gaussians) == {1, 2}
    assert history[-1]["log_likelihood"] > history[0]["log_likelihood"] + 2
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert scores[0]["id"] in {WRONG, MINUTE} and FOREIGN not in {row["id"] for row in scores}
    assert [row["score"] for row in scores] == sorted(row["score"] for row in scores)


def test_too_many_are_all_named_and_nothing_is_trained_again(aligned, tmp_path, outcome, refusal):
    copy = aligned.copy(tmp_path / "exp")
    for name in ("done.json", "excluded.jsonl"):
        (copy.directory / "align" / name).unlink()
    model = copy.directory / "align" / "flat" / "model.safetensors"
    before = model.stat().st_mtime_ns
    error = refusal(copy, "align", "align.max_failed=0.01")
    assert "3 of 60 utterances cannot be used" in error
    assert reasons(copy).keys() == {WRONG, MINUTE, FOREIGN}
    status, output, _ = outcome(copy, "align")
    assert status == 0 and "Gaussian" not in output and model.stat().st_mtime_ns == before
    assert segmentations(copy).keys() == segmentations(aligned).keys()


def test_outliers_of_dev_and_test_are_kept():
    segmented = Segmentation("u", ("AA",), np.ones((1, 3), int))
    results = [(f"u{n}", ScoredSegmentation(segmented, -2.0)) for n in range(9)]
    results += [("bad", ScoredSegmentation(segmented, -20.0)), ("none", "the transcript is empty")]

    def left_out(split, spreads=6.0):
        found = without_outliers(split, results, spreads)
        return [name for name, value in found if isinstance(value, str)]

    assert left_out("train") == ["bad", "none"]
    assert left_out("train", None) == left_out("dev") == left_out("test") == ["none"]


def test_no_utterance_to_train_on(prepared, tmp_path, refusal):
    recipe = prepared.copy(tmp_path / "exp")
    forget_check_sums(recipe.directory, "files")
    train = recipe.directory / "corpus" / "train.jsonl"
    rows = [json.loads(line) | {"text": "XYZZY"} for line in train.read_text().splitlines()]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "train: no utterance can be aligned" in refusal(recipe, "align")
    assert [p.name for p in (recipe.directory / "align").rglob("*")] == ["started.json"]


def test_senones_and_frames_are_made_from_the_alignment(aligned):
    aligned.run(["senones", "frames"])


def test_every_utterance_of_the_greek_demo_is_aligned_to_its_letters(variant):
    folder, count = variant("greek").directory, 0
    lexicon = read_lexicon(folder / "corpus" / "lexicon.txt")
    letters = {unit.partition("_")[0] for unit in lexicon.phones()}
    assert all(unicodedata.name(letter).startswith("GREEK CAPITAL") for letter in letters)
    for split in SPLITS:
        texts = {u.id: u.text for u in read_manifest(folder / "corpus" / f"{split}.jsonl")}
        for aligned in read_segmentations(folder / "align" / f"{split}.jsonl"):
            spelled = [p for word in texts[aligned.id].split() for p in lexicon[word][0]]
            assert [phone for phone in aligned.phones if phone != SILENCE] == spelled
            count += 1
    assert count == 2 * 10 + 2 * 2
    history = read_iteration(folder / "align" / "flat" / "model.safetensors").history
    assert history[-1]["log_likelihood"] > history[0]["log_likelihood"] + 1
