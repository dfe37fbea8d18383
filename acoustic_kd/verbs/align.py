"""The align stage: every transcribed utterance into the HMM states of its phones.

With the model inside pocketsphinx's wheel, with models that an earlier experiment trained, or from
a flat start; or it takes Kaldi's alignments.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from acoustic_kd.alignment.dnn import DnnAligner
from acoustic_kd.alignment.pocketsphinx import PocketsphinxAligner
from acoustic_kd.alignment.segmentation import (
    AlignUtterance,
    Segmentation,
    align_all,
    write_segmentations,
)
from acoustic_kd.alignment.senones import read_inventory, read_statistics
from acoustic_kd.corpora.utterances import SPLITS, Exclusion, Utterance
from acoustic_kd.experiment.aligning_models import AligningModels, check_same_features, find_models
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.flat_start import align_from_flat_start
from acoustic_kd.experiment.kaldi_targets import run_pdf_align, takes_pdfs
from acoustic_kd.experiment.normalised import with_frames
from acoustic_kd.experiment.outputs import (
    LEXICON,
    STATISTICS,
    check_kept,
    read_split,
    report_exclusions,
)
from acoustic_kd.experiment.words import spoken_words
from acoustic_kd.features.audio import read_audio
from acoustic_kd.features.frames import read_index
from acoustic_kd.language.lexicon import Lexicon, read_lexicon
from acoustic_kd.settings import POCKETSPHINX_HZ
from acoustic_kd.system.errors import UserError
from acoustic_kd.training.model import load_model
from acoustic_kd.training.precision import use_bfloat16

# From a split and its utterances, the id of each and its segmentation, or why there is none.
AlignSplit = Callable[[str, list[Utterance]], Iterator[tuple[str, Segmentation | str]]]


def run(experiment: Experiment) -> None:
    """Segment every utterance into the HMM states of its phones."""
    if takes_pdfs(experiment.config):
        return run_pdf_align(experiment)
    out = experiment.path("align")
    splits = {split: read_split(experiment, split) for split in SPLITS}
    lexicon = read_lexicon(experiment.path("corpus") / LEXICON).restricted_to(
        set(spoken_words(splits))
    )
    methods: dict[str, Callable[[Experiment, Lexicon], AlignSplit]] = {
        "pocketsphinx": _with_pocketsphinx,
        "dnn": _with_dnn,
        "flat": align_from_flat_start,
    }
    align = methods[experiment.config.align.method](experiment, lexicon)
    excluded: list[Exclusion] = []
    for split, utterances in splits.items():
        results = list(align(split, utterances))
        aligned = [result for _, result in results if isinstance(result, Segmentation)]
        excluded += [
            Exclusion(name, split, reason) for name, reason in results if isinstance(reason, str)
        ]
        check_kept(out, split, len(aligned), excluded, experiment.config.align.max_failed)
        write_segmentations(out / f"{split}.jsonl", aligned)
    report_exclusions(out, excluded)


def _with_pocketsphinx(experiment: Experiment, lexicon: Lexicon) -> AlignSplit:
    def align(split: str, utterances: list[Utterance]) -> Iterator[tuple[str, Segmentation | str]]:
        lengths = read_index(experiment.path("features") / split).lengths
        items = ((u, lengths[u.id]) for u in utterances if u.id in lengths)
        return align_all(partial(_pocketsphinx, lexicon), split, items, len(utterances))

    return align


def _pocketsphinx(lexicon: Lexicon) -> AlignUtterance[Segmentation]:
    aligner = PocketsphinxAligner(lexicon)

    def align(utterance: Utterance, words: list[str], num_frames: int) -> Segmentation:
        waveform = read_audio(utterance, POCKETSPHINX_HZ)
        return aligner.align(utterance.id, words, waveform).resized_to(num_frames)

    return align


def _with_dnn(experiment: Experiment, lexicon: Lexicon) -> AlignSplit:
    models = find_models(experiment.config.align.model or "")
    check_same_features(models, experiment.config)
    print(f"  with {models.name}")
    state = partial(_dnn, models, lexicon, experiment.config.train.bfloat16)

    def align(split: str, utterances: list[Utterance]) -> Iterator[tuple[str, Segmentation | str]]:
        items = with_frames(experiment, split, utterances)
        return align_all(state, split, items, len(utterances))

    return align


def _dnn(
    models: AligningModels, lexicon: Lexicon, bfloat16: bool | None
) -> AlignUtterance[Segmentation]:
    loaded = [load_model(directory) for directory in models.models]
    inventory = read_inventory(models.inventory)
    log_prior, durations = read_statistics(models.frames / STATISTICS)
    for directory, model in zip(models.models, loaded, strict=True):
        trained_on = model.description.get("inventory"), model.description["classes"]
        if trained_on != (inventory.classes.inventory, len(log_prior)):
            raise UserError(
                f"{directory}: was trained on other senones than {models.inventory} has now; run "
                "that experiment to its end, or give another 'align.model'"
            )
    in_bfloat16 = use_bfloat16(bfloat16, torch.device("cpu"))
    aligner = DnnAligner(loaded, inventory, log_prior, durations, lexicon, in_bfloat16)
    return lambda utterance, words, frames: aligner.align(utterance.id, words, frames)
