"""The YAML file of a study on the speech of the tiny recipe."""

from pathlib import Path

import yaml
from tiny_recipe import SETTINGS

# Less speech and fewer checkpoints than the tiny recipe has: 2 × 2 experiments are made.
FASTER = (
    "corpus.demo_train_sentences=4",
    "corpus.demo_eval_sentences=2",
    "features.transfer_vtlp_warps=[]",
    "frames.shard_frames=100000",
    "train.epochs=1",
    "train.checkpoint_steps=1000",
    "distill.epochs=1",
)
ROWS = {"views": {"none": None, "a warp": {"features.transfer_vtlp_warps": [0.9]}}}


def write_study(path: Path, recipe: tuple[str, ...] = SETTINGS, **changes) -> Path:
    settings = dict(setting.split("=", 1) for setting in recipe)
    values = {
        "title": "Tiny.",
        "config": "demo",
        "settings": {key: yaml.safe_load(value) for key, value in settings.items()},
        "seeds": 2,
        "rows": ROWS,
    }
    path.write_text(yaml.safe_dump(values | changes, sort_keys=False))
    return path
