"""Networks as ONNX models, written by PyTorch's exporter, which takes any network."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acoustic_kd.corpora.utterances import EVALUATION_SPLITS
from acoustic_kd.decoding.search import MIN_PROBABILITY
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import AcousticScorer
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.features.normalise import SILENCE_FLOOR
from acoustic_kd.runtime.bundle import OnnxScorer, onnx_runtime
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.errors import UserError, first_line, installation
from acoustic_kd.training.model import AcousticModel

OPSET = 18
TRACED_FRAMES = 8  # of the example that the exporter follows
MAX_FILE_BYTES = 2 << 30  # of an ONNX file
MAX_DIFFERENCE = 1e-4  # of log posteriors above ln MIN_PROBABILITY
NUM_COMPARED_UTTERANCES = 8


def check_packages() -> None:
    """Raise a UserError if a package that writes ONNX is missing."""
    onnx_runtime()  # before others import it
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        text = f"package '{error.name}', which writes ONNX, is missing: {installation('onnx')}"
        raise UserError(text) from None


def check_exportable(scorer: AcousticScorer, model: str) -> None:
    """Raise a UserError for a system that one ONNX file cannot hold.

    Args:
        model: its name, for the message.
    """
    if scorer.specialists is not None:
        raise UserError(
            f"--model {model}: an ensemble with specialists cannot be exported; give distilled/01"
        )
    size = 4 * sum(p.numel() for m in scorer.models for p in m.parameters())
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"--model {model}: {size / 1e9:.1f} GB of weights, and one ONNX file holds 2.1; give "
            "one of its members, or the distilled model"
        )


class LogPosteriors(nn.Module):
    """What is exported: normalised frames [T, D] → log posteriors [T, K] of one or more models."""

    def __init__(self, models: Sequence[AcousticModel]) -> None:
        super().__init__()
        self.models = nn.ModuleList(model.network for model in models)
        windows = [(model.config.left_frames, model.config.right_frames) for model in models]
        self.steps = [torch.arange(-left, right + 1) for left, right in windows]

    def forward(self, features: Tensor) -> Tensor:
        """float32 [T, K]."""
        frames = torch.arange(features.shape[0])
        log_posteriors = []
        for network, steps in zip(self.models, self.steps, strict=True):
            around = torch.minimum((frames[:, None] + steps).clamp(min=0), frames[-1])
            log_posteriors.append(network(features[around]).log_softmax(-1))
        if len(log_posteriors) == 1:
            return log_posteriors[0]
        return torch.stack(log_posteriors).logsumexp(0) - math.log(len(log_posteriors))


class NormalisedScores(nn.Module):
    """The scores of log-mel frames [T, D] that are not normalised yet.

    Args:
        acoustic_scale: of the log-likelihoods.
    """

    def __init__(self, scorer: AcousticScorer, acoustic_scale: float) -> None:
        super().__init__()
        self.log_posteriors = LogPosteriors(scorer.models)
        self.log_prior = torch.from_numpy(scorer.log_prior).float()
        self.acoustic_scale = acoustic_scale

    def forward(
        self, log_mels: Tensor, mean: Tensor, deviation: Tensor, silence: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log posteriors and scaled log-likelihoods [T, K].

        Args:
            mean, deviation: [D] of the speaker's or the recording's frames.
            silence: frames of a lower mean log energy are silence (`features.normalise`).
        """
        scaled = (log_mels - mean) / deviation
        quiet = log_mels.mean(1, keepdim=True) < silence
        log_posteriors = self.log_posteriors(
            torch.where(quiet, scaled.clamp(min=SILENCE_FLOOR), scaled)
        )
        return log_posteriors, (log_posteriors - self.log_prior) * self.acoustic_scale


def write_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    frames_axis: int = 0,
) -> Any:
    """A module as an ONNX model.

    Args:
        example: an input of each name; the first has TRACED_FRAMES frames, and may have any number.
        outputs: their names.
        frames_axis: the axis of the frames in the first input.
    """
    # The exporter warns of packages that are absent, and prints what it cannot export.
    logging.getLogger("torch").setLevel(logging.ERROR)
    frames = {frames_axis: torch.export.Dim("frames")}
    try:
        with redirect_stderr(StringIO()):
            program = torch.onnx.export(
                module.eval(),
                tuple(example.values()),
                input_names=list(example),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(frames, *(len(example) - 1) * [None]),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:  # a network of the user's own
        reason = first_line(error.__cause__ or error)
        raise UserError(f"PyTorch cannot export this network to ONNX ({reason})") from None
    if program is None:
        raise RuntimeError("torch.onnx.export returns no program")
    return program.model_proto


def write_scores(
    scorer: AcousticScorer, features: FeatureConfig, acoustic_scale: float, path: Path
) -> None:
    """Write the model of `NormalisedScores`."""
    example = {
        "log_mels": torch.zeros(TRACED_FRAMES, features.mel_bins),
        "mean": torch.zeros(features.mel_bins),
        "deviation": torch.ones(features.mel_bins),
        "silence": torch.tensor(0.0),
    }
    scores = NormalisedScores(scorer, acoustic_scale)
    model = write_onnx(scores, example, ["log_posteriors", "log_likelihoods"])
    path.write_bytes(model.SerializeToString())


def write_int8(path: Path, out: Path) -> None:
    """Write a model whose matrices have weights of 8 bits, each output with a scale of its own.

    Convolutions stay in float32: with 8 bits there, too, ONNX Runtime took four times as long for
    AN4's network. Weights are unsigned, because sums of products with signed ones saturate on
    processors without VNNI.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # slow to import

    logging.getLogger().setLevel(logging.ERROR)  # it advises a further step, not needed here
    quantize_dynamic(path, out, ["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QUInt8)


def check_close(
    experiment: Experiment,
    scorer: AcousticScorer,
    exported: OnnxScorer,
    out: Path,
) -> float:
    """Compare an ONNX model with PyTorch in float32, on some of dev.

    Log posteriors are compared from ln MIN_PROBABILITY up: decoding makes no difference below it.

    Args:
        out: what would be written, for messages.

    Returns:
        The greatest difference of a log posterior.
    """
    precise, worst = replace(scorer, bfloat16=False), 0.0
    for utterance in islice(normalised(experiment, EVALUATION_SPLITS[0]), NUM_COMPARED_UTTERANCES):
        frames = utterance.features
        try:
            computed = exported.posteriors(frames)
        except Exception as error:  # ONNX Runtime's errors have no class of their own
            raise UserError(
                f"ONNX Runtime cannot run this network for {len(frames)} frames "
                f"({first_line(error)}); its class must take any number of windows: write "
                "windows.shape[0], not len(windows)"
            ) from None
        expected = np.log(precise.posteriors(frames) + MIN_PROBABILITY)
        difference = np.abs(np.log(computed.astype(np.float64) + MIN_PROBABILITY) - expected).max()
        worst = max(worst, float(difference)) if np.isfinite(difference) else np.inf
    if not worst <= MAX_DIFFERENCE:
        raise UserError(
            f"{out}: not written: its log posteriors differ from PyTorch's by {worst:.2g}, more "
            f"than {MAX_DIFFERENCE:g}"
        )
    return worst
