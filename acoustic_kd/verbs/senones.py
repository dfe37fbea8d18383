"""The senones stage: the phonetic decision tree."""

from acoustic_kd.alignment.senones import conversion
from acoustic_kd.alignment.tree import Statistics, build_tree
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.kaldi_targets import run_pdf_senones, takes_pdfs
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.outputs import (
    INVENTORY,
    LEXICON,
    conversion_path,
    read_aligned,
    tree_path,
)
from acoustic_kd.language.lexicon import SILENCE, read_lexicon
from acoustic_kd.system.parallel import progress
from acoustic_kd.system.tensors import save_tensors
from acoustic_kd.training.trees import CONVERSION


def run(experiment: Experiment) -> None:
    """Gather the statistics of the train split and grow the phonetic decision tree."""
    if takes_pdfs(experiment.config):
        return run_pdf_senones(experiment)
    config = experiment.config.senones
    segmentations = read_aligned(experiment, "train")
    lexicon = read_lexicon(experiment.path("corpus") / LEXICON)
    statistics = Statistics((SILENCE, *lexicon.phones()))
    frames = progress(normalised(experiment, "train"), "tree statistics", unit="utt")
    for utterance in frames:
        if utterance.id in segmentations:
            statistics.add(segmentations[utterance.id], utterance.features)
    inventory = build_tree(statistics, config.leaves, config.min_frames)
    inventory.write(experiment.directory / INVENTORY)
    for tree in range(2, config.trees + 1):
        other = build_tree(statistics, config.leaves, config.min_frames, tree)
        other.write(tree_path(experiment, tree))
        matrix = conversion(other, inventory, segmentations.values())
        save_tensors(conversion_path(experiment, tree), {CONVERSION: matrix}, {})
    print(
        f"  {inventory.num_senones} senones from {len(statistics.keys)} triphone states seen of "
        f"{len(inventory.phones)} phones"
    )
    if inventory.num_senones < config.leaves:
        print(
            f"  (asked for {config.leaves}: at {config.min_frames} frames a leaf there is no data "
            "for more)"
        )
