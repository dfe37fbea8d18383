"""The demo in Greek: letters and a flat start, through the command line, also when killed."""

import json
import unicodedata

import pytest
from tiny_recipe import SETTINGS, TinyRecipe

from acoustic_kd.alignment.gmm_aligner import read_iteration
from acoustic_kd.alignment.segmentation import read_segmentations
from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.language.lexicon import SILENCE, read_lexicon

GREEK = (
    *("corpus.demo_language=el", "lang.units=graphemes", "align.method=flat"),
    *("align.gaussians=2", "align.iterations=8"),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """An experiment whose features are made."""
    pytest.importorskip("espeakng_loader", reason="needs acoustic-kd[demo]")
    recipe = TinyRecipe(tmp_path_factory.mktemp("greek") / "exp", (*SETTINGS, *GREEK))
    for stage in ("corpus", "features"):
        assert recipe(stage) == 0
    return recipe


@pytest.fixture(scope="module")
def aligned(prepared, tmp_path_factory):
    copy = prepared.copy(tmp_path_factory.mktemp("aligned") / "exp")
    assert copy("align") == 0
    return copy


def test_every_utterance_is_aligned_to_its_letters(aligned):
    corpus, count = aligned.directory / "corpus", 0
    lexicon = read_lexicon(corpus / "lexicon.txt")
    letters = {unit.partition("_")[0] for unit in lexicon.phones()}
    assert all(unicodedata.name(letter).startswith("GREEK CAPITAL") for letter in letters)
    for split in SPLITS:
        texts = {u.id: u.text for u in read_manifest(corpus / f"{split}.jsonl")}
        for found in read_segmentations(aligned.directory / "align" / f"{split}.jsonl"):
            spelled = [p for word in texts[found.id].split() for p in lexicon[word][0]]
            assert [phone for phone in found.phones if phone != SILENCE] == spelled
            count += 1
    assert count == 2 * 10 + 2 * 3
    history = read_iteration(aligned.directory / "align" / "flat" / "model.safetensors").history
    assert history[-1]["log_likelihood"] > history[0]["log_likelihood"] + 1


@pytest.mark.slow
def test_killed_between_iterations_it_resumes_bit_by_bit(prepared, aligned, tmp_path, capfd):
    killed = prepared.copy(tmp_path / "exp")
    folder = killed.directory / "align"
    model = folder / "flat" / "model.safetensors"
    # The first model is that of the equal segments, and then comes one an iteration.
    assert killed.killed(model, 4, "align")
    before = read_iteration(model)
    assert 3 <= len(before.history) < 8 and not before.finished
    assert not (folder / "done.json").exists() and not (folder / "train.jsonl").exists()
    capfd.readouterr()
    assert killed("align") == 0
    said = capfd.readouterr().out
    assert f"iteration {len(before.history) + 1}: " in said
    assert f"iteration {len(before.history)}: " not in said and "training on" not in said
    whole, again = (
        {n: data for n, (_, data) in r.files().items() if n.startswith("align/")}
        for r in (aligned, killed)
    )
    records = [json.loads(files.pop("align/done.json")) for files in (whole, again)]
    assert again.keys() == whole.keys() and records[0]["digest"] == records[1]["digest"]
    differing = [name for name in whole if again[name] != whole[name]]
    assert set(differing) <= {"align/started.json"}
