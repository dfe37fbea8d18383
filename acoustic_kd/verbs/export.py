"""`acoustic-kd export`: the acoustic model of a finished experiment as an ONNX file.

    features        float32 [frames, D]  normalised log-mel frames of one utterance
    log_posteriors  float32 [frames, K]  natural logs of the senones' posteriors

The windows around the frames are gathered inside, with an utterance's first and last frame repeated
beyond its ends, as `windows.Splicer` does.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.models import AcousticScorer, find_system
from acoustic_kd.experiment.onnx_models import (
    TRACED_FRAMES,
    LogPosteriors,
    check_close,
    check_exportable,
    onnx_packages,
    write_onnx,
)
from acoustic_kd.experiment.options import add_finished_experiment
from acoustic_kd.experiment.outputs import inventory_of
from acoustic_kd.experiment.stages import DEFAULT_MODEL, open_experiment
from acoustic_kd.features.fbank import SHIFT_SECONDS
from acoustic_kd.settings import WINDOW_SECONDS
from acoustic_kd.system.errors import installation
from acoustic_kd.system.files import atomic_path
from acoustic_kd.system.paths import path_argument

MAX_DIFFERENCE = 1e-4  # of log posteriors above ln MIN_PROBABILITY
NUM_COMPARED_UTTERANCES = 8
FEATURE_SETTINGS = ("sample_rate", "mel_bins", "low_hz", "high_hz", "normalise")


def export(directory: Path, out: Path, model: str = DEFAULT_MODEL) -> float:
    """Write one system of an experiment as ONNX, and compare it with PyTorch.

    Args:
        model: `distilled/01`, `members/01` or `ensemble`.

    Returns:
        The greatest difference of a log posterior on dev.
    """
    onnx, runtime = onnx_packages()
    experiment = open_experiment(directory)
    scorer = AcousticScorer.of(experiment, find_system(experiment, model))
    check_exportable(scorer, model)
    described = describe(experiment, scorer, model)
    example = {"features": torch.zeros(TRACED_FRAMES, experiment.config.features.mel_bins)}
    built = write_onnx(LogPosteriors(scorer.models), example, ["log_posteriors"], described)
    onnx.checker.check_model(built)
    with atomic_path(Path(out)) as temporary:
        temporary.write_bytes(built.SerializeToString())
        session: list[Any] = []  # made within the check, which names what fails

        def posteriors(frames: np.ndarray) -> np.ndarray:
            if not session:
                providers = ["CPUExecutionProvider"]
                session.append(runtime.InferenceSession(temporary, providers=providers))
            found: np.ndarray = np.exp(session[0].run(["log_posteriors"], {"features": frames})[0])
            return found

        return check_close(experiment, scorer, posteriors, out)


def describe(experiment: Experiment, scorer: AcousticScorer, model: str) -> dict[str, str]:
    """The metadata of the file: input, output, and what a decoder needs besides them."""
    features, inventory = experiment.config.features, inventory_of(experiment)
    left, right = scorer.window
    values = {
        "model": model,
        "inventory": inventory.classes.inventory,
        "senones": inventory.names(),
        "log_priors": [round(float(prior), 6) for prior in scorer.log_prior],
        "left_frames": left,
        "right_frames": right,
        **{name: getattr(features, name) for name in FEATURE_SETTINGS},
        "window_seconds": WINDOW_SECONDS,
        "shift_seconds": SHIFT_SECONDS,
    }
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}


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
