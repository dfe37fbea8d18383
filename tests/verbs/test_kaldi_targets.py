"""The recipe on alignments and features as Kaldi has them: those of the recipe's own tree."""

import json
import re
import shutil

import numpy as np
import pytest
import tiny_recipe
from files_page import table_patterns

from acoustic_kd.cli import main
from acoustic_kd.corpora.utterances import SPLITS
from acoustic_kd.experiment import kaldi_targets as pdfs
from acoustic_kd.features.frames import read_frames, read_utterances, shard_paths
from acoustic_kd.kaldi.archives import Table
from acoustic_kd.kaldi.objects import POSTERIOR
from acoustic_kd.settings import AlignConfig, Config
from acoustic_kd.system.errors import UserError

kaldi = pytest.importorskip("kaldi_native_io", reason="needs acoustic-kd[dev]")
FIRST = ("corpus", "features", "align", "senones", "frames")


def utterances(folder):
    return [u for path in shard_paths(folder) for u in read_utterances(path)]


@pytest.fixture(scope="module")
def given(finished_recipe, tmp_path_factory):
    """Alignments of every split, as `ali-to-pdf` writes them; directories with feats.scp."""
    folder, source = tmp_path_factory.mktemp("kaldi"), finished_recipe.directory
    with kaldi.Int32VectorWriter(f"ark:{folder / 'pdf.1.ark'}") as writer:
        for split in SPLITS:
            for utterance in utterances(source / "frames" / split):
                writer.write(utterance.id, utterance.targets.tolist())
    for split in SPLITS:
        (folder / "feats" / split).mkdir(parents=True)
        specifier = f"ark,scp:{folder}/{split}.ark,{folder}/feats/{split}/feats.scp"
        with kaldi.FloatMatrixWriter(specifier) as writer:
            for utterance in utterances(source / "features" / split):
                writer.write(utterance.id, utterance.features)
        speakers = [
            f"{row['id']} {row['speaker']}\n"
            for row in map(json.loads, (source / "corpus" / f"{split}.jsonl").open())
        ]
        (folder / "feats" / split / "utt2spk").write_text("".join(speakers))
    return folder


def settings_of(finished_recipe, folder, *more):
    kept = [s for s in finished_recipe.settings if not s.startswith("align.lexicon")]
    return (*kept, "align.method=kaldi", f"align.pdf_ali={folder}/pdf.*.ark", *more)


@pytest.fixture
def on_features(finished_recipe, given, tmp_path):
    """An experiment on feats.scp; its directories may be changed."""
    shutil.copytree(given / "feats", tmp_path / "feats")
    settings = settings_of(finished_recipe, given, "corpus.name=kaldi_feats")
    return tiny_recipe.TinyRecipe(
        tmp_path / "exp", settings, ("--data-dir", str(tmp_path / "feats"))
    )


@pytest.fixture
def on_sound(finished_recipe, given, tmp_path):
    """An experiment on wav.scp."""
    recipe = tiny_recipe.kaldi_data(finished_recipe, tmp_path)
    recipe.settings = settings_of(finished_recipe, given, "corpus.name=kaldi_dir")
    return recipe


@pytest.mark.parametrize("kind", ["on_features", "on_sound"])
def test_frames_and_targets_are_those_given(finished_recipe, request, kind):
    recipe = request.getfixturevalue(kind)
    for stage in FIRST:
        assert recipe(stage) == 0
        assert not (recipe.directory / "corpus" / "lexicon.txt").exists()
    for split in SPLITS:
        expected = {u.id: u for u in utterances(finished_recipe.directory / "frames" / split)}
        found = utterances(recipe.directory / "frames" / split)
        assert {u.id for u in found} == expected.keys()
        for utterance in found:
            np.testing.assert_array_equal(utterance.targets, expected[utterance.id].targets)
            wanted = expected[utterance.id].features
            np.testing.assert_allclose(utterance.features, wanted, atol=0.02)
    targets = read_frames(recipe.directory / "frames" / "train").targets.numpy()
    statistics = json.loads((recipe.directory / "frames" / "statistics.json").read_text())
    assert (
        statistics["frames"] == np.bincount(targets, minlength=len(statistics["frames"])).tolist()
    )
    runs = sum(
        1 + np.count_nonzero(np.diff(u.targets))
        for u in utterances(recipe.directory / "frames" / "train")
    )
    assert sum(statistics["visits"]) == runs


def test_from_alignments_to_a_distilled_model(on_features, tmp_path, capsys):
    """Members and all, then again from an archive of posteriors."""
    recipe, more = on_features, ("align.pdfs=150", "distill.epochs=1")
    for stage in (*FIRST, "train", "soft-targets", "distill"):
        assert recipe(stage, *more) == 0
    folder, patterns = recipe.directory, table_patterns().values()
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    paths = [p for p in paths if p.rpartition("/")[2] not in ("started.json", "done.json")]
    assert [p for p in paths if not any(x.fullmatch(p) for x in patterns)] == []
    assert recipe("graph", *more) == 2
    assert "Kaldi's pdf-ids, for which no graph is built" in capsys.readouterr().err
    assert main(["transcribe", str(recipe.directory), "talk.wav"]) == 2
    assert "Kaldi's pdf-ids, for which no graph is built" in capsys.readouterr().err
    directory, out = str(recipe.directory), tmp_path / "p.ark"
    for model in ("ensemble", "distilled/01"):
        arguments = ["posteriors", directory, "test", "--model", model, "--out", str(out)]
        assert main(arguments) == 0
        assert "3 utterances, frame accuracy " in capsys.readouterr().out
    with kaldi.SequentialFloatMatrixReader(f"ark:{out}") as reader:
        assert {np.array(matrix).shape[1] for _, matrix in reader} == {150}
    assert main([*arguments[:2], "train", "--model", "ensemble", "--out", str(out)]) == 0
    posteriors = f"soft_targets.external_posteriors={out}"
    assert recipe("soft-targets", *more, posteriors) == 0
    assert recipe("distill", *more, posteriors) == 0


@pytest.mark.parametrize("writer", [kaldi.PosteriorWriter, kaldi.FloatMatrixWriter])
def test_targets_are_the_best_classes_of_posteriors(on_features, given, tmp_path, capsys, writer):
    """Of transition-ids it is said that they look like that: here, every class is one more."""
    rng, path = np.random.default_rng(0), tmp_path / "post.ark"
    with (
        kaldi.SequentialInt32VectorReader(f"ark:{given / 'pdf.1.ark'}") as reader,
        writer(f"ark:{path}") as file,
    ):
        wanted = {name: np.array(labels) + 1 for name, labels in reader}
        for name, labels in wanted.items():
            if writer is kaldi.PosteriorWriter:
                file.write(name, [[(0, 0.25), (int(k), 0.75)] for k in labels])
            else:
                dense = rng.random((len(labels), 200), np.float32)
                dense[np.arange(len(labels)), labels] = 2
                file.write(name, dense)
    kept = [s for s in on_features.settings if not s.startswith("align.pdf_ali")]
    on_features.settings = (*kept, f"align.pdf_post={path}")
    for stage in FIRST:
        assert on_features(stage) == 0
    assert "are these transition-ids" in capsys.readouterr().out
    for split in SPLITS:
        for utterance in utterances(on_features.directory / "frames" / split):
            assert utterance.targets.tolist() == wanted[utterance.id].tolist()


def test_a_test_split_may_be_without_alignments(on_features, given, tmp_path, capsys):
    test = {line.split()[0] for line in (given / "feats/test/utt2spk").read_text().splitlines()}
    with (
        kaldi.SequentialInt32VectorReader(f"ark:{given / 'pdf.1.ark'}") as reader,
        kaldi.Int32VectorWriter(f"ark,t:{tmp_path / 'some.txt'}") as writer,
    ):
        for name, labels in reader:
            if name not in test:
                writer.write(name, list(labels))
    more = f"align.pdf_ali={tmp_path / 'some.txt'}"
    for stage in FIRST:
        assert on_features(stage, more) == 0
    assert "test: no alignments, so no frame accuracy" in capsys.readouterr().out
    assert read_frames(on_features.directory / "frames" / "test").targets is None
    assert read_frames(on_features.directory / "frames" / "dev").transcribed


def rewritten(path, change):
    """An archive of alignments in which the first utterance is changed."""
    with kaldi.SequentialInt32VectorReader(f"ark:{path}") as reader:
        rows = [(name, list(labels)) for name, labels in reader]
    rows[0] = (rows[0][0], change(rows[0][1]))
    return "".join(f"{name} {' '.join(map(str, labels))}\n" for name, labels in rows), rows[0]


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (lambda labels: labels[:-1], (), r"'{0}'\): {1} frames in the archive, but {2} here"),
        (lambda labels: [*labels, 0, 0], (), "{2} here; .*align.snip_edges=false"),
        (lambda labels: [-1, *labels[1:]], (), r"'{0}'\): -1 is not a pdf-id"),
        (
            lambda labels: [150, *labels[1:]],
            ("align.pdfs=150",),
            "150 is not a pdf-id; .* 0 to 149",
        ),
    ],
)
def test_alignments_that_do_not_fit_are_refused(
    on_features, given, tmp_path, capsys, change, more, message
):
    text, (name, labels) = rewritten(given / "pdf.1.ark", change)
    _, (_, before) = rewritten(given / "pdf.1.ark", list)
    path = tmp_path / "wrong.ark"
    path.write_text(text)
    for stage in ("corpus", "features"):
        assert on_features(stage) == 0
    assert on_features("align", f"align.pdf_ali={path}", *more) == 2
    message = message.format(name, len(labels), len(before))
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["u  [\n ]\n", "u \n"])
def test_posteriors_of_no_frames_are_refused(tmp_path, text):
    path = tmp_path / "post.ark"
    path.write_text(text)
    config = Config(align=AlignConfig(method="kaldi", pdf_post=str(path)))
    with pytest.raises(UserError, match=r"post\.ark \(utterance 'u'\): 0 frames in .*, but 3 here"):
        pdfs._labels(Table(str(path), POSTERIOR), "u", 3, config)


def test_utterances_without_an_alignment_are_left_out_or_too_many(
    on_features, given, tmp_path, capsys
):
    text, (name, _) = rewritten(given / "pdf.1.ark", list)
    (tmp_path / "some.ark").write_text("".join(text.splitlines(keepends=True)[1:]))
    for stage in ("corpus", "features"):
        assert on_features(stage) == 0
    more = f"align.pdf_ali={tmp_path / 'some.ark'}"
    assert on_features("align", more, "align.max_failed=0.01") == 2
    assert f"(first: {name}: not in " in capsys.readouterr().err
    excluded = on_features.directory / "align" / "excluded.jsonl"
    assert [json.loads(line)["id"] for line in excluded.open()] == [name]  # all, in any case
    assert on_features("align", more, "align.max_failed=0.2") == 0
    assert [json.loads(line)["id"] for line in excluded.open()] == [name]


def test_features_that_do_not_fit_are_refused(on_features, tmp_path, capsys):
    listing = tmp_path / "feats" / "dev" / "feats.scp"
    before = listing.read_text()
    name = before.split()[0]
    with kaldi.FloatMatrixWriter(f"ark:{tmp_path / 'other.ark'}") as writer:
        writer.write(name, np.zeros((9, 13), np.float32))
    changed = [f"{name} {tmp_path}/other.ark:{len(name) + 1}\n", *before.splitlines(True)[1:]]
    listing.write_text("".join(changed))
    assert on_features("corpus") == 0
    assert on_features("features") == 2
    assert f"utterance '{name}' has 13 features a frame, but '" in capsys.readouterr().err
    listing.write_text(f"{name} copy-feats x |\n")
    assert on_features("corpus") == 2
    assert "feats.scp:1: 'copy-feats x |' is a command" in capsys.readouterr().err
    listing.with_name("feats.scp").unlink()
    assert on_features("corpus") == 2
    assert "feats.scp: no such file" in capsys.readouterr().err


def test_features_of_any_dimension_and_speech_without_targets(on_features, given, tmp_path):
    """MFCCs, say, compressed; and an untranscribed directory, of which there are no targets."""
    method = kaldi.CompressionMethod.kSpeechFeature
    for split in (*SPLITS, "untranscribed"):
        folder, source = tmp_path / "feats" / split, given / f"{split}.ark"
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
    for stage in (*FIRST, "train", "soft-targets"):
        assert on_features(stage, *more) == 0
    frames = on_features.directory / "frames"
    assert read_frames(frames / "train").features.shape[1] == 13
    assert read_frames(frames / "untranscribed").ids == ["heard"]
    assert list((on_features.directory / "soft_targets").glob("shard-untranscribed-*.h5"))


def test_changed_features_are_noticed(on_features, given, capsys):
    assert on_features("corpus") == 0
    assert on_features("corpus", "--dry-run") == 0
    assert "  up to date" in capsys.readouterr().out
    archive = given / "train.ark"
    before = archive.read_bytes()
    archive.write_bytes(before[:-1] + b"\x3f")
    try:
        assert on_features("corpus", "--dry-run") == 0
    finally:
        archive.write_bytes(before)
    assert "'data' has changed" in capsys.readouterr().out
