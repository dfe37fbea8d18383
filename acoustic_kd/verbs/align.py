"""The align stage: every transcribed utterance into the HMM states of its phones.

With the model inside pocketsphinx's wheel, with models that an earlier experiment trained, or from
a flat start; or it takes alignments of Kaldi's.
"""

from collections.abc import Callable, Iterator

import torch

from acoustic_kd.alignment.dnn import DnnAligner
from acoustic_kd.alignment.pocketsphinx import SAMPLE_RATE, PocketsphinxAligner
from acoustic_kd.alignment.segmentation import AlignmentFailure, Segmentation, write_segmentations
from acoustic_kd.alignment.senones import read_inventory
from acoustic_kd.corpora.utterances import SPLITS, Exclusion, Utterance, read_manifest
from acoustic_kd.experiment.aligning_models import AligningModels, check_same_features, find_models
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.flat_start import NO_TRANSCRIPT, start_flat
from acoustic_kd.experiment.kaldi_targets import run_pdf_align, takes_pdfs
from acoustic_kd.experiment.outputs import (
    LEXICON,
    check_kept,
    normalised,
    read_statistics,
    report_exclusions,
)
from acoustic_kd.experiment.words import spoken_words
from acoustic_kd.features.audio import AudioError, read_audio
from acoustic_kd.features.frames import FrameSequence as Frames
from acoustic_kd.features.frames import read_index
from acoustic_kd.language.lexicon import Lexicon, read_lexicon
from acoustic_kd.settings import ModelConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import map_ordered, map_stream
from acoustic_kd.training.model import load_model, use_bfloat16

Result = tuple[str, Segmentation | str]  # utterance; how it is segmented, or why it is not


def run(experiment: Experiment) -> None:
    """Segment every utterance into the HMM states of its phones."""
    if takes_pdfs(experiment.config):
        return run_pdf_align(experiment)
    corpus, out = experiment.path("corpus"), experiment.path("align")
    splits = {split: read_manifest(corpus / f"{split}.jsonl") for split in SPLITS}
    lexicon = read_lexicon(corpus / LEXICON).restricted_to(set(spoken_words(splits)))
    methods = {"pocketsphinx": _with_pocketsphinx, "dnn": _with_dnn, "flat": start_flat}
    align = methods[experiment.config.align.method](experiment, lexicon)
    excluded: list[Exclusion] = []
    for split, utterances in splits.items():
        results = list(align(split, utterances))
        aligned = [found for _, found in results if isinstance(found, Segmentation)]
        failed = [Exclusion(name, split, why) for name, why in results if isinstance(why, str)]
        excluded += failed
        check_kept(out, split, len(aligned), excluded, experiment.config.align.max_failed)
        write_segmentations(out / f"{split}.jsonl", aligned)
    report_exclusions(out, excluded)


Align = Callable[[str, list[Utterance]], Iterator[Result]]  # of a split and its utterances


def _words(utterance: Utterance) -> list[str]:
    if utterance.text is None:
        raise AlignmentFailure(NO_TRANSCRIPT)
    return utterance.text.split()


# --- pocketsphinx -------------------------------------------------------------------------------

_pocketsphinx: PocketsphinxAligner


def _start_pocketsphinx(lexicon: Lexicon) -> None:
    global _pocketsphinx
    _pocketsphinx = PocketsphinxAligner(lexicon)


def _align_audio(item: tuple[Utterance, int]) -> Result:
    """The segmentation of one utterance over its number of frames, or why there is none."""
    utterance, frames = item
    try:
        words, waveform = _words(utterance), read_audio(utterance, SAMPLE_RATE)
        found = _pocketsphinx.align(utterance.id, words, waveform)
        return utterance.id, found.resized_to(frames)
    except (AudioError, AlignmentFailure) as error:
        return utterance.id, str(error)


def _with_pocketsphinx(experiment: Experiment, lexicon: Lexicon) -> Align:
    PocketsphinxAligner(lexicon)  # a foreign phone is one error here, not one a process

    def align(split: str, utterances: list[Utterance]) -> Iterator[Result]:
        lengths = read_index(experiment.path("features") / split).lengths
        items = [(u, lengths[u.id]) for u in utterances if u.id in lengths]
        title = f"align {split}"
        return map_ordered(_align_audio, items, title, 0, _start_pocketsphinx, (lexicon,))

    return align


# --- trained models -----------------------------------------------------------------------------

_dnn: DnnAligner


def load_aligner(found: AligningModels, lexicon: Lexicon, bfloat16: bool | None) -> DnnAligner:
    """The aligner that some trained models make.

    Args:
        bfloat16: as `train.bfloat16`.

    Raises:
        UserError: a file is missing or damaged, the models are of other senones than lie there, or
            the lexicon has a phone that they do not know.
    """
    loaded = [load_model(directory) for directory in found.models]
    inventory = read_inventory(found.inventory)
    log_prior, durations = read_statistics(found.frames)
    for directory, (_, description) in zip(found.models, loaded, strict=True):
        here = description.get("inventory"), description["classes"]
        if here != (inventory.classes.inventory, len(log_prior)):
            raise UserError(
                f"{directory}: was trained on other senones than {found.inventory} has now; run "
                "that experiment to its end, or give another 'align.model'"
            )
    models, config = [model for model, _ in loaded], ModelConfig(**loaded[0][1]["model"])
    low = use_bfloat16(bfloat16, torch.device("cpu"))
    return DnnAligner(models, config, inventory, log_prior, durations, lexicon, low)


def _start_dnn(found: AligningModels, lexicon: Lexicon, bfloat16: bool | None) -> None:
    global _dnn
    _dnn = load_aligner(found, lexicon, bfloat16)


def _align_frames(item: tuple[Utterance, Frames]) -> Result:
    """The segmentation of one utterance, or why there is none."""
    utterance, frames = item
    try:
        return utterance.id, _dnn.align(utterance.id, _words(utterance), frames.features)
    except AlignmentFailure as error:
        return utterance.id, str(error)


def _with_dnn(experiment: Experiment, lexicon: Lexicon) -> Align:
    found = find_models(experiment.config.align.model or "")
    check_same_features(found, experiment.config)
    arguments = found, lexicon, experiment.config.train.bfloat16
    load_aligner(*arguments)  # what is wrong is one error here, not one a process
    print(f"  with {found.name}")

    def align(split: str, utterances: list[Utterance]) -> Iterator[Result]:
        known = {utterance.id: utterance for utterance in utterances}
        # A copy at another vocal tract length is not among them: its original's alignment is its.
        items = ((known[u.id], u) for u in normalised(experiment, split) if u.id in known)
        title, total = f"align {split}", len(utterances)
        return map_stream(_align_frames, items, title, total, 0, _start_dnn, arguments)

    return align
