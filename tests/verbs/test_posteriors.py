"""Archives of posteriors, read back by a reader that is not ours."""

import numpy as np
import pytest

from acoustic_kd.alignment.senones import read_statistics
from acoustic_kd.corpora.utterances import read_manifest
from acoustic_kd.experiment.outputs import STATISTICS
from acoustic_kd.kaldi.objects import write_archive

kaldi = pytest.importorskip("kaldi_native_io", reason="needs acoustic-kd[dev]")


def read_archive(path):
    with kaldi.SequentialFloatMatrixReader(f"ark:{path}") as reader:
        return {name: np.array(matrix) for name, matrix in reader}


def test_matrices_come_back(tmp_path):
    shapes = {"a": (3, 4), "é-b": (1, 1), "c": (200, 7)}
    rng = np.random.default_rng(0)
    wanted = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    assert write_archive(tmp_path / "a.ark", wanted.items()) == 3
    found = read_archive(tmp_path / "a.ark")
    assert list(found) == list(wanted)
    for name, matrix in wanted.items():
        np.testing.assert_array_equal(found[name], matrix.astype(np.float32))


def test_posteriors_and_likelihoods_of_a_split(finished_recipe, tmp_path, command):
    experiment, paths = finished_recipe.directory, (tmp_path / "p.ark", tmp_path / "l.ark")
    for path, more in zip(paths, ((), ("--log-likelihoods",)), strict=True):
        status, output, _ = command("posteriors", experiment, "test", "--out", path, *more)
        assert status == 0 and f"{path}: 2 utterances" in output
    posteriors, likelihoods = map(read_archive, paths)
    assert list(posteriors) == [u.id for u in read_manifest(experiment / "corpus" / "test.jsonl")]
    log_prior, _ = read_statistics(experiment / "frames" / STATISTICS)
    for name, found in posteriors.items():
        np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-3)
        np.testing.assert_allclose(likelihoods[name], found - log_prior, atol=1e-4)
    fields = (tmp_path / "p.ark.counts").read_text().split()
    assert fields[0] == "[" and fields[-1] == "]"
    counts = np.maximum(np.array(fields[1:-1], float), 1)
    np.testing.assert_allclose(np.log(counts / counts.sum()), log_prior)


def test_an_unknown_split_is_refused(finished_recipe, tmp_path, command_refusal):
    arguments = ("posteriors", finished_recipe.directory, "eval", "--out", tmp_path / "a")
    assert "split is 'eval'" in command_refusal(*arguments) and not list(tmp_path.iterdir())
