"""The package's networks, and those of users, which are checked before they are trained."""

from dataclasses import replace

import numpy as np
import own_networks
import pytest
import torch
from kills import killed_at
from tiny_training import CONVOLUTIONS, MODEL, TRAIN, make_frames, trainer, weights
from torch import nn

from acoustic_kd.system.errors import UserError
from acoustic_kd.training.batch_norm import GlobalBatchNorm, over_all_processes
from acoustic_kd.training.cnn import CNN
from acoustic_kd.training.model import AcousticModel, load_model
from acoustic_kd.training.networks import build_network, describe, limit_norms, make_optimizer

RECURRENT = replace(MODEL, class_="own_networks:Recurrent", args={"units": 16})
MASKED = replace(MODEL, class_="own_networks:Masked")
NORMED = replace(MODEL, batch_norm=True, residual=True)
RESIDUAL = replace(MODEL, residual=True, input_dropout=0.1)


@pytest.mark.parametrize(("frames", "features"), [(26, 40), (1, 13), (31, 80), (7, 41)])
def test_convolutions_take_windows_of_any_size(frames, features):
    logits = CNN(frames, features, 10, 4, 2, 8, 0.1)(torch.randn(3, frames, features))
    assert logits.shape == (3, 10)


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize(
    "config",
    [CONVOLUTIONS, RECURRENT, MASKED, NORMED, RESIDUAL],
    ids=["cnn", "gru", "mask", "batch norm", "residual"],
)
def test_a_network_learns_and_is_read_back(tmp_path, config, average):
    """The last batch has one frame, of which nn.BatchNorm makes an error."""
    train = replace(TRAIN, epochs=6, learning_rate=1e-2, average=average)
    subject = trainer(tmp_path, model=config, train=train)
    history = subject.run()
    assert history[-1]["dev_frame_accuracy"] > 60
    model = AcousticModel.from_pretrained(tmp_path)
    assert model.config == config
    assert model(torch.zeros(40, 4, 6)).shape == (40, 5)
    model.save_pretrained(tmp_path / "copy")
    assert weights(tmp_path / "copy") == weights(tmp_path)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_hidden_layers_are_what_the_settings_say(batch_norm, residual):
    """A residual connection is where a layer has as many inputs as units."""
    config = replace(MODEL, layers=3, dropout=0.5, batch_norm=batch_norm, residual=residual)
    network = over_all_processes(build_network(config, 7, 5)).eval()
    state = {name: nn.init.uniform_(t.float(), 0.5, 1) for name, t in network.state_dict().items()}
    network.load_state_dict(state)
    windows = torch.randn(3, 4, 7)
    linear = [m for m in network.hidden.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | GlobalBatchNorm)]
    assert len(linear) == 3 and len(norms) == (3 if batch_norm else 0)
    units = windows.flatten(1)
    for number, layer in enumerate(linear):
        assert (layer.bias is None) == batch_norm
        made = layer(units)
        if batch_norm:
            norm = norms[number]
            made = (made - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
            made = made * norm.weight + norm.bias
        units = made.clamp(min=0) + (units if residual and number > 0 else 0)
    torch.testing.assert_close(network(windows), network.output(units), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (MODEL, "2 × 32 units"),
        (NORMED, "2 × 32 residual units with batch norm"),
        (RESIDUAL, "2 × 32 residual units"),
        (replace(NORMED, kind="cnn", channels=4), "4 channels, 2 × 32 units"),
    ],
)
def test_tables_name_what_a_network_has(config, text):
    assert describe(config) == text


@pytest.mark.parametrize("config", [MODEL, NORMED, CONVOLUTIONS, RECURRENT])
def test_weights_decay_and_vectors_do_not(config):
    network = build_network(config, 6, 5)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(network, 0.5, 0.1).step()
    for name, parameter in network.named_parameters():
        kept = 1.0 if parameter.dim() == 1 else 1 - 0.5 * 0.1
        torch.testing.assert_close(parameter.detach(), kept * before[name])
    assert any(p.dim() == 1 for p in before.values())


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_a_network_of_vectors_or_of_matrices_alone_can_be_optimised(shape):
    network = nn.ParameterList([nn.Parameter(torch.ones(shape))])
    network[0].grad = torch.ones(shape)
    make_optimizer(network, 0.5, 0.1).step()
    assert (network[0] < 1).all()


@pytest.mark.parametrize(
    "config", [CONVOLUTIONS, RECURRENT, NORMED], ids=["cnn", "own class", "batch norm"]
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path, config):
    trainer(tmp_path / "whole", model=config).run()
    with killed_at(20):
        trainer(tmp_path / "killed", model=config, train=replace(TRAIN, checkpoint_steps=7)).run()
    trainer(tmp_path / "killed", model=config).run()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_an_object_is_trained_and_needs_an_object_to_be_read(tmp_path):
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(4 * 6, 16), nn.BatchNorm1d(16), nn.Linear(16, 5)
    )
    trainer(tmp_path, network=network).run()
    with pytest.raises(UserError, match="was given to the trainer as an object; give one"):
        load_model(tmp_path)
    empty = nn.Sequential(nn.Flatten(), nn.Linear(4 * 6, 16), nn.BatchNorm1d(16), nn.Linear(16, 5))
    model = AcousticModel.from_pretrained(tmp_path, network=empty)
    assert model.description["model"]["class"] == "torch.nn.modules.container:Sequential"
    windows = torch.randn(3, 4, 6)
    torch.testing.assert_close(model(windows), network.eval()(windows))
    with pytest.raises(UserError, match=r"weights do not fit model.json \(size of '1.bias'"):
        AcousticModel.from_pretrained(
            tmp_path, network=nn.Sequential(nn.Flatten(), nn.Linear(9, 5))
        )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.module:Net", "cannot be imported .*No module named 'no'"),
        ("own_networks:Missing", "cannot be imported .*has no attribute 'Missing'"),
        ("own_networks:function", "is no torch.nn.Module class"),
        ("own_networks:Sequence", r"forward gives \[3, 1, 5\] .* must give logits \[3, 5\]"),
        ("own_networks:NotANumber", "logits that are not finite"),
        ("own_networks:Integers", "gives torch.int64; logits must be floating-point"),
        ("own_networks:Detached", "the logits have no gradient"),
        ("own_networks:Pair", "forward returns tuple, not a tensor of logits"),
        ("own_networks:Unused", "the parameter 'spare' gets no gradient"),
        ("own_networks:Steep", "the gradient of 'layer.weight' is not finite"),
        ("own_networks:Fails", "fails on one batch .*RuntimeError"),
        ("own_networks:Complex", "'wave' is torch.complex64; .* must be torch.float32"),
        ("own_networks:Lazy", "'layer.weight' has no size yet; give its layer the input size"),
        ("own_networks:ExtraState", "'_extra_state' in its state_dict is not a tensor"),
        ("exits_when_imported:Net", r"cannot be imported \(SystemExit: usage: exits_when"),
        ("own_networks:Doubles", "'layer.weight' is torch.float64; .* must be torch.float32"),
    ],
)
def test_a_class_that_cannot_be_trained_is_refused_in_a_line(tmp_path, path, message):
    with pytest.raises(UserError, match=message) as caught:
        trainer(tmp_path, model=replace(MODEL, class_=path))
    assert "\n" not in str(caught.value) and path in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "train", "message"),
    [
        ({"kind": "rnn"}, {}, "'model.kind' is rnn; it must be dnn or cnn"),
        ({"left_frames": -1}, {}, "'model.left_frames' is -1; it must be"),
        (
            {},
            {"time_mask": 5},
            "'train.time_mask' is 5; it must be at most 4, the size of a window",
        ),
        (
            {},
            {"frequency_mask": 7},
            "'train.frequency_mask' is 7; it must be at most 6, the size of a window",
        ),
        ({}, {"schedule": "cos"}, "'train.schedule' is cos; it must be"),
        ({}, {"tracker": "tensorbord"}, "'train.tracker' is tensorbord; it must be"),
    ],
)
def test_values_that_no_setting_has_are_refused(tmp_path, model, train, message):
    """In Python nothing else checks them."""
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, model=replace(MODEL, **model), train=replace(TRAIN, **train))


def test_an_object_is_no_class(tmp_path):
    with pytest.raises(TypeError, match="expected an object of a torch.nn.Module class"):
        trainer(tmp_path, network=nn.GRU)


def test_a_model_in_bfloat16_is_saved_in_float32(tmp_path):
    trainer(tmp_path, train=replace(TRAIN, epochs=1)).run()
    model = load_model(tmp_path).in_bfloat16()
    model.save_pretrained(tmp_path / "copy")
    rounded = {name: tensor.float() for name, tensor in model.network.state_dict().items()}
    for name, tensor in load_model(tmp_path / "copy").network.state_dict().items():
        assert torch.equal(tensor, rounded[name])


def test_arguments_that_a_class_does_not_take_are_refused(tmp_path):
    with pytest.raises(UserError, match="Recurrent cannot be made .*unexpected keyword"):
        trainer(tmp_path, model=replace(RECURRENT, args={"width": 3}))


def test_the_check_of_a_batch_changes_nothing(tmp_path):
    """Neither the weights nor the running statistics of the network that is then trained."""
    network = own_networks.Recurrent(4, 6, 5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    subject = trainer(tmp_path, network=network)
    for name, tensor in subject.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(50, 6), (50, 6, 3, 2)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_normalisation_is_pytorchs(monkeypatch, shape, momentum):
    """Also where it adds up sums of its own, as with several processes."""
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(6, momentum=momentum)
    torch.nn.init.normal_(layer.weight)
    ours = over_all_processes(nn.Sequential(nn.Sequential(nn.Identity(), layer)))[0][1]
    theirs = type(layer)(6, momentum=momentum)
    theirs.load_state_dict(layer.state_dict())
    assert isinstance(ours, GlobalBatchNorm)
    monkeypatch.setattr(GlobalBatchNorm, "alone", lambda self, units: False)
    for seed in range(3):
        units = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 3
        inputs = [units.clone().requires_grad_() for _ in range(2)]
        outputs = [layer(x) for layer, x in zip((ours, theirs), inputs, strict=True)]
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
        for output in outputs:
            output.pow(3).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-3, atol=1e-3)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_norms_are_limited_into_every_hidden_unit_but_not_into_the_logits():
    network = build_network(CONVOLUTIONS, 6, 5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3.0)
    limit_norms(network, 0.5)
    norms = {
        name: torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    assert norms.pop("output").min() > 3
    for norm in norms.values():
        np.testing.assert_allclose(norm.detach(), 0.5, rtol=1e-6)


def test_a_window_longer_than_every_utterance_is_refused(tmp_path):
    longest = int(np.diff(make_frames().offsets).max())
    trainer(tmp_path, model=replace(MODEL, left_frames=longest - 1, right_frames=0))
    with pytest.raises(
        UserError, match=f"window .* 1 frames, but the longest utterance has {longest}"
    ):
        trainer(tmp_path, model=replace(MODEL, left_frames=longest - 1, right_frames=1))


def test_a_name_that_is_no_directory_is_looked_for_on_the_hub(tmp_path, monkeypatch):
    """In its cache, without a network; a name that is nowhere is one line."""
    trainer(tmp_path / "model", train=replace(TRAIN, epochs=1)).run()
    revision = "0" * 40
    cached = tmp_path / "models--user--net"
    (cached / "snapshots").mkdir(parents=True)
    (tmp_path / "model").rename(cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert AcousticModel.from_pretrained("user/net").config == MODEL
    for name in ("user/other", "no name at all", "a/b/c"):
        with pytest.raises(
            UserError, match=f"^{name}: neither a directory nor a model of"
        ) as error:
            AcousticModel.from_pretrained(name)
        assert "\n" not in str(error.value)
