"""Soft targets from archives of posteriors: those of the recipe's own members come out the same."""

import shutil

import numpy as np
import pytest
import torch

from acoustic_kd.cli import main
from acoustic_kd.features.frames import read_frames
from acoustic_kd.kaldi.archives import Table
from acoustic_kd.kaldi.objects import MATRIX, write_archive
from acoustic_kd.soft_targets.read import read_soft_targets
from acoustic_kd.training.precision import use_bfloat16


@pytest.fixture(scope="module")
def archives(finished_recipe, tmp_path_factory):
    """What each of the two members says of train, log posteriors as this program writes them."""
    folder = tmp_path_factory.mktemp("posteriors")
    for number in (1, 2):
        arguments = ["posteriors", str(finished_recipe.directory), "train", "--model"]
        out = str(folder / f"{number}.ark")
        assert main([*arguments, f"members/{number:02d}", "--out", out]) == 0
    return folder


@pytest.fixture
def experiment(recipe):
    """One that has frames, and no models."""
    for folder in ("members", "soft_targets", "distilled", "graph", "decode"):
        shutil.rmtree(recipe.directory / folder)
    return recipe


def soft_targets(directory, temperature):
    frames = read_frames(directory / "frames" / "train")
    return read_soft_targets(directory / "soft_targets", frames, temperature)


def assert_alike(found, expected):
    """The same probabilities, as top-k keeps them.

    Other batches round otherwise. Where two classes are equally probable, the one or the other may
    be kept, so a class that is not kept counts with the least probability that is kept.
    """
    # 16 bits round a probability by 2^-11. A step of bfloat16 is 1/32 for logits from 4 to 8; at
    # temperature 2 it changes a probability by 1.6 %, and the sum that it is divided by likewise.
    bound = 0.04 if use_bfloat16(None, torch.device("cpu")) else 2e-3
    least = torch.maximum(*(p.min(1, keepdim=True).values for _, p in (found, expected)))
    count = 1 + int(max(classes.max() for classes, _ in (found, expected)))
    of_all = [
        torch.zeros(len(classes), count).scatter(1, classes, p).maximum(least)
        for classes, p in (found, expected)
    ]
    torch.testing.assert_close(*of_all, rtol=bound, atol=0)


def given(*paths):
    return f"soft_targets.external_posteriors=[{','.join(map(str, paths))}]"


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_they_are_those_of_the_same_members_here(finished_recipe, experiment, archives, mean):
    more = (f"soft_targets.mean={mean}", "soft_targets.bits=16")
    own = finished_recipe.copy(experiment.directory.with_name("own"))
    own.run(["soft-targets"], *more)
    posteriors = given(archives / "1.ark", archives / "2.ark")
    assert experiment("soft-targets", *more, posteriors) == 0
    numbers = torch.arange(len(read_frames(experiment.directory / "frames" / "train")))
    assert_alike(
        soft_targets(experiment.directory, 2.0).batch(numbers),
        soft_targets(own.directory, 2.0).batch(numbers),
    )
    if mean == "arithmetic":
        assert experiment("distill", *more, posteriors, "distill.epochs=1") == 0


def test_weights_and_probabilities(experiment, archives, refusal):
    """A matrix of probabilities, weight 1, beside one whose weight is 0."""
    table = Table(str(archives / "1.ark"), MATRIX)
    path = experiment.directory.with_name("probabilities.ark")
    write_archive(path, ((name, np.exp(table[name])) for name in table))
    more = ("soft_targets.weights=[0,1]", "soft_targets.temperature=1", "soft_targets.bits=16")
    more = (*more, "soft_targets.encoding=dense")
    assert experiment("soft-targets", *more, given(archives / "2.ark", path)) == 0
    frames = read_frames(experiment.directory / "frames" / "train")
    soft = soft_targets(experiment.directory, 1.0)
    for name, span in list(frames.spans())[:3]:
        found = soft.batch(torch.arange(span.start, span.stop))[1]
        np.testing.assert_allclose(found, np.exp(table[name]), atol=1e-3)
    error = refusal(experiment, "soft-targets", *more, given(path))
    assert "has 2 numbers; it must have one for each of the 1 models of soft_targets.ext" in error


def test_sparse_posteriors(experiment, refusal):
    frames = read_frames(experiment.directory / "frames" / "train")
    path = experiment.directory.with_name("post.ark")
    lines = [f"{u} {'[ 3 0.25 5 0.75 ] ' * (s.stop - s.start)}\n" for u, s in frames.spans()]
    path.write_text("".join(lines))
    more = ("soft_targets.temperature=1", "soft_targets.bits=16", given(path))
    assert experiment("soft-targets", *more) == 0
    classes, found = soft_targets(experiment.directory, 1.0).batch(torch.arange(len(frames)))
    assert (classes[:, :2] == torch.tensor([5, 3])).all()
    np.testing.assert_allclose(found[:, :2], np.tile([0.75, 0.25], (len(frames), 1)))
    assert found[:, 2:].abs().max() < 1e-3
    error = refusal(experiment, "soft-targets", *more, "soft_targets.mean=geometric")
    assert "geometric mean with 0 is 0" in error


def test_archives_that_do_not_fit_are_refused(experiment, archives, refusal):
    table = Table(str(archives / "1.ark"), MATRIX)
    first, *others = table
    path = experiment.directory.with_name("wrong.ark")
    wrong = {
        rf"'{first}' is missing": [(n, table[n]) for n in others],
        f"3 frames in the archive, but {len(table[first])} here;": [(first, table[first][:3])],
        "posteriors of 7 classes, but the frames have": [
            (first, np.full((len(table[first]), 7), 1 / 7))
        ],
        "frame 0 has neither probabilities nor their logarithms": [(first, table[first] - 1)],
    }
    for message, matrices in wrong.items():
        write_archive(path, matrices)
        assert message in refusal(experiment, "soft-targets", given(path))
        assert not list((experiment.directory / "soft_targets").glob("shard-*"))
    missing = given(path.with_name("gone.ark"))
    assert "gone.ark: no such file" in refusal(experiment, "soft-targets", missing)
