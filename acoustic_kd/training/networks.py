"""The networks by their settings: those of the package, and classes of the user's own."""

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.memory import GIGABYTE
from acoustic_kd.training.cnn import CNN
from acoustic_kd.training.dnn import DNN
from acoustic_kd.training.precision import dtype_of, forward

CHECKED_FRAMES = 3  # of the batch that checks a network


def build_network(config: ModelConfig, dimension: int, classes: int) -> nn.Module:
    """A fresh network from windows [B, W, D] to logits [B, K].

    Args:
        dimension: D, features of a frame.
        classes: K.

    Raises:
        UserError: `model.class` cannot be imported or made.
    """
    frames = window_frames(config)
    hidden = config.layers, config.width, config.dropout, config.input_dropout
    if config.class_ is not None:
        make = import_class(config.class_)
        with _errors_named(f"{config.class_} cannot be made"):
            return make(frames=frames, features=dimension, classes=classes, **(config.args or {}))
    if config.kind == "cnn":
        return CNN(frames, dimension, classes, config.channels, *hidden)
    return DNN(frames * dimension, classes, *hidden, config.batch_norm, config.residual)


def window_frames(config: ModelConfig) -> int:
    """W, the frames of a window."""
    return config.left_frames + 1 + config.right_frames


def describe(config: ModelConfig) -> str:
    """A model in a few words, for messages and tables."""
    if config.tree > 1:
        own = ModelConfig(**config.args["model"]) if config.args else config
        return f"{describe(replace(own, tree=1))}, tree {config.tree}"
    if config.class_ is not None:
        args = ", ".join(f"{key}={value}" for key, value in (config.args or {}).items())
        return f"{config.class_}({args})"
    shape = f"{config.layers} × {config.width}"
    if config.kind == "cnn":
        return f"{config.channels} channels, {shape} units"
    shape += " residual units" if config.residual else " units"
    return f"{shape} with batch norm" if config.batch_norm else shape


def import_class(path: str) -> Callable[..., nn.Module]:
    """The class of an import path such as `my.package:Net`.

    The working directory may have the module; an installed one of the same name comes first.
    """
    module_name, _, name = path.partition(":")
    if "" not in sys.path:
        sys.path.append("")
    with _errors_named(f"setting 'model.class' is {path}, which cannot be imported"):
        found = getattr(importlib.import_module(module_name), name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"setting 'model.class' is {path}, which is no torch.nn.Module class")
    return found


@contextmanager
def _errors_named(what: str) -> Iterator[None]:
    """Any error within the block, which may be of the user's own code, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a script of the user's own may call sys.exit
        text = " ".join(str(error).split())[:300]
        raise UserError(f"{what} ({type(error).__name__}: {text})") from None


def check_window(config: ModelConfig, longest: int) -> None:
    """Raise a UserError for a window longer than the longest utterance, of `longest` frames."""
    if window_frames(config) > max(longest, 1):
        raise UserError(
            f"the window of {describe(config)} is {config.left_frames} + 1 + {config.right_frames} "
            f"frames, but the longest utterance has {longest}; give fewer left_frames and "
            "right_frames"
        )


def check_network(
    network: nn.Module, name: str, config: ModelConfig, dimension: int, classes: int, bfloat16: bool
) -> None:
    """Raise a UserError unless a network can be trained: one batch goes through a copy of it.

    Args:
        name: of the network, for messages.
        config: for its window.
        dimension, classes: as for `build_network`.
    """
    for key, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"{name}: '{key}' in its state_dict is not a tensor; remove it")
        if is_lazy(tensor):
            raise UserError(f"{name}: '{key}' has no size yet; give its layer the input size")
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype != torch.float32):
            raise UserError(f"{name}: '{key}' is {tensor.dtype}; the weights must be torch.float32")
    with torch.random.fork_rng(devices=[]), _errors_named(f"{name} fails on one batch"):
        windows = torch.randn(CHECKED_FRAMES, window_frames(config), dimension)
        tried = copy.deepcopy(network).cpu().train()  # the user's own network may be on a GPU
        windows = windows.to(dtype_of(bfloat16))
        logits = forward(tried, windows, bfloat16)
        _check_logits(name, logits, windows, classes)
        logits.float().square().sum().backward()
        for key, parameter in tried.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise UserError(
                    f"{name}: the parameter '{key}' gets no gradient; use it, or set its "
                    "requires_grad to False"
                )
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                raise UserError(f"{name}: the gradient of '{key}' is not finite")


def _check_logits(name: str, logits: Any, windows: Tensor, classes: int) -> None:
    expected = [len(windows), classes]
    if not isinstance(logits, Tensor):
        raise UserError(f"{name}: forward returns {type(logits).__name__}, not a tensor of logits")
    if list(logits.shape) != expected:
        raise UserError(
            f"{name}: forward gives {list(logits.shape)} for windows {list(windows.shape)}; it must"
            f" give logits {expected}"
        )
    if not logits.is_floating_point():
        raise UserError(f"{name}: forward gives {logits.dtype}; logits must be floating-point")
    if not bool(logits.isfinite().all()):
        raise UserError(f"{name}: forward gives logits that are not finite (NaN or infinite)")
    if not logits.requires_grad:
        raise UserError(f"{name}: the logits have no gradient; no parameter can be trained")


def count_parameters(network: nn.Module) -> int:
    """The number of weights and biases."""
    return sum(p.numel() for p in network.parameters())


def training_bytes(config: ModelConfig, dimension: int, classes: int) -> int:
    """The memory that training a network needs: weights, their gradient, and two moments of Adam.

    Of a class of the user's own it is not known before an object is made: 0.
    """
    if config.class_ is not None:
        return 0
    with torch.device("meta"):
        return 4 * 4 * count_parameters(build_network(config, dimension, classes))


def check_memory(
    name: str,
    config: ModelConfig,
    dimension: int,
    classes: int,
    averaged: bool,
    free: int | None,
) -> None:
    """Raise a UserError for a network that does not fit into memory, before it is made.

    Args:
        name: of the model, for the message.
        dimension, classes: as for `build_network`.
        averaged: whether one more copy of it is kept.
        free: bytes; None: unknown, assumed to be enough.
    """
    needed = training_bytes(config, dimension, classes)
    needed += needed // 4 if averaged else 0
    if free is not None and needed > free:
        raise UserError(
            f"{name}: {describe(config)} need {needed / GIGABYTE:,.1f} GB to train with windows of "
            f"{config.left_frames} + 1 + {config.right_frames} frames and {classes} classes, and "
            f"{free / GIGABYTE:.1f} GB are free; give a smaller model"
        )


def make_optimizer(
    network: nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW; vectors do not decay: biases, and scales and shifts of batch normalisation."""
    parameters = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1]},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, learning_rate, weight_decay=weight_decay, fused=True)


@torch.no_grad()
def limit_norms(network: nn.Module, limit: float) -> None:
    """Scale the weights into each hidden unit to the Euclidean norm `limit`, if they are longer.

    This constraint is used with dropout in the paper's experiments on MNIST (section 3).
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    for layer in layers[:-1]:  # the last one gives the logits
        weight = layer.weight.view(len(layer.weight), -1)
        norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
        weight.mul_((limit / norms).clamp_(max=1))
