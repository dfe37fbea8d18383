"""`acoustic-kd export`: the acoustic model of a finished experiment as an ONNX file.

    features        float32 [frames, D]  normalised log-mel frames of one utterance
    log_posteriors  float32 [frames, K]  natural logs of the senones' posteriors

The windows around the frames are gathered inside, with an utterance's first and last frame repeated
beyond its ends, as `model.Splicer` does. The graph is written node by node: it is a dozen kinds of
operator, and PyTorch's exporter takes longer than that and needs a package more.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from acoustic_kd.corpora.utterances import EVALUATION_SPLITS
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import Recogniser, find_system
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.options import add_finished_experiment
from acoustic_kd.experiment.outputs import inventory_of
from acoustic_kd.experiment.stages import DEFAULT_MODEL, open_experiment
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.settings import WINDOW_SECONDS
from acoustic_kd.system.errors import UserError, installation
from acoustic_kd.system.files import atomic_path
from acoustic_kd.system.paths import path_argument
from acoustic_kd.training.ensemble import MIN_PROBABILITY
from acoustic_kd.training.model import AcousticModel, Dropout

OPSET = 17
MAX_DIFFERENCE = 1e-4  # of log posteriors above ln SMALLEST
MAX_FILE_BYTES = 2 << 30  # of an ONNX file
NUM_COMPARED_UTTERANCES = 8


def export(directory: Path, out: Path, model: str = DEFAULT_MODEL) -> float:
    """Write one system of an experiment as ONNX, and compare it with PyTorch.

    Args:
        model: `distilled/01`, `members/01` or `ensemble`.

    Returns:
        The greatest difference of a log posterior on dev.
    """
    onnx, runtime = _packages()
    experiment = open_experiment(directory)
    recogniser = Recogniser.of(experiment, find_system(experiment, model))
    size = 4 * sum(p.numel() for m in recogniser.models for p in m.parameters())
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"--model {model}: {size / 1e9:.1f} GB of weights, and one ONNX file holds 2.1; export "
            "its members one by one, or the distilled model"
        )
    described = describe(experiment, recogniser, model)
    built = build(onnx, recogniser, experiment.config.features.mel_bins, described)
    onnx.checker.check_model(built)
    with atomic_path(Path(out)) as temporary:
        temporary.write_bytes(built.SerializeToString())
        difference = compare(runtime, temporary, experiment, recogniser)
        if not difference <= MAX_DIFFERENCE:
            raise UserError(
                f"{out}: not written: its log posteriors differ from PyTorch's by "
                f"{difference:.2g}, more than {MAX_DIFFERENCE:g}"
            )
    return difference


def _packages() -> tuple[ModuleType, ModuleType]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"package '{error.name}', which export needs, is missing: {installation('onnx')}"
        ) from None
    return onnx, onnxruntime


def describe(experiment: Experiment, recogniser: Recogniser, model: str) -> dict[str, str]:
    """The metadata of the file: input, output, and what a decoder needs besides them."""
    features, inventory = experiment.config.features, inventory_of(experiment)
    values = {
        "model": model,
        "inventory": inventory.classes.inventory,
        "senones": inventory.names(),
        "log_priors": [round(float(prior), 6) for prior in recogniser.log_prior],
        "left_frames": recogniser.config.left_frames,
        "right_frames": recogniser.config.right_frames,
        "sample_rate": features.sample_rate,
        "mel_bins": features.mel_bins,
        "low_hz": features.low_hz,
        "high_hz": features.high_hz,
        "normalise": features.normalise,
        "window_seconds": WINDOW_SECONDS,
        "shift_seconds": SHIFT_SECONDS,
    }
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}


def build(
    onnx: ModuleType, recogniser: Recogniser, dimension: int, described: dict[str, str]
) -> Any:
    """The ONNX model of a recogniser.

    Args:
        dimension: D.
        described: its metadata.
    """
    graph = _Graph(onnx)
    config, models = recogniser.config, recogniser.models
    windows = graph.splice("features", config.left_frames, config.right_frames, dimension)
    logits = [graph.layers(model, windows) for model in models]
    if len(logits) == 1:
        result = graph.add("LogSoftmax", logits, axis=-1)
    else:  # the logarithm of the mean, cut off where the recipe's decoding cuts it off
        mean = graph.add("Mean", [graph.add("Softmax", [one], axis=-1) for one in logits])
        floor = graph.constant(np.array(MIN_PROBABILITY, np.float32))
        result = graph.add("Log", [graph.add("Add", [mean, floor])])
    graph.nodes.append(onnx.helper.make_node("Identity", [result], ["log_posteriors"]))
    count = models[0].output.out_features
    kind = onnx.TensorProto.FLOAT
    built = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "acoustic_model",
            [onnx.helper.make_tensor_value_info("features", kind, ["frames", dimension])],
            [onnx.helper.make_tensor_value_info("log_posteriors", kind, ["frames", count])],
            graph.tensors,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="acoustic_kd",
        ir_version=8,  # the first that knows this opset, for the sake of older runtimes
    )
    onnx.helper.set_model_props(built, described)
    return built


class _Graph:
    """Nodes and weights in the making; every value has a name of its own."""

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"value{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"weight{len(self.tensors)}"
        self.tensors.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def splice(self, features: str, left: int, right: int, dimension: int) -> str:
        """Windows [T, W·D] of frames [T, D]."""
        zero, one = (self.constant(np.array(number, np.int64)) for number in (0, 1))
        length = self.add(
            "Gather", [self.add("Shape", [features]), zero], axis=0
        )  # a scalar: the number of frames
        frame = self.add("Range", [zero, length, one])
        column = self.add("Unsqueeze", [frame, self.constant(np.array([1], np.int64))])
        steps = self.constant(np.arange(-left, right + 1, dtype=np.int64))
        place = self.add("Max", [self.add("Add", [column, steps]), zero])
        place = self.add("Min", [place, self.add("Sub", [length, one])])
        around = self.add("Gather", [features, place], axis=0)  # [T, W, D]
        width = (left + 1 + right) * dimension
        return self.add("Reshape", [around, self.constant(np.array([-1, width], np.int64))])

    def layers(self, model: AcousticModel, value: str) -> str:
        """Logits [T, K] of windows."""
        for layer in [*model.hidden, model.output]:
            if isinstance(layer, nn.Linear):
                weights = [self.constant(p.detach().numpy()) for p in (layer.weight, layer.bias)]
                value = self.add("Gemm", [value, *weights], transB=1)
            elif isinstance(layer, nn.ReLU):
                value = self.add("Relu", [value])
            elif not isinstance(layer, Dropout):
                raise TypeError(f"no ONNX operator is known for {type(layer).__name__}")
        return value


def compare(
    runtime: ModuleType, path: Path, experiment: Experiment, recogniser: Recogniser
) -> float:
    """The greatest difference between an ONNX file and PyTorch in float32, on some of dev.

    Log posteriors are compared from ln `SMALLEST` up: what is below is as good as impossible, and
    decoding makes no difference there.
    """
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    precise = Recogniser(
        recogniser.models, recogniser.config, recogniser.log_prior, recogniser.durations, False
    )
    worst = 0.0
    for utterance in islice(normalised(experiment, EVALUATION_SPLITS[0]), NUM_COMPARED_UTTERANCES):
        frames = utterance.features
        (computed,) = session.run(["log_posteriors"], {"features": frames})
        expected = np.log(precise.posteriors(frames) + MIN_PROBABILITY)
        computed = np.log(
            np.exp(computed.astype(np.float64)) + (len(recogniser.models) == 1) * MIN_PROBABILITY
        )
        difference = np.abs(computed - expected).max()
        worst = max(worst, float(difference)) if np.isfinite(difference) else np.inf
    return worst


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The acoustic model as ONNX: normalised frames in, log posteriors out. Needs "
        f"the extra onnx: {installation('onnx')}."
    )
    parser.epilog = "Example: acoustic-kd export exp/an4 --out an4.onnx"
    add_finished_experiment(parser)
    parser.add_argument(
        "--out", type=path_argument, metavar="FILE.onnx", required=True, help="where it goes"
    )


def run(options: argparse.Namespace) -> None:
    difference = export(options.experiment, options.out, options.model)
    print(f"{options.out}: differs from PyTorch by {difference:.1g} at most on dev")
