"""The recipe on alignments and features as Kaldi has them: those of the recipe's own tree."""

import json
import re
import shutil

import numpy as np
import pytest
import variants
from files_page import table_patterns
from tiny_recipe import kaldi_data
from variants import TO_FRAMES, stored

from acoustic_kd.corpora.utterances import SPLITS
from acoustic_kd.experiment import kaldi_targets as pdfs
from acoustic_kd.features.frames import read_frames
from acoustic_kd.kaldi.archives import Table
from acoustic_kd.kaldi.objects import POSTERIOR
from acoustic_kd.settings import AlignConfig, Config
from acoustic_kd.system.errors import UserError

kaldi = pytest.importorskip("kaldi_native_io", reason="needs acoustic-kd[dev]")


@pytest.fixture(scope="module")
def archives(variant):
    """The folder of the archives that the variant reads."""
    return variant("kaldi_targets").directory.parent


@pytest.fixture
def on_features(finished_recipe, archives, tmp_path):
    """An experiment on feats.scp; its directories may be changed."""
    shutil.copytree(archives / "feats", tmp_path / "feats")
    recipe = variants.on_kaldi_features(finished_recipe, archives, tmp_path / "exp")
    recipe.options = ("--data-dir", str(tmp_path / "feats"))
    return recipe


def alignments(archives):
    """The pdf-ids of each utterance of the archive."""
    with kaldi.SequentialInt32VectorReader(f"ark:{archives / 'pdf.1.ark'}") as reader:
        return {name: list(labels) for name, labels in reader}


def text_archive(folder, rows):
    path = folder / "pdf.txt"
    path.write_text("".join(f"{u} {' '.join(map(str, labels))}\n" for u, labels in rows.items()))
    return path


@pytest.mark.parametrize("kind", ["features", "sound"])
def test_frames_and_targets_are_those_given(finished_recipe, variant, archives, tmp_path, kind):
    if kind == "features":
        folder = variant("kaldi_targets").directory
    else:
        recipe = kaldi_data(finished_recipe, tmp_path)
        settings = variants.kaldi_settings(finished_recipe, archives)
        recipe.settings = (*settings, "corpus.name=kaldi_dir")
        folder = recipe.run(TO_FRAMES).directory
    assert not (folder / "corpus" / "lexicon.txt").exists()
    for split in SPLITS:
        expected = {u.id: u for u in stored(finished_recipe.directory / "frames" / split)}
        utterances = stored(folder / "frames" / split)
        assert {u.id for u in utterances} == expected.keys()
        for utterance in utterances:
            np.testing.assert_array_equal(utterance.targets, expected[utterance.id].targets)
            wanted = expected[utterance.id].features
            np.testing.assert_allclose(utterance.features, wanted, atol=0.02)
    targets = read_frames(folder / "frames" / "train").targets.numpy()
    statistics = json.loads((folder / "frames" / "statistics.json").read_text())
    counts = np.bincount(targets, minlength=len(statistics["frames"]))
    assert statistics["frames"] == counts.tolist()
    runs = [1 + np.count_nonzero(np.diff(u.targets)) for u in stored(folder / "frames" / "train")]
    assert sum(statistics["visits"]) == sum(runs)


def test_from_alignments_to_a_distilled_model(variant, tmp_path, command, refusal, command_refusal):
    """Its files, its posteriors, and training on posteriors from an archive."""
    recipe = variant("kaldi_targets").copy(tmp_path / "exp")
    folder, patterns = recipe.directory, table_patterns().values()
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    paths = [p for p in paths if p.rpartition("/")[2] not in ("started.json", "done.json")]
    assert [p for p in paths if not any(x.fullmatch(p) for x in patterns)] == []
    no_graph = "Kaldi's pdf-ids, for which no graph is built"
    assert no_graph in refusal(recipe, "graph")
    assert no_graph in command_refusal("transcribe", folder, "talk.wav")
    assert no_graph in command_refusal("bundle", folder, "--out", tmp_path / "bundle")
    out = tmp_path / "p.ark"
    for model in ("ensemble", "distilled/01"):
        output = command("posteriors", folder, "test", "--model", model, "--out", out)[1]
        assert "2 utterances, frame accuracy " in output
    with kaldi.SequentialFloatMatrixReader(f"ark:{out}") as reader:
        assert {np.array(matrix).shape[1] for _, matrix in reader} == {150}
    assert command("posteriors", folder, "train", "--model", "ensemble", "--out", out)[0] == 0
    recipe.run(["soft-targets", "distill"], f"soft_targets.external_posteriors={out}")


@pytest.mark.parametrize("writer", [kaldi.PosteriorWriter, kaldi.FloatMatrixWriter])
def test_targets_are_the_best_classes_of_posteriors(
    on_features, archives, tmp_path, capsys, writer
):
    """Of transition-ids it is said that they look like that: here, every class is one more."""
    rng, path = np.random.default_rng(0), tmp_path / "post.ark"
    wanted = {name: [k + 1 for k in labels] for name, labels in alignments(archives).items()}
    with writer(f"ark:{path}") as file:
        for name, labels in wanted.items():
            if writer is kaldi.PosteriorWriter:
                file.write(name, [[(0, 0.25), (k, 0.75)] for k in labels])
            else:
                dense = rng.random((len(labels), 200), np.float32)
                dense[np.arange(len(labels)), labels] = 2
                file.write(name, dense)
    kept = [s for s in on_features.settings if not s.startswith(("align.pdf_ali", "align.pdfs"))]
    on_features.settings = (*kept, f"align.pdf_post={path}")
    on_features.run(TO_FRAMES)
    assert "are these transition-ids" in capsys.readouterr().out
    for split in SPLITS:
        for utterance in stored(on_features.directory / "frames" / split):
            assert utterance.targets.tolist() == wanted[utterance.id]


def test_a_test_split_may_be_without_alignments(on_features, archives, tmp_path, capsys):
    ids = [line.split()[0] for line in (archives / "feats/test/utt2spk").open()]
    rows = {name: labels for name, labels in alignments(archives).items() if name not in ids}
    on_features.run(TO_FRAMES, f"align.pdf_ali={text_archive(tmp_path, rows)}")
    assert "test: no alignments, so no frame accuracy" in capsys.readouterr().out
    assert read_frames(on_features.directory / "frames" / "test").targets is None
    assert read_frames(on_features.directory / "frames" / "dev").transcribed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels[:-1], r"'{0}'\): {1} frames in the archive, but {2} here"),
        (lambda labels: [*labels, 0, 0], "{2} here; .*align.snip_edges=false"),
        (lambda labels: [-1, *labels[1:]], r"'{0}'\): -1 is not a pdf-id"),
        (lambda labels: [150, *labels[1:]], "150 is not a pdf-id; .* 0 to 149"),
    ],
)
def test_alignments_that_do_not_fit_are_refused(
    on_features, archives, tmp_path, refusal, change, message
):
    rows = alignments(archives)
    name, labels = next(iter(rows.items()))
    changed = change(labels)
    path = text_archive(tmp_path, rows | {name: changed})
    on_features.run(TO_FRAMES[:2])
    message = message.format(name, len(changed), len(labels))
    error = refusal(on_features, "align", f"align.pdf_ali={path}")
    assert re.search(message, error), error


@pytest.mark.parametrize("text", ["u  [\n ]\n", "u \n"])
def test_posteriors_of_no_frames_are_refused(tmp_path, text):
    path = tmp_path / "post.ark"
    path.write_text(text)
    config = Config(align=AlignConfig(method="kaldi", pdf_post=str(path)))
    with pytest.raises(UserError, match=r"post\.ark \(utterance 'u'\): 0 frames in .*, but 3 here"):
        pdfs._labels(Table(str(path), POSTERIOR), "u", 3, config)


def test_utterances_without_an_alignment_are_left_out_or_too_many(
    on_features, archives, tmp_path, refusal
):
    (name, _), *rows = alignments(archives).items()
    on_features.run(TO_FRAMES[:2])
    more = f"align.pdf_ali={text_archive(tmp_path, dict(rows))}"
    error = refusal(on_features, "align", more, "align.max_failed=0.01")
    assert f"(first: {name}: not in " in error
    excluded = on_features.directory / "align" / "excluded.jsonl"
    assert [json.loads(line)["id"] for line in excluded.open()] == [name]  # all, in any case
    on_features.run(["align"], more, "align.max_failed=0.2")
    assert [json.loads(line)["id"] for line in excluded.open()] == [name]


def test_features_that_do_not_fit_are_refused(on_features, tmp_path, refusal):
    listing = tmp_path / "feats" / "dev" / "feats.scp"
    before = listing.read_text()
    name = before.split()[0]
    with kaldi.FloatMatrixWriter(f"ark:{tmp_path / 'other.ark'}") as writer:
        writer.write(name, np.zeros((9, 13), np.float32))
    changed = [f"{name} {tmp_path}/other.ark:{len(name) + 1}\n", *before.splitlines(True)[1:]]
    listing.write_text("".join(changed))
    on_features.run(["corpus"])
    message = f"utterance '{name}' has 13 features a frame, but '"
    assert message in refusal(on_features, "features")


def test_features_of_any_dimension_and_speech_without_targets(on_features, archives, tmp_path):
    """MFCCs, say, compressed; and an untranscribed directory, of which there are no targets."""
    method = kaldi.CompressionMethod.kSpeechFeature
    for split in (*SPLITS, "untranscribed"):
        folder, source = tmp_path / "feats" / split, archives / f"{split}.ark"
        folder.mkdir(exist_ok=True)
        specifier = f"ark,scp:{tmp_path}/13-{split}.ark,{folder}/feats.scp"
        with kaldi.CompressedMatrixWriter(specifier) as writer:
            if split not in SPLITS:
                noise = np.random.default_rng(0).normal(size=(70, 13))
                writer.write("heard", noise.astype(np.float32), method)
                continue
            with kaldi.SequentialFloatMatrixReader(f"ark:{source}") as reader:
                for name, matrix in reader:
                    writer.write(name, np.array(matrix)[:, :13].copy(), method)
    more = ("train.members=1", "train.epochs=1")
    on_features.run([*TO_FRAMES, "train", "soft-targets"], *more)
    frames = on_features.directory / "frames"
    assert read_frames(frames / "train").features.shape[1] == 13
    assert read_frames(frames / "untranscribed").ids == ["heard"]
    assert list((on_features.directory / "soft_targets").glob("shard-untranscribed-*.h5"))


def test_changed_features_are_noticed(on_features, archives, tmp_path, outcome):
    archive, listing = tmp_path / "train.ark", tmp_path / "feats" / "train" / "feats.scp"
    shutil.copy(archives / "train.ark", archive)
    listing.write_text(listing.read_text().replace(str(archives / "train.ark"), str(archive)))
    on_features.run(["corpus"])
    assert outcome(on_features, "corpus", "--dry-run")[1] == "  up to date\n"
    archive.write_bytes(archive.read_bytes()[:-1] + b"\x3f")
    assert "'data' has changed" in outcome(on_features, "corpus", "--dry-run")[1]
