"""The align stage: every transcribed utterance into the HMM states of its phones.

With the model inside pocketsphinx's wheel, with models that an earlier experiment trained, or from
a flat start; or it takes Kaldi's alignments.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from acoustic_kd.alignment.pocketsphinx import PocketsphinxAligner
from acoustic_kd.alignment.segmentation import (
    AlignUtterance,
    Segmentation,
    align_all,
    write_segmentations,
)
from acoustic_kd.alignment.senones import SenoneInventory, read_inventory
from acoustic_kd.alignment.viterbi import Transcripts
from acoustic_kd.corpora.utterances import SPLITS, Exclusion, Utterance
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.experiment.aligning_models import AligningModels, check_same_features, find_models
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.flat_start import align_from_flat_start
from acoustic_kd.experiment.kaldi_targets import run_pdf_align, takes_pdfs
from acoustic_kd.experiment.models import CPU, AcousticScorer
from acoustic_kd.experiment.normalised import with_frames
from acoustic_kd.experiment.outputs import (
    LEXICON,
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
    scorer = AcousticScorer.read(models.models, models.frames, use_bfloat16(bfloat16, CPU))
    inventory = read_inventory(models.inventory)
    for directory, model in zip(models.models, scorer.models, strict=True):
        if model.description.get("inventory") != inventory.classes.inventory:
            raise UserError(
                f"{directory}: was trained on other senones than {models.inventory} has now; run "
                "that experiment to its end, or give another 'align.model'"
            )
    return dnn_aligner(scorer, inventory, lexicon)


def dnn_aligner(
    scorer: AcousticScorer, inventory: SenoneInventory, lexicon: Lexicon
) -> AlignUtterance[Segmentation]:
    """Aligns utterances, given as normalised frames [T, D], with trained models.

    The best path maximises the HMM's likelihood: scaled likelihoods (posterior over prior) times
    the probabilities of staying in a state or leaving it, both with weight 1.
    """
    if foreign := [phone for phone in lexicon.phones() if phone not in inventory.index]:
        raise UserError(
            f"lexicon: phone '{foreign[0]}' is not among the {len(inventory.phones)} phones of "
            "the models that align (align.model); use the lexicon that they were trained with"
        )
    transcripts = Transcripts(lexicon, inventory, scorer.durations)

    def align(utterance: Utterance, words: list[str], features: np.ndarray) -> Segmentation:
        transcripts.check(words, len(features))
        loglikes = log_likelihoods(scorer.posteriors(features), scorer.log_prior)
        return inventory.segmentation(utterance.id, transcripts.path(words, loglikes))

    return align
