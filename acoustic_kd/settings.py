"""Every setting of a recipe: its type, default and range, and how settings are read from YAML.

An unknown key is an error that suggests the nearest known key. A value of the wrong type or out of
range is an error that names the setting. So a typing error never trains the wrong model.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from acoustic_kd.system.errors import UserError

MEANS = ("arithmetic", "geometric")  # of the members' predictions
ENCODINGS = ("top-k", "top-p", "sampled", "dense")  # of soft targets
UNKNOWN_WORDS = ("g2p", "exclude")  # words of transcripts that the lexicon lacks
ALIGNERS = ("pocketsphinx", "dnn", "flat", "kaldi")
TRACKERS = ("tensorboard",)  # of Accelerate's
DEMO_LANGUAGES = ("en", "es", "el")  # in which the demo is spoken: English, Spanish, Greek
UNITS = ("phones", "graphemes", "pieces")  # that words are made of
CASES = ("upper", "turkic")  # of words that are spelled
PIECE_MODELS = ("unigram", "bpe")
TRANSFER_SETS = ("all", "transcribed", "untranscribed")
# Settings that are paths; or, of two, the name of one of LibriSpeech's own files.
PATHS = (
    *("align.lexicon", "align.model", "align.pdf_ali", "align.pdf_post"),
    *("corpus.data_dir", "corpus.untranscribed"),
    *("lm.arpa", "lm.text"),
)
LIBRISPEECH_PARTS = (
    *("train-clean-5", "dev-clean-2"),  # Mini LibriSpeech
    *("train-clean-100", "train-clean-360", "train-other-500"),
    *("dev-clean", "dev-other", "test-clean", "test-other"),
)


@dataclass(frozen=True)
class CorpusConfig:
    """Which speech: see `acoustic_kd.corpora`."""

    name: str = "demo"  # demo, an4, librispeech, kaldi_dir, kaldi_feats, lhotse
    data_dir: str | None = None
    # Where the corpus has no test part, whole speakers of train are, and then likewise for dev:
    # about that share of the utterances, or that number of speakers.
    test_share: float = 0.1
    test_speakers: int | None = None
    dev_share: float = 0.1
    dev_speakers: int | None = None
    # Or fold number `fold` (0 is the first) of `folds` that share the speakers out is the test:
    # as many experiments test on every speaker, each on those that it has not learnt from.
    folds: int | None = None
    fold: int = 0
    # LibriSpeech's parts by name; where it has no test or dev part, speakers of train are.
    train_parts: tuple[str, ...] = ("train-clean-5",)
    dev_parts: tuple[str, ...] = ()
    test_parts: tuple[str, ...] = ()
    untranscribed_parts: tuple[str, ...] = ()  # likewise `untranscribed`, below
    # Speech without transcripts, which only the distilled model hears (docs/transfer-set.md): a
    # Kaldi data directory, beside whichever corpus; its `text` is not read.
    untranscribed: str | None = None
    untranscribed_share: float = 0.0  # of train, by speaker, whose transcripts are taken away
    seed: int = 1
    demo_language: str = "en"  # of DEMO_LANGUAGES; docs/units.md
    demo_train_voices: int = 14
    demo_dev_voices: int = 3
    demo_test_voices: int = 4
    demo_train_sentences: int = 38  # by each voice
    demo_eval_sentences: int = 24


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel filterbanks (paper section 4: 40 of them, every 10 ms)."""

    sample_rate: int = 16000
    mel_bins: int = 40
    low_hz: float = 20.0
    high_hz: float = -200.0  # zero or less: counted down from the Nyquist frequency
    vtlp_warps: tuple[float, ...] = (1.0,)  # a copy of train for each vocal tract length
    # Further copies, from which only the distilled models and their control learn: each epoch draws
    # one copy of each utterance at random, of these and of `vtlp_warps`. The ensemble predicts
    # copies that its members have not learnt from; that says more than the labels.
    transfer_vtlp_warps: tuple[float, ...] = ()
    normalise: str = "speaker"  # mean and variance over each: speaker, utterance, global


@dataclass(frozen=True)
class AlignConfig:
    """Forced alignment to HMM states."""

    # Of ALIGNERS; dnn: with trained models; flat: with nothing trained before (docs/alignment.md);
    # kaldi: alignments of Kaldi's are taken, and its pdf-ids are the classes (docs/kaldi.md).
    method: str = "pocketsphinx"
    # For dnn: an earlier experiment, whose ensemble then aligns, or one model of it, as
    # EXP_DIR/distilled/01 or EXP_DIR/members/01.
    model: str | None = None
    # For kaldi: pdf-ids a frame, as ali-to-pdf writes them: an archive, its scp, or a pattern of
    # several, as 'exp/tri3b_ali/pdf.*.gz'; or posteriors of pdf-ids, whose best are taken; how many
    # pdf-ids there are, null: the largest and one; whether features there were made with
    # --snip-edges=true, Kaldi's default.
    pdf_ali: str | None = None
    pdf_post: str | None = None
    pdfs: int | None = None
    snip_edges: bool = True
    lexicon: str | None = None  # path; null: the corpus's own, else pocketsphinx's English one
    unknown_words: str = "g2p"  # of UNKNOWN_WORDS: said as spelled; exclude: not aligned
    max_failed: float = 0.05  # more than this share of a split unaligned is an error
    # For flat: rounds of training at most, fewer where the gain stops; Gaussians a state at the
    # end; hours of train to learn from at most.
    iterations: int = 30
    gaussians: int = 8
    flat_start_hours: float = 4.0
    # For flat: utterances of train that fit their transcripts worse than most, by so many robust
    # standard deviations, are left out; null: none.
    outlier_threshold: float | None = 6.0


@dataclass(frozen=True)
class LangConfig:
    """What words are made of: docs/units.md."""

    units: str = "phones"  # of UNITS: of a lexicon; or what words are spelled in; or pieces of them
    case: str = "upper"  # of CASES; turkic: i is the small letter of İ, ı that of I
    positions: bool = True  # letters that begin a word, end it or are one are units of their own
    # For pieces: how many sentencepiece finds in the train transcripts, and how.
    pieces: int = 500
    piece_model: str = "unigram"  # of PIECE_MODELS


@dataclass(frozen=True)
class SenoneConfig:
    """The phonetic decision tree."""

    leaves: int = 700
    min_frames: int = 60  # in each leaf


@dataclass(frozen=True)
class FrameConfig:
    """Frame shards."""

    shard_frames: int = 1_000_000


@dataclass(frozen=True)
class ModelConfig:
    """The acoustic model (paper: 8 hidden layers of 2560 ReLU units, 26 frames in)."""

    layers: int = 4
    width: int = 512
    dropout: float = 0.2  # of hidden units
    input_dropout: float = 0.0
    left_frames: int = 20
    right_frames: int = 5


@dataclass(frozen=True)
class TrainConfig:
    """The training loop, for members and distilled models alike."""

    members: int = 5
    seed: int = 0
    epochs: int = 30  # with schedule dev at most: training ends when the rate has fallen
    batch_frames: int = 512  # over all processes together
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_norm: float | None = None  # of the weights into a hidden unit; longer ones are shortened
    # cosine: the rate falls to zero over `epochs`, and the last weights are kept. dev: the best
    # epoch's are kept, and the rate stays until an epoch gains less than `decay_below` points of
    # dev frame accuracy; from then on every epoch multiplies it by `decay`, until less than the
    # share `stop_rate` is left.
    schedule: str = "dev"
    decay_below: float = 0.5
    decay: float = 0.7
    stop_rate: float = 0.02
    # null: as the environment variable ACOUSTIC_KD_BFLOAT16 says, 0 or 1; where it is not set,
    # true if the device has instructions for bfloat16.
    bfloat16: bool | None = None
    # A batch whose logits and their gradient need more memory goes through the model in parts.
    max_logits_mb: float = 1000.0  # 10^6 bytes, a process
    # For frames and soft targets, a process; what does not fit is read chunk by chunk, epoch for
    # epoch (docs/scale.md).
    memory_gb: float | None = None  # 10^9 bytes; null: what is free
    # A batch takes an equal share of each stream, and of several processes each reads its streams
    # alone (docs/scale.md). Of streams and processes one must be a multiple of the other.
    streams: int = 1
    checkpoint_steps: int = 1000
    tracker: str | None = None  # of TRACKERS: every epoch's metrics go there, too


@dataclass(frozen=True)
class SoftTargetConfig:
    """The ensemble's tempered predictions, stored for the transfer set."""

    # Archives of posteriors of models outside, Kaldi's, one a model, that take the members' place:
    # docs/kaldi.md.
    external_posteriors: tuple[str, ...] = ()
    temperature: float = 2.0
    mean: str = "arithmetic"  # of MEANS: of the members' predictions; geometric: of their logits
    weights: tuple[float, ...] | None = None  # of the members in the mean; null: equal
    encoding: str = "top-k"  # top-k, top-p, sampled, dense: see `acoustic_kd.soft_targets.encoding`
    kept_classes: int = 20  # of top-k; the most for top-p; the number of draws for sampled
    kept_mass: float = 0.98  # that top-p asks for
    bits: int = 8  # of a stored probability: 8 or 16 (docs/soft-targets.md says what it costs)
    seed: int = 0  # of the draws
    memory_gb: float | None = None  # for the members and their predictions; null: what is free


@dataclass(frozen=True)
class DistillConfig:
    """The distilled model; settings that are null are those of `model` and `train`."""

    models: int = 2
    # transcribed: train; untranscribed: speech without transcripts; all: both, if there are both
    transfer_set: str = "all"
    hard_weight: float = 0.5  # for what is transcribed
    layers: int | None = None
    width: int | None = None
    dropout: float = 0.1  # soft targets regularise: less is needed than for members
    epochs: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    decay_below: float | None = 0.0  # it gains slowly for longer before it is time to cool
    decay: float | None = None
    # The control: one model of the distilled model's shape, trained on hard targets alone with the
    # distilled model's schedule and at least as many frames. Without it a longer training cannot
    # be told from distillation.
    hard_baseline: bool = True
    hard_baseline_dropout: float | None = None  # null: the members', which is chosen for hard ones


@dataclass(frozen=True)
class LanguageModelConfig:
    """The language model: docs/language-model.md."""

    # A ready one: the path of an ARPA file, or one of LibriSpeech's by name, such as
    # 3-gram.pruned.1e-7; null: an n-gram is trained.
    arpa: str | None = None
    text: str | None = None  # path: trained on this text; null: on the train transcripts
    order: int = 3  # of the n-gram
    vocabulary: int | None = None  # so many of the most frequent words; null: all
    min_counts: tuple[int, ...] | None = None  # an order: rarer n-grams are left out; null: none
    prune: float | None = None  # n-grams that the perplexity grows less by; null: none


@dataclass(frozen=True)
class DecodeConfig:
    """Search, and the grid that is tuned on dev."""

    beam: float = 14.0
    lattice_beam: float = 8.0
    max_active: int = 7000
    acoustic_scale: float = 0.1
    # fmt: off
    lm_weights: tuple[float, ...] = (
        4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0,
    )
    # fmt: on
    insertion_penalties: tuple[float, ...] = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)
    jobs: int = 0  # processes; 0: one a core


@dataclass(frozen=True)
class Config:
    """All settings of an experiment."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    lang: LangConfig = field(default_factory=LangConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    senones: SenoneConfig = field(default_factory=SenoneConfig)
    frames: FrameConfig = field(default_factory=FrameConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    soft_targets: SoftTargetConfig = field(default_factory=SoftTargetConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)


def all_settings(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting as `group.key` → value."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            flat.update(all_settings(value, f"{prefix}{item.name}."))
        else:
            flat[f"{prefix}{item.name}"] = value
    return flat


Range = tuple[Callable[[Any], bool], str]  # what holds of a permitted value, and how to say it


def _at_least(low: float, high: float = math.inf) -> Range:
    text = f"{low} or more" if high == math.inf else f"{low} to {high}"
    return (lambda value: low <= value <= high and math.isfinite(value)), text


_POSITIVE: Range = (lambda value: 0 < value < math.inf), "greater than 0"
_FINITE: Range = math.isfinite, "a finite number"
_DECAY: Range = (lambda factor: 0 < factor <= 1), "greater than 0, at most 1"
_RATE: Range = (lambda value: 0 <= value < 1), "at least 0 and less than 1"
_SHARE: Range = (lambda share: 0 < share < 1), "between 0 and 1, both excluded"
_PARTS: Range = (
    (lambda names: set(names) <= set(LIBRISPEECH_PARTS)),
    f"names of parts: {', '.join(LIBRISPEECH_PARTS)}",
)


def _all(check: Range) -> Range:
    fits, text = check
    return (lambda values: bool(values) and all(map(fits, values))), f"one or more numbers, {text}"


def _one_of(*values: str | int) -> Range:
    *some, last = map(str, values)
    return (lambda value: value in values), " or ".join([", ".join(some), last] if some else [last])


# Settings whose type permits more than makes sense. Every comparison is written so that it does not
# hold of NaN.
RANGES: dict[str, Range] = {
    "corpus.test_share": _SHARE,
    "corpus.test_speakers": _at_least(1),
    "corpus.dev_share": _SHARE,
    "corpus.dev_speakers": _at_least(1),
    "corpus.folds": _at_least(2),
    "corpus.fold": _at_least(0),
    "corpus.train_parts": ((lambda names: bool(names) and _PARTS[0](names)), _PARTS[1]),
    "corpus.dev_parts": _PARTS,
    "corpus.test_parts": _PARTS,
    "corpus.untranscribed_parts": _PARTS,
    "corpus.untranscribed_share": _RATE,
    "corpus.seed": _at_least(0),
    "corpus.demo_language": _one_of(*DEMO_LANGUAGES),
    "corpus.demo_train_voices": _at_least(1, 16),  # as many as `corpora.demo` has
    "corpus.demo_dev_voices": _at_least(1, 4),
    "corpus.demo_test_voices": _at_least(1, 6),
    "corpus.demo_train_sentences": _at_least(1, 500),
    "corpus.demo_eval_sentences": _at_least(1, 500),
    "features.sample_rate": _at_least(1000),
    "features.mel_bins": _at_least(13),  # as many as the cepstra that the tree is grown on
    "features.low_hz": _at_least(0),
    "features.high_hz": _FINITE,
    "features.vtlp_warps": (
        lambda w: 1 in w and len(set(w)) == len(w) and all(0.5 <= x <= 2 for x in w),
        "different numbers from 0.5 to 2, with 1 (the speech itself) among them",
    ),
    "features.transfer_vtlp_warps": (
        lambda w: 1 not in w and len(set(w)) == len(w) and all(0.5 <= x <= 2 for x in w),
        "different numbers from 0.5 to 2, without 1 (the speech itself)",
    ),
    "features.normalise": _one_of("speaker", "utterance", "global"),
    "lang.units": _one_of(*UNITS),
    "lang.case": _one_of(*CASES),
    "lang.pieces": _at_least(2),
    "lang.piece_model": _one_of(*PIECE_MODELS),
    "align.method": _one_of(*ALIGNERS),
    "align.pdfs": _at_least(1),
    "align.unknown_words": _one_of(*UNKNOWN_WORDS),
    "align.max_failed": _RATE,
    "align.iterations": _at_least(1, 1000),
    "align.gaussians": _one_of(1, 2, 4, 8, 16, 32, 64),
    "align.flat_start_hours": _POSITIVE,
    "align.outlier_threshold": _POSITIVE,
    "senones.leaves": _at_least(1),
    "senones.min_frames": _at_least(1),
    "frames.shard_frames": _at_least(1),
    "model.layers": _at_least(1),
    "model.width": _at_least(1),
    "model.dropout": _RATE,
    "model.input_dropout": _RATE,
    "model.left_frames": _at_least(0),
    "model.right_frames": _at_least(0),
    "train.members": _at_least(1, 1000),  # seeds from the thousandth on are the distilled models'
    "train.epochs": _at_least(1),
    "train.batch_frames": _at_least(1),
    "train.learning_rate": _POSITIVE,
    "train.weight_decay": _at_least(0),
    "train.max_norm": _POSITIVE,
    "train.schedule": _one_of("dev", "cosine"),
    "train.tracker": _one_of(*TRACKERS),
    "train.decay_below": _FINITE,
    "train.decay": _DECAY,
    "train.stop_rate": _at_least(0, 1),
    "train.max_logits_mb": _POSITIVE,
    "train.memory_gb": _POSITIVE,
    "train.streams": _at_least(1),
    "train.checkpoint_steps": _at_least(1),
    "soft_targets.external_posteriors": ((lambda names: all(names)), "paths of archives"),
    "soft_targets.temperature": _POSITIVE,
    "soft_targets.mean": _one_of(*MEANS),
    "soft_targets.weights": (
        lambda weights: all(0 <= w < math.inf for w in weights) and sum(weights) > 0,
        "numbers of 0 or more, one a member and not all 0",
    ),
    "soft_targets.encoding": _one_of(*ENCODINGS),
    "soft_targets.kept_classes": _at_least(1, 65535),
    "soft_targets.kept_mass": ((lambda mass: 0 < mass <= 1), "greater than 0, at most 1"),
    "soft_targets.bits": _one_of(8, 16),
    "soft_targets.seed": _at_least(0),
    "soft_targets.memory_gb": _POSITIVE,
    "distill.models": _at_least(1),
    "distill.transfer_set": _one_of(*TRANSFER_SETS),
    "distill.hard_weight": _at_least(0),
    "distill.layers": _at_least(1),
    "distill.width": _at_least(1),
    "distill.epochs": _at_least(1),
    "distill.dropout": _RATE,
    "distill.hard_baseline_dropout": _RATE,
    "distill.learning_rate": _POSITIVE,
    "distill.schedule": _one_of("dev", "cosine"),
    "distill.decay_below": _FINITE,
    "distill.decay": _DECAY,
    "lm.order": _at_least(1),
    "lm.vocabulary": _at_least(1),
    "lm.min_counts": (
        lambda counts: counts[:1] == (1,) and list(counts) == sorted(counts),
        "one number an order, the first 1 (words are kept), never falling",
    ),
    "lm.prune": _SHARE,
    "decode.beam": _POSITIVE,
    "decode.lattice_beam": _POSITIVE,
    "decode.max_active": _at_least(1),
    "decode.acoustic_scale": _POSITIVE,
    "decode.lm_weights": _all(_POSITIVE),
    "decode.insertion_penalties": _all(_FINITE),
    "decode.jobs": _at_least(0),
}


def check_ranges(config: Config) -> None:
    """Raise a UserError for the first setting outside its range, naming both."""
    check_values(all_settings(config))
    _check_corpus(config.corpus)
    _check_language_model(config.lm)
    _check_units(config)
    features = config.features
    nyquist = features.sample_rate / 2
    high = features.high_hz if features.high_hz > 0 else nyquist + features.high_hz
    if not features.low_hz < high <= nyquist:
        raise UserError(
            f"setting 'features.high_hz' is {features.high_hz:g}; it must lie above features.low_hz"
            f" ({features.low_hz:g}) and at or below half the sample rate ({nyquist:g})"
        )
    if both := set(features.vtlp_warps) & set(features.transfer_vtlp_warps):
        raise UserError(
            f"setting 'features.transfer_vtlp_warps' has {min(both):g}, and so has "
            "features.vtlp_warps; give each copy once: the transfer set has both"
        )
    if (config.align.method == "dnn") != (config.align.model is not None):
        raise UserError(
            f"setting 'align.model' is {config.align.model or 'null'} and 'align.method' is "
            f"{config.align.method}; a model is given where the method is dnn, and only there"
        )
    _check_kaldi(config)
    soft = config.soft_targets
    averaged, those = config.train.members, "members (train.members)"
    if soft.external_posteriors:
        averaged, those = (
            len(soft.external_posteriors),
            "models of soft_targets.external_posteriors",
        )
    if soft.weights is not None and len(soft.weights) != averaged:
        raise UserError(
            f"setting 'soft_targets.weights' has {len(soft.weights)} numbers; it must have one for "
            f"each of the {averaged} {those}"
        )
    if soft.encoding == "sampled" and soft.bits == 8 and soft.kept_classes > 255:
        raise UserError(
            f"setting 'soft_targets.kept_classes' is {soft.kept_classes}; it must be 255 or less "
            "where that many draws are stored in 8 bits"
        )


def _check_kaldi(config: Config) -> None:
    """Likewise, for those that take alignments and features of Kaldi's."""
    align, corpus = config.align, config.corpus
    if (align.method == "kaldi") != (align.pdf_ali is not None or align.pdf_post is not None):
        name = "pdf_ali" if align.pdf_post is None else "pdf_post"
        raise UserError(
            f"setting 'align.{name}' is {getattr(align, name) or 'null'} and 'align.method' is "
            f"{align.method}; alignments are given where the method is kaldi, and only there"
        )
    if align.pdf_ali is not None and align.pdf_post is not None:
        raise UserError(
            f"setting 'align.pdf_post' is {align.pdf_post}; it must be null where align.pdf_ali "
            "gives the targets"
        )
    if corpus.name != "kaldi_feats":
        return
    wrong = ""
    if align.method != "kaldi":
        wrong = f"'align.method' is {align.method}; it must be kaldi"
    elif config.features.vtlp_warps != (1.0,):
        wrong = f"'features.vtlp_warps' is {list(config.features.vtlp_warps)}; it must be [1.0]"
    elif config.features.transfer_vtlp_warps:
        warps = list(config.features.transfer_vtlp_warps)
        wrong = f"'features.transfer_vtlp_warps' is {warps}; it must be []"
    elif not align.snip_edges:
        wrong = "'align.snip_edges' is False; it must be true"
    if wrong:
        raise UserError(
            f"setting {wrong} where corpus.name is kaldi_feats: there are frames and no sound"
        )


def _check_language_model(lm: LanguageModelConfig) -> None:
    """Likewise, for those that choose the language model."""
    if lm.arpa is not None:
        for name in ("text", "vocabulary", "min_counts", "prune"):
            value = getattr(lm, name)
            if value is not None:
                raise UserError(
                    f"setting 'lm.{name}' is {value}; it must be null where lm.arpa gives "
                    "a language model, which is not trained"
                )
    if lm.min_counts is not None and len(lm.min_counts) != lm.order:
        raise UserError(
            f"setting 'lm.min_counts' has {len(lm.min_counts)} numbers; it must have one "
            f"for each of the {lm.order} orders (lm.order)"
        )


def _check_units(config: Config) -> None:
    """Likewise, for those that say what words are made of."""
    units, wrong = config.lang.units, ""
    language = config.corpus.demo_language if config.corpus.name == "demo" else "en"
    if units == "phones":
        if config.lang.case != "upper":
            wrong = f"'lang.case' is {config.lang.case}; it must be upper"
        elif not config.lang.positions:
            wrong = "'lang.positions' is false; it must be true"
        elif language != "en" and config.align.lexicon is None:
            wrong = (
                f"'corpus.demo_language' is {language}, of which there is no lexicon; give "
                "lang.units=graphemes align.method=flat, or en"
            )
    elif config.align.method == "pocketsphinx":
        wrong = (
            "'align.method' is pocketsphinx, which knows English phones alone; give "
            "align.method=flat"
        )
    elif config.align.lexicon is not None:
        wrong = (
            f"'align.lexicon' is {config.align.lexicon}; it must be null, for words are spelled,"
        )
    elif units == "pieces" and config.lm.arpa is not None:
        wrong = f"'lm.arpa' is {config.lm.arpa}, a model of words; give text, lm.text,"
    elif units == "pieces" and config.lm.vocabulary is not None:
        wrong = f"'lm.vocabulary' is {config.lm.vocabulary}; it must be null"
    if wrong:
        raise UserError(f"setting {wrong} where lang.units is {units}")


def _check_corpus(corpus: CorpusConfig) -> None:
    """Likewise, for those that choose the speech."""
    if corpus.fold >= (corpus.folds or 1):
        raise UserError(
            f"setting 'corpus.fold' is {corpus.fold}; it must be less than corpus.folds "
            f"({'null' if corpus.folds is None else corpus.folds}): the first is 0"
        )
    if corpus.folds and corpus.test_speakers:
        raise UserError(
            f"setting 'corpus.test_speakers' is {corpus.test_speakers}; it must be null where "
            "corpus.folds says which speakers are the test"
        )
    parts = [
        (part, f"corpus.{name}_parts")
        for name in ("train", "dev", "test", "untranscribed")
        for part in getattr(corpus, f"{name}_parts")
    ]
    seen: dict[str, str] = {}
    for part, name in parts:
        if part in seen:
            raise UserError(
                f"setting '{name}' names {part}, and so does {seen[part]}; it must be named once"
            )
        seen[part] = name


def check_values(values: dict[str, Any]) -> None:
    """Likewise, for some settings by name."""
    for name, value in values.items():
        fits, text = RANGES.get(name, (None, ""))
        if fits is not None and value is not None and not fits(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise UserError(f"setting '{name}' is {shown}; it must be {text}")


PACKAGED = Path(__file__).with_name("conf")  # settings that come with the package


def load_config(path: Path | None, overrides: list[str]) -> Config:
    """Read `path` (YAML; null for defaults) and apply overrides such as `model.width=2560`.

    Raises:
        UserError: the file is missing or malformed, a key is unknown (the nearest is suggested),
            or a value has the wrong type or is out of range.
    """
    source = "command line" if path is None else str(path)
    values = {} if path is None else read_yaml(Path(path))
    config: Config = fill(Config, values, source, "")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"setting '{override}': expected KEY.SUBKEY=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"setting '{override}': the value is not valid YAML") from None
        config = _override(config, key.split("."), value, key)
    check_ranges(config)
    return config


def settings_file(given: Path) -> Path:
    """The settings file that `--config` names: a file, or else settings of the package by name.

    Raises:
        UserError: there is neither.
    """
    if given.exists() and not given.is_dir():
        return given
    packaged = {path.stem: path for path in PACKAGED.glob("*.yaml")}
    if str(given) not in packaged:
        names = ", ".join(sorted(packaged))
        raise UserError(f"{given}: there is no such file; the package has settings for {names}")
    return packaged[str(given)]


def shown(given: Path) -> str:
    """What `--config` names, as a printed command has it: a path below this folder from here on."""
    here = given.absolute()
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else given)


def from_flat(values: dict[str, Any]) -> Config:
    """Settings from `group.key` → value, as records of finished work hold them.

    Paths are not recorded, so whether other settings fit to them is not asked again.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    config = Config()
    for key, value in values.items():
        config = _override(config, key.split("."), value, key)
    check_values(all_settings(config))
    return config


def read_yaml(path: Path) -> Any:
    """The values of a YAML file, an empty mapping where it is empty.

    Raises:
        UserError: it cannot be read, or is not YAML.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not valid YAML ({reason})") from None
    return {} if values is None else values


def fill(cls: type, values: Any, source: str, prefix: str) -> Any:
    """A settings dataclass from the values of a YAML file.

    Args:
        source: the file, for messages.
        prefix: what the names of its settings begin with, such as `model.`.

    Raises:
        UserError: a key is unknown, or a value has the wrong type.
    """
    if not isinstance(values, dict):
        where = prefix.rstrip(".") or "the file"
        raise UserError(f"{source}: {where} must be a mapping of settings")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    kwargs = {}
    for key, value in values.items():
        if key not in known:
            leaves = [name for name in known if not dataclasses.is_dataclass(hints[name])]
            unknown = f"{prefix}{key}"
            # A group is found by what stands in it, too.
            like = f"{unknown}.{next(iter(value))}" if isinstance(value, dict) and value else ""
            unknown = unknown_setting(unknown, [f"{prefix}{name}" for name in leaves], like)
            raise UserError(f"{source}: {unknown}")
        name = f"{prefix}{key}"
        if dataclasses.is_dataclass(hints[key]):
            kwargs[key] = fill(hints[key], {} if value is None else value, source, f"{name}.")
        else:
            kwargs[key] = _convert(value, hints[key], f"{source}: setting '{name}'")
    return cls(**kwargs)


def _override(node: Any, path: list[str], value: Any, name: str) -> Any:
    key, known = path[0], dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
    if key not in {field.name for field in known}:
        raise UserError(unknown_setting(name))
    if len(path) > 1:
        new = _override(getattr(node, key), path[1:], value, name)
    elif dataclasses.is_dataclass(getattr(node, key)):
        raise UserError(f"setting '{name}' is a group; set one of its keys, as in {name}.KEY=VALUE")
    else:
        new = _convert(value, typing.get_type_hints(type(node))[key], f"setting '{name}'")
    return dataclasses.replace(node, **{key: new})


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` asks for; int widens to float, a number to a one-element tuple."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if typing.get_origin(option) is tuple:
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(_convert(item, typing.get_args(option)[0], where) for item in items)
        elif option is float:
            number = _number(value)
            if number is not None:
                return number
        elif type(value) is option:
            return value
    names = " or ".join(
        "null" if o is type(None) else getattr(o, "__name__", "list") for o in options
    )
    raise UserError(f"{where}: expected {names}, got {value!r}")


def _number(value: Any) -> float | None:
    """A float from a number, or from text such as `1e-3`, which YAML reads as a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def unknown_setting(name: str, siblings: Sequence[str] = (), like: str = "") -> str:
    """The error text for an unknown setting, with the nearest known one.

    Args:
        siblings: settings beside it that `Config` does not have.
        like: what the nearest must be near to, if not the name.
    """
    known = [*siblings, *all_settings(Config())]
    near = difflib.get_close_matches(like or name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown setting '{name}'{hint}"
