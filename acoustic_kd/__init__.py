"""Distil an ensemble of deep acoustic models into one model that keeps most of its accuracy.

The names below are the public interface (docs/use.md). Each is imported at its first use, so that
the command line starts quickly.
"""

import importlib
import sys
from typing import Any

from acoustic_kd.version import __version__

if sys.platform == "win32":
    print("acoustic-kd: error: Windows is not supported; use Linux, macOS or WSL", file=sys.stderr)
    sys.exit(2)

_PUBLIC = {  # name → where it is
    "AcousticModel": "training.model:AcousticModel",
    "Classes": "features.frame_sequence:Classes",
    "DistillationLoss": "training.losses:DistillationLoss",
    "Encoding": "soft_targets.encoding:Encoding",
    "FrameSequence": "features.frame_sequence:FrameSequence",
    "Frames": "features.frames:Frames",
    "ModelConfig": "settings:ModelConfig",
    "TrainConfig": "settings:TrainConfig",
    "Recognizer": "runtime.recognizer:Recognizer",
    "SoftTargets": "soft_targets.targets:SoftTargets",
    "SparseTargets": "soft_targets.encoding:SparseTargets",
    "Trainer": "training.trainer:Trainer",
    "TrainingRun": "training.schedule:TrainingRun",
    "Transcriber": "experiment.transcriber:Transcriber",
    "UserError": "system.errors:UserError",
    "WithSoftTargets": "soft_targets.dataset:WithSoftTargets",
    "capture": "training.capture:capture",
    "distillation_loss": "training.losses:distillation_loss",
    "frame_index": "features.frames:frame_index",
    "inspect": "verbs.inspect:inspect",
    "mean_of": "training.ensemble:mean_of",
    "read_frames": "features.frames:read_frames",
    "read_soft_targets": "soft_targets.read:read_soft_targets",
    "write_frames": "features.frames:write_store",
    "write_soft_targets": "soft_targets.write:write_soft_targets",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _PUBLIC.keys())
