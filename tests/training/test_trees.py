"""Members of another decision tree: their predictions in the classes of the first."""

from dataclasses import replace

import torch
from tiny_training import MODEL, trainer

from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.system.tensors import save_tensors
from acoustic_kd.training.model import load_model, save_model
from acoustic_kd.training.networks import describe
from acoustic_kd.training.trees import CONVERSION, convert

FIRST = Classes(4, "first tree")


def made(folder):
    """A trained model of 5 classes, what it is converted to, and the matrix."""
    trainer(folder / "own").run()
    own, model = load_model(folder / "own"), replace(MODEL, tree=2)
    matrix = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    matrix /= matrix.sum(1, keepdim=True)
    save_tensors(folder / "tree.safetensors", {CONVERSION: matrix}, {})
    kept = convert(model, folder / "tree.safetensors", FIRST, own.network, own.description)
    save_model(folder / "kept", *kept)
    return own, load_model(folder / "kept"), matrix


def test_predictions_are_converted_by_the_matrix_and_survive_the_files(tmp_path):
    own, kept, matrix = made(tmp_path)
    windows = torch.randn(7, 4, 6)
    with torch.no_grad():
        expected = own(windows).softmax(-1) @ matrix
        torch.testing.assert_close(kept(windows).exp(), expected)
    assert (kept.description["classes"], kept.description["inventory"]) == (4, "first tree")
    assert kept.description["best_dev_frame_accuracy"] is None
    assert (kept.config.left_frames, kept.config.right_frames) == (2, 1)
    assert describe(kept.config) == f"{describe(own.config)}, tree 2"
