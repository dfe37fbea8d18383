"""Every setting of a recipe: its type, default, range, meaning, and the stages that it shapes.

A new setting is one field below. All else reads the fields: the loader, the checks, the stages'
records of what shaped them (`stage_settings`), and the list of settings (`acoustic-kd settings`).
"""

import dataclasses
import keyword
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from acoustic_kd.system import yaml_dataclasses
from acoustic_kd.system.errors import UserError, printable
from acoustic_kd.system.paths import problem_of

PACKAGED = Path(__file__).with_name("conf")  # settings files that come with the package

POCKETSPHINX_HZ = 16000  # the sample rate of its English model
WARP_MARGINS_HZ = (80.0, 300.0)  # a warp leaves the band alone this near to its ends
WINDOW_SECONDS = 0.025  # of a frame
MP3_KBITS = {  # sample rate → the lowest and the highest bit rate that MP3 has at it
    **dict.fromkeys((8000, 11025, 12000), (8, 64)),
    **dict.fromkeys((16000, 22050, 24000), (8, 160)),
    **dict.fromkeys((32000, 44100, 48000), (32, 320)),
}

CORPORA = ("demo", "an4", "librispeech", "kaldi_dir", "kaldi_feats", "lhotse", "manifest")
READERS = "acoustic_kd.corpora"  # the group of entry points that read other corpora


# --- ranges -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """Which values of a setting are allowed. Every comparison is false for NaN."""

    allows: Callable[[Any], bool]
    text: str  # completes "it must be …"


def at_least(low: float, high: float = math.inf) -> Range:
    """Numbers from `low` to `high`, both included."""
    text = f"{low} or more" if high == math.inf else f"{low} to {high}"
    return Range(lambda value: low <= value <= high, text)


def each(allowed: Range) -> Range:
    """One number or more, all of them allowed."""
    return Range(
        lambda values: bool(values) and all(map(allowed.allows, values)),
        f"one or more numbers, {allowed.text}",
    )


def one_of(*values: str | int) -> Range:
    """These values alone."""
    *first, last = map(str, values)
    return Range(lambda value: value in values, f"{', '.join(first)} or {last}" if first else last)


def factors(text: str, with_original: bool) -> Range:
    """Different factors of warp or tempo, with 1 (the speech itself) or without it."""
    return Range(
        lambda values: (
            (1 in values) == with_original
            and len({f"{value:g}" for value in values}) == len(values)
            and all(0.5 <= value <= 2 for value in values)
        ),
        f"different numbers from 0.5 to 2, {text} 1 (the speech itself)",
    )


MIN_POSITIVE, MAX_NUMBER = 1e-30, 1e30
MAX_INTEGER = 2**31 - 1

ANY_NUMBER = Range(lambda value: abs(value) <= MAX_NUMBER, "a number from -1e30 to 1e30")
POSITIVE = Range(lambda value: MIN_POSITIVE <= value <= MAX_NUMBER, "from 1e-30 to 1e30")
TEMPERATURE = Range(lambda value: 1e-3 <= value <= 1e6, "from 0.001 to 1000000")
SHARE = Range(lambda value: 0 < value < 1, "between 0 and 1, both excluded")
PROBABILITY = Range(lambda value: 0 <= value < 1, "at least 0 and less than 1")
FACTOR = Range(lambda value: 0 < value <= 1, "greater than 0, at most 1")
IMPORT_PATH = Range(
    lambda path: bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", path)),
    "an import path, such as my.package:Net",
)
PARTS = Range(
    lambda names: all(re.fullmatch(r"[^/\\.][^/\\]*", n) and n.isprintable() for n in names),
    "names of folders, such as train-clean-100, without / or \\ and not beginning with a dot",
)


# --- fields -------------------------------------------------------------------------------------


def setting(
    default: Any,
    meaning: str,
    allowed: Range | None = None,
    *,
    stages: tuple[str, ...] | None = None,
    shapes_results: bool = True,
    path: bool = False,
) -> Any:
    """A field of a settings group.

    Args:
        meaning: one or two sentences for the list of settings.
        allowed: which values of its type are allowed; None: all of them.
        stages: the stages that the setting shapes, where these are not all of its group's.
        shapes_results: False for what changes only where files are, and how fast they are made.
        path: whether the value is a path of this machine; paths do not shape results.
    """
    if path or not shapes_results:
        stages = ()
    metadata = {"meaning": meaning, "allowed": allowed, "stages": stages, "path": path}
    return field(default=default, metadata=metadata)


def group(settings: type, *stages: str) -> Any:
    """A group of settings, and the stages whose output they shape."""
    return field(default_factory=settings, metadata={"stages": stages})


# fmt: off
@dataclass(frozen=True)
class CorpusConfig:
    """The speech and its splits (docs/corpora.md)."""

    name: str = setting(
        "demo", f"The corpus: {', '.join(CORPORA)}, or a reader of your own (docs/corpora.md)."
    )
    data_dir: str | None = setting(
        None, "The folder of the corpus, or its manifest, by default $ACOUSTIC_KD_DATA; "
        "--data-dir sets it. LibriSpeech is downloaded to it.",
        path=True,
    )
    test_share: float = setting(
        0.1, "Without a test split, whole speakers with about this share of the utterances of "
        "train become the test split.", SHARE,
    )
    test_speakers: int | None = setting(
        None, "The number of speakers of train that become the test split, instead of "
        "`test_share`.", at_least(1),
    )
    dev_share: float = setting(0.1, "As `test_share`, for the dev split.", SHARE)
    dev_speakers: int | None = setting(
        None, "As `test_speakers`, for the dev split.", at_least(1)
    )
    folds: int | None = setting(
        None, "Cross-validation: the speakers of all splits are divided into this number of "
        "folds, and fold number `fold` is the test split.", at_least(2),
    )
    fold: int = setting(0, "The number of the test fold, from 0 on.", at_least(0))
    train_parts: tuple[str, ...] = setting(
        ("train-clean-5",), "The parts of LibriSpeech that are the train split.",
        Range(lambda names: bool(names) and PARTS.allows(names), PARTS.text),
    )
    dev_parts: tuple[str, ...] = setting(
        (), "The parts of LibriSpeech that are the dev split; default: speakers of train.",
        PARTS,
    )
    test_parts: tuple[str, ...] = setting((), "As `dev_parts`, for the test split.", PARTS)
    untranscribed_parts: tuple[str, ...] = setting(
        (), "The parts of LibriSpeech that are used without their transcripts.", PARTS
    )
    untranscribed: str | None = setting(
        None, "A Kaldi data directory of speech without transcripts, from which only the "
        "distilled models learn; its `text` is not read.", path=True,
    )
    untranscribed_share: float = setting(
        0.0, "The share of train, by speaker, whose transcripts are not used.", PROBABILITY
    )
    seed: int = setting(1, "The seed of the splits and of the demo.", at_least(0))
    demo_language: Literal["en", "es", "el"] = setting(
        "en", "The language of the demo: English, Spanish or Greek."
    )
    demo_train_voices: int = setting(
        14, "The number of synthesised voices in the train split.", at_least(1, 16)
    )
    demo_dev_voices: int = setting(3, "The number of voices in the dev split.", at_least(1, 4))
    demo_test_voices: int = setting(4, "The number of voices in the test split.", at_least(1, 6))
    demo_train_sentences: int = setting(
        38, "The number of sentences of each train voice.", at_least(1, 500)
    )
    demo_eval_sentences: int = setting(
        24, "The number of sentences of each dev and test voice.", at_least(1, 500)
    )


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel filterbanks every 10 ms (paper section 4: 40 of them)."""

    sample_rate: int = setting(16000, "The sample rate of all sound files, in Hz.", at_least(1000))
    mel_bins: int = setting(
        40, "The number of filters; at least the 13 cepstra that the decision tree uses.",
        at_least(13, 1000),
    )
    low_hz: float = setting(20.0, "The lower end of the filters, in Hz.", at_least(0, 1e6))
    high_hz: float = setting(
        -200.0, "The upper end of the filters, in Hz; zero or less is counted down from half the "
        "sample rate.", ANY_NUMBER,
    )
    vtlp_warps: tuple[float, ...] = setting(
        (1.0,), "Vocal tract length perturbation: the warp factor of each copy of train that "
        "members and distilled models learn from. An epoch draws one copy of each utterance at "
        "random.", factors("with", with_original=True), stages=("copies", "train"),
    )
    tempos: tuple[float, ...] = setting(
        (1.0,), "The tempos of copies, at the same pitch; there is a copy at each warp and tempo.",
        factors("with", with_original=True), stages=("copies", "train"),
    )
    mp3_kbits: float | None = setting(
        None, "The bit rate in kbit/s of additional copies of each utterance, warp and tempo that "
        "an MP3 coder has compressed; null: none. For models of compressed speech.",
        at_least(8, 320), stages=("copies", "train"),
    )
    transfer_vtlp_warps: tuple[float, ...] = setting(
        (), "The warp factors of further copies, from which only the distilled models and their "
        "control learn, beside those of `vtlp_warps`. The members have not learned these copies, "
        "so their predictions of them are softer.",
        factors("without", with_original=False), stages=("copies",),
    )
    normalise: Literal["speaker", "utterance", "global"] = setting(
        "speaker", "What mean and variance of the features are computed over.",
        stages=("senones", "frames", "copies"),
    )

    @property
    def has_copies(self) -> bool:
        """Whether there are copies of train beside the speech itself."""
        neutral = (1.0,), (1.0,), (), None
        copies = self.vtlp_warps, self.tempos, self.transfer_vtlp_warps, self.mp3_kbits
        return copies != neutral

    @property
    def upper_hz(self) -> float:
        """The upper end of the filters, counted from 0 Hz."""
        return self.high_hz if self.high_hz > 0 else self.sample_rate / 2 + self.high_hz

    @property
    def warped_hz(self) -> tuple[float, float]:
        """The ends of the band that a warp acts on."""
        low, high = WARP_MARGINS_HZ
        return self.low_hz + low, self.upper_hz - high

    @property
    def transform_size(self) -> int:
        """The power of two that the samples of a window are padded to."""
        return 1 << (int(self.sample_rate * WINDOW_SECONDS) - 1).bit_length()


@dataclass(frozen=True)
class LangConfig:
    """The units of words (docs/lexicon-and-lm.md)."""

    units: Literal["phones", "graphemes", "pieces"] = setting(
        "phones", "The units of words: phones of a lexicon, letters, or word pieces."
    )
    case: Literal["upper", "turkic"] = setting(
        "upper", "The case mapping of spelled words; with turkic, i is the small letter of İ and ı "
        "the small letter of I.", stages=("corpus",),
    )
    positions: bool = setting(
        True, "Whether letters at the beginning and the end of words are units of their own.",
        stages=("corpus",),
    )
    pieces: int = setting(
        500, "The number of word pieces that sentencepiece learns from the train transcripts.",
        at_least(2, 65535),
    )
    piece_model: Literal["unigram", "bpe"] = setting("unigram", "The model of sentencepiece.")


@dataclass(frozen=True)
class AlignConfig:
    """Forced alignment to HMM states (docs/alignment.md)."""

    method: Literal["pocketsphinx", "dnn", "flat", "kaldi"] = setting(
        "pocketsphinx", "pocketsphinx: its English model; dnn: models of an earlier experiment; "
        "flat: flat start, without a model; kaldi: alignments made by Kaldi, whose pdf-ids are "
        "the classes (docs/kaldi.md).",
    )
    model: str | None = setting(
        None, "For dnn: the directory of an earlier experiment, whose ensemble aligns, or of one "
        "of its models, such as EXP/distilled/01.", path=True,
    )
    pdf_ali: str | None = setting(
        None, "For kaldi: the pdf-id of every frame, as ali-to-pdf writes them: an archive, an "
        "scp file, or a pattern of several, such as 'exp/tri3b_ali/pdf.*.gz'.", path=True,
    )
    pdf_post: str | None = setting(
        None, "For kaldi: posteriors of pdf-ids instead of `pdf_ali`; the most probable pdf-id of "
        "each frame is used.", path=True,
    )
    pdfs: int | None = setting(
        None, "For kaldi: the number of pdf-ids; null: the largest plus one.", at_least(1)
    )
    snip_edges: bool = setting(
        True, "For kaldi: whether Kaldi's features were made with --snip-edges=true, its default."
    )
    lexicon: str | None = setting(
        None, "The path of a lexicon; null: the corpus's own, else pocketsphinx's English one.",
        path=True,
    )
    unknown_words: Literal["g2p", "exclude"] = setting(
        "g2p", "What happens to utterances with words that the lexicon lacks: g2p guesses their "
        "pronunciations from their letters; exclude does not align them.",
        stages=("corpus", "align"),
    )
    max_failed: float = setting(
        0.05, "The largest share of a split that may fail to align.", PROBABILITY,
        shapes_results=False,
    )
    iterations: int = setting(
        30, "For flat: the largest number of training iterations; fewer if the gain stops.",
        at_least(1, 1000),
    )
    gaussians: Literal[1, 2, 4, 8, 16, 32, 64] = setting(
        8, "For flat: the number of Gaussians of a state at the end."
    )
    flat_start_hours: float = setting(
        4.0, "For flat: the largest number of hours of train to learn from.", POSITIVE
    )
    outlier_threshold: float | None = setting(
        6.0, "For flat: utterances of train that fit their transcripts worse than the median by "
        "this number of robust standard deviations are left out; null: none.", POSITIVE,
    )


@dataclass(frozen=True)
class SenoneConfig:
    """The phonetic decision tree."""

    leaves: int = setting(700, "The largest number of senones.", at_least(1, 65535))
    min_frames: int = setting(60, "The smallest number of frames of a senone.", at_least(1))
    trees: int = setting(
        1, "The number of decision trees. The first is the usual tree; the others choose at "
        "random among good questions, for members of other trees (model.tree).", at_least(1, 100),
    )


@dataclass(frozen=True)
class FrameConfig:
    """Frame shards, and transforms of speakers."""

    shard_frames: int = setting(1_000_000, "The number of frames of a shard.", at_least(1))
    speaker_cepstra: int = setting(
        0, "The number of cepstra that an affine transform (constrained MLLR) changes for each "
        "speaker: of train by the alignment, of dev and test by a first decoding. Give "
        "features.vtlp_warps, too: warped copies have no transforms, and prepare models for the "
        "first decoding. 0: no transforms.", at_least(0, 1000),
    )


@dataclass(frozen=True)
class ModelConfig:
    """The acoustic model (paper: 8 hidden layers of 2560 ReLU units, 26 frames in)."""

    layers: int = setting(4, "The number of hidden layers.", at_least(1, 100))
    width: int = setting(512, "The number of units of a hidden layer.", at_least(1, 1_000_000))
    dropout: float = setting(0.2, "The dropout of hidden units.", PROBABILITY)
    input_dropout: float = setting(0.0, "The dropout of input features.", PROBABILITY)
    left_frames: int = setting(20, "The input frames before the current one.", at_least(0, 1000))
    right_frames: int = setting(5, "The input frames after the current one.", at_least(0, 1000))
    kind: Literal["dnn", "cnn"] = setting(
        "dnn", "The network: dnn, the paper's; cnn, residual convolutions over time and frequency "
        "with batch normalisation, before the hidden layers.",
    )
    channels: int = setting(
        32, "For cnn: the number of channels of the first convolutions.", at_least(1, 10_000)
    )
    batch_norm: bool = setting(
        False, "For dnn: whether its hidden layers have batch normalisation, as those of cnn have."
    )
    residual: bool = setting(
        False, "For dnn: whether its hidden layers have residual connections, as those of cnn have."
    )
    tree: int = setting(
        1, "For train.member_models: the decision tree (1 to senones.trees) whose senones a member "
        "learns; its predictions are converted to those of the first.", at_least(1, 100),
    )
    class_: str | None = setting(
        None, "A network of your own instead of `kind`: the import path of its class, such as "
        "my.package:Net (docs/use.md).", IMPORT_PATH,
    )
    args: dict[str, Any] | None = setting(
        None, "The keyword arguments of `class`, beside frames, features and classes."
    )


@dataclass(frozen=True)
class TrainConfig:
    """The training of members and distilled models."""

    members: int = setting(5, "The number of members of the ensemble.", at_least(1, 1000))
    member_models: tuple[dict[str, Any], ...] = setting(
        (), "Settings of `model` in which members differ, such as [{width: 512}, {kind: cnn}]; the "
        "members take them in turn.", stages=("train",),
    )
    seed: int = setting(0, "The seed of the first member; member n has this seed plus n - 1.")
    epochs: int = setting(
        30, "The number of epochs; with schedule dev the largest number, because training ends "
        "when the learning rate has fallen.", at_least(1),
    )
    share: float = setting(
        1.0, "The share of train, by utterance, that members learn from.", FACTOR
    )
    share_seed: int = setting(0, "The seed of this choice, and of that of `distill.share`.")
    batch_frames: int = setting(512, "The frames of a batch, of all processes together.",
                                at_least(1, 10**9))
    learning_rate: float = setting(
        1e-3, "The learning rate of Adam, which schedule and warm-up change.", POSITIVE
    )
    warmup_steps: int = setting(
        0, "The number of first steps in which the learning rate rises linearly to that of "
        "the schedule.", at_least(0)
    )
    max_grad_norm: float | None = setting(
        None, "The largest norm of the gradient of all weights; a longer one is scaled down; null: "
        "no limit.", POSITIVE,
    )
    weight_decay: float = setting(
        0.0, "The weight decay, of all but biases and batch normalisation.", at_least(0, 1e30)
    )
    max_norm: float | None = setting(
        None, "The largest norm of the weights into a hidden unit; larger ones are scaled down; "
        "null: no limit.", POSITIVE,
    )
    time_mask: int = setting(
        0, "The largest number of neighbouring frames that are hidden in each window of a batch "
        "(SpecAugment).", at_least(0, 1000),
    )
    frequency_mask: int = setting(0, "As `time_mask`, of filters.", at_least(0, 1000))
    average: float = setting(
        0.0, "The decay of a moving average of the weights over steps, such as 0.999, which is "
        "kept instead of the last weights; 0: none.", PROBABILITY,
    )
    schedule: Literal["dev", "cosine"] = setting(
        "dev", "cosine: the rate falls to zero over `epochs`, and the last weights are kept. dev: "
        "the weights of the best epoch on dev are kept, and from the first epoch that gains less "
        "than `decay_below` on every epoch multiplies the rate by `decay`, until less than "
        "`stop_rate` of it is left.",
    )
    decay_below: float = setting(
        0.5, "The gain in dev frame accuracy, in points, below which the rate begins to fall.",
        ANY_NUMBER,
    )
    decay: float = setting(0.7, "The factor of the rate in each epoch after that.", FACTOR)
    stop_rate: float = setting(
        0.02, "The share of the first rate at which training ends.", at_least(0, 1)
    )
    bfloat16: bool | None = setting(
        None, "Whether matrices are multiplied in bfloat16; null: the environment variable "
        "ACOUSTIC_KD_BFLOAT16, 0 or 1, or else what `accelerate launch --mixed_precision` says, or "
        "else whether the device has instructions for it.",
    )
    max_logits_mb: float = setting(
        1000.0, "The memory for the logits of a batch and their gradient, and for its windows, in "
        "megabytes a process; a batch that needs more is processed in parts.", POSITIVE,
    )
    memory_gb: float | None = setting(
        None, "The memory for frames and soft targets, in gigabytes a process; what does not fit "
        "is read chunk by chunk (docs/clusters.md); null: what is free.", POSITIVE,
        shapes_results=False,
    )
    streams: int = setting(
        1, "The number of streams that a batch takes an equal share of; with several processes "
        "each reads its own streams alone (docs/clusters.md). It must be a multiple of the number "
        "of processes, or the number of processes a multiple of it.", at_least(1),
    )
    checkpoint_steps: int = setting(
        1000, "The number of steps between checkpoints; it grows if they would take more than "
        "2 % of the time.", at_least(1), shapes_results=False
    )
    log_steps: int = setting(
        500, "The steps of an epoch between two logs of loss, learning rate and speed: by the "
        "tracker, and as a line where there is no progress bar.", at_least(1), shapes_results=False,
    )
    tracker: Literal["aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard",
                     "trackio", "wandb"] | None = setting(
        None, "The tracker of Accelerate that gets settings, metrics and results "
        "(docs/clusters.md); null: none.", shapes_results=False,
    )


@dataclass(frozen=True)
class SpecialistConfig:
    """Specialists beside the members, for classes that these confuse (paper section 5)."""

    count: int = setting(
        0, "The number of specialists, whose predictions refine those of the ensemble, the "
        "generalist.", at_least(0, 1000),
    )
    classes: int = setting(50, "The number of classes that a specialist tells apart.",
                           at_least(1, 65535))
    epochs: int | None = setting(
        None, "As `train.epochs`; an epoch has all frames of these classes, and as many others.",
        at_least(1),
    )
    learning_rate: float | None = setting(None, "As `train.learning_rate`.", POSITIVE)


@dataclass(frozen=True)
class SoftTargetConfig:
    """The ensemble's tempered predictions, stored for the transfer set."""

    external_posteriors: tuple[str, ...] = setting(
        (), "Kaldi archives of posteriors, one for each external model, that replace the members' "
        "predictions (docs/kaldi.md). If an archive is moved, the stage runs again.",
        Range(all, "paths of archives"),
    )
    temperature: float = setting(2.0, "The temperature T of the soft targets.",
                                 TEMPERATURE)
    mean: Literal["arithmetic", "geometric"] = setting(
        "arithmetic", "The mean of the members' predictions; geometric: of their logits."
    )
    weights: tuple[float, ...] | None = setting(
        None, "The weight of each member in the mean; null: equal weights.",
        Range(
            lambda values: (
                all(w == 0 or POSITIVE.allows(w) for w in values) and POSITIVE.allows(sum(values))
            ),
            "numbers from 1e-30 to 1e30 or 0, one for each member and not all 0",
        ),
    )
    encoding: Literal["top-k", "top-p", "sampled", "dense"] = setting(
        "top-k", "What is stored of a frame's soft targets (docs/results.md)."
    )
    kept_classes: int = setting(
        20, "The number of classes stored for top-k, the largest number for top-p, the number of "
        "draws for sampled.", at_least(1, 65535),
    )
    kept_mass: float = setting(0.98, "The probability mass that top-p stores.", FACTOR)
    bits: Literal[8, 16] = setting(8, "The bits of a stored probability.")
    seed: int = setting(0, "The seed of the draws of sampled.", at_least(0))
    memory_gb: float | None = setting(
        None, "The memory for the members and their predictions, in gigabytes; null: what is free.",
        POSITIVE, shapes_results=False,
    )


@dataclass(frozen=True)
class DistillConfig:
    """The distilled models; settings that are null are those of `model` and `train`."""

    models: int = setting(2, "The number of distilled models, which differ by seed.",
                          at_least(1, 1000))
    transfer_set: Literal["all", "transcribed", "untranscribed"] = setting(
        "all", "The speech that the models learn from: train, the speech without transcripts, or "
        "both.",
    )
    hard_weight: float = setting(
        0.5, "The weight of the hard targets of transcribed speech.", at_least(0, 1e6)
    )
    loss: Literal["reverse", "jensen-shannon", "logits"] | None = setting(
        None, "The loss of soft targets; null: the paper's cross-entropy. The others are there for "
        "comparison: reverse KL divergence, Jensen-Shannon divergence, matching of logits.",
    )
    layers: int | None = setting(None, "As `model.layers`.", at_least(1, 100))
    width: int | None = setting(None, "As `model.width`.", at_least(1, 1_000_000))
    left_frames: int | None = setting(None, "As `model.left_frames`.", at_least(0, 1000))
    right_frames: int | None = setting(None, "As `model.right_frames`.", at_least(0, 1000))
    kind: Literal["dnn", "cnn"] | None = setting(
        None, "As `model.kind`; a kind replaces the members' `class`."
    )
    channels: int | None = setting(None, "As `model.channels`.", at_least(1, 10_000))
    class_: str | None = setting(None, "As `model.class`.", IMPORT_PATH)
    args: dict[str, Any] | None = setting(None, "As `model.args`.")
    shapes: dict[str, Any] | None = setting(
        None, "Further shapes of the distilled model, by name, with the settings of `model` in "
        "which they differ, such as {small: {layers: 2, width: 128}}. Each shape has its own "
        "models and control, and a row in the table.",
    )
    dropout: float = setting(
        0.1, "The dropout of hidden units. Soft targets regularise, so less is needed than for "
        "members.", PROBABILITY,
    )
    share: float | None = setting(
        None, "As `train.share`, of the transfer set; soft targets are stored for all of it.",
        FACTOR,
    )
    epochs: int | None = setting(None, "As `train.epochs`.", at_least(1))
    learning_rate: float | None = setting(None, "As `train.learning_rate`.", POSITIVE)
    schedule: Literal["dev", "cosine"] | None = setting(None, "As `train.schedule`.")
    decay_below: float | None = setting(
        0.0, "As `train.decay_below`; distilled models improve slowly.", ANY_NUMBER
    )
    decay: float | None = setting(None, "As `train.decay`.", FACTOR)
    hard_baseline: bool = setting(
        True, "Whether to train the control: one model of the distilled models' shape, on hard "
        "targets alone, with their schedule and at least as many frames. It separates the "
        "effect of distillation from that of longer training.",
    )
    hard_baseline_dropout: float | None = setting(
        None, "The dropout of the control; null: that of the members, which was chosen for hard "
        "targets.", PROBABILITY,
    )


@dataclass(frozen=True)
class LanguageModelConfig:
    """The language model (docs/lexicon-and-lm.md)."""

    arpa: str | None = setting(
        None, "An ARPA file, by path or by the name of one of LibriSpeech's, such as "
        "3-gram.pruned.1e-7; null: an n-gram is trained.", path=True,
    )
    text: str | None = setting(
        None, "The text that the n-gram is trained on; null: the train transcripts.", path=True
    )
    order: int = setting(3, "The order of the n-gram.", at_least(1, 20))
    vocabulary: int | None = setting(
        None, "The number of most frequent words in the vocabulary; null: all.", at_least(1)
    )
    min_counts: tuple[int, ...] | None = setting(
        None, "For each order the smallest count of an n-gram that is kept; null: all are kept.",
        Range(
            lambda counts: counts[:1] == (1,) and list(counts) == sorted(counts),
            "one number for each order, the first 1 (all words are kept), never falling",
        ),
    )
    prune: float | None = setting(
        None, "N-grams that raise the perplexity by a smaller share are removed; null: none.", SHARE
    )
    pronunciation_costs: bool = setting(
        True, "The pronunciations of a word cost the more in the search, the rarer they are in the "
        "alignment of train; false: all cost the same.",
    )


@dataclass(frozen=True)
class DecodeConfig:
    """Search, and the grid of weights that is tuned on dev."""

    beam: float = setting(14.0, "The beam of the search, in nats.", POSITIVE)
    lattice_beam: float = setting(
        8.0, "The beam of the lattices, in nats.",
        Range(lambda b: 0 < b <= 1000, "greater than 0, at most 1000"),
    )
    max_active: int = setting(7000, "The largest number of active states in a frame.", at_least(1))
    acoustic_scale: float = setting(
        0.1, "The scale of acoustic log-likelihoods in the search.",
        Range(lambda value: 1e-6 <= value <= 1e6, "from 0.000001 to 1000000"),
    )
    lm_weights: tuple[float, ...] = setting(
        (4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0),
        "The language model weights of the grid.", each(POSITIVE),
    )
    insertion_penalties: tuple[float, ...] = setting(
        (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0), "The word insertion penalties of the grid.",
        each(ANY_NUMBER),
    )
    dev_share: float = setting(
        1.0, "The share of each speaker's dev utterances that is decoded.", FACTOR
    )
    first_beam: float = setting(
        10.0, "The beam of the first decoding, whose errors matter less, where speakers have "
        "transforms (frames.speaker_cepstra).", POSITIVE,
    )
    jobs: int = setting(
        0, "The number of processes, at most four per core; 0: one per core.",
        at_least(0, 10_000), shapes_results=False,
    )


@dataclass(frozen=True)
class Config:
    """All settings of an experiment, and the stages that each group shapes."""

    corpus: CorpusConfig = group(CorpusConfig, "corpus")
    features: FeatureConfig = group(FeatureConfig, "features", "copies")
    lang: LangConfig = group(LangConfig, "graph")
    align: AlignConfig = group(AlignConfig, "align")
    senones: SenoneConfig = group(SenoneConfig, "senones")
    frames: FrameConfig = group(FrameConfig, "features", "frames", "copies")
    model: ModelConfig = group(ModelConfig, "train", "distill")
    train: TrainConfig = group(TrainConfig, "train", "distill")
    specialists: SpecialistConfig = group(SpecialistConfig, "train")
    soft_targets: SoftTargetConfig = group(SoftTargetConfig, "soft-targets")
    distill: DistillConfig = group(DistillConfig, "distill")
    lm: LanguageModelConfig = group(LanguageModelConfig, "graph")
    decode: DecodeConfig = group(DecodeConfig, "decode")
# fmt: on


# --- what the fields say ------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What a field says of a setting.

    Attributes:
        type: as annotated.
        stages: those whose output it shapes; none where it shapes no results.
        path: whether it is a path of this machine.
    """

    type: Any
    default: Any
    allowed: Range | None
    meaning: str
    stages: tuple[str, ...]
    path: bool


def _settings() -> dict[str, Setting]:
    settings = {}
    groups = get_type_hints(Config)
    for part in dataclasses.fields(Config):
        hints = get_type_hints(groups[part.name])
        for key in dataclasses.fields(groups[part.name]):
            metadata, hint = key.metadata, hints[key.name]
            stages = part.metadata["stages"] if metadata["stages"] is None else metadata["stages"]
            choices = choices_of(hint)
            allowed = one_of(*choices) if choices else metadata["allowed"]
            settings[f"{part.name}.{yaml_dataclasses.key_of(key)}"] = Setting(
                hint, key.default, allowed, metadata["meaning"], stages, metadata["path"]
            )
    return settings


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, or of one that may also be None."""
    options = [hint, *get_args(hint)]
    return next((get_args(o) for o in options if getattr(o, "__origin__", None) is Literal), ())


SETTINGS = _settings()  # by name, group.key


# A record without a setting was written before there was this setting, and its output was made as
# with this value. So a new setting leaves earlier output up to date.
NEUTRAL = {
    name: list(s.default) if isinstance(s.default, tuple) else s.default
    for name, s in SETTINGS.items()
}


def choices(name: str) -> tuple[Any, ...]:
    """The values that a setting chooses from."""
    return choices_of(SETTINGS[name].type)


def all_settings(config: Config) -> dict[str, Any]:
    """Every setting as `group.key` → value."""
    return {name: _value(config, name) for name in SETTINGS}


def _value(config: Config, name: str) -> Any:
    part, _, key = name.partition(".")
    return getattr(getattr(config, part), f"{key}_" if keyword.iskeyword(key) else key)


def shaping_settings(config: Config, *names: str) -> dict[str, Any]:
    """Settings that shape results, as JSON values.

    Args:
        names: groups (`train`) or single settings (`train.seed`); without any, all settings.
    """
    chosen = {name for name in SETTINGS if not names or {name, name.partition(".")[0]} & set(names)}
    return _as_json(config, {name for name in chosen if SETTINGS[name].stages})


def stage_settings(config: Config, stage: str) -> dict[str, Any]:
    """The settings that shape the output of a stage, as JSON values."""
    return _as_json(config, {name for name, s in SETTINGS.items() if stage in s.stages})


def _as_json(config: Config, names: set[str]) -> dict[str, Any]:
    values = {name: value for name, value in all_settings(config).items() if name in names}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


# --- reading ------------------------------------------------------------------------------------


def load_config(path: Path | None, overrides: list[str]) -> Config:
    """Read a settings file (None: the defaults) and apply overrides such as `model.width=2560`.

    An unknown key is an error that suggests the nearest known one. A value of the wrong type, out
    of range, or wrong beside another one is an error that names the setting.
    """
    config: Config = Config()
    if path is not None:
        values = yaml_dataclasses.read_yaml(Path(path))
        config = yaml_dataclasses.fill(Config, values, str(path), "", list(SETTINGS))
    paths = {name for name, s in SETTINGS.items() if s.path}
    for override in overrides:
        config = yaml_dataclasses.override(config, override, list(SETTINGS), paths)
    check_values(all_settings(config))
    check_together(config)
    return config


def from_flat(values: Mapping[str, Any]) -> Config:
    """Settings from `group.key` → value, as the records of finished stages hold them.

    Records hold no paths, so settings that depend on paths are not compared with them.
    """
    config: Config = Config()
    for name, value in values.items():
        config = yaml_dataclasses.replace_value(config, name, value, list(SETTINGS))
    check_values(all_settings(config))
    return config


def settings_file(given: Path) -> Path:
    """The settings file that `--config` names: a file, or settings of the package by name."""
    if given.exists() and not given.is_dir():
        return given
    packaged = {path.stem: path for path in PACKAGED.glob("*.yaml")}
    if str(given) not in packaged:
        names = ", ".join(sorted(packaged))
        raise UserError(f"{given}: there is no such file; the package has settings for {names}")
    return packaged[str(given)]


# --- checks -------------------------------------------------------------------------------------


def check_values(values: Mapping[str, Any]) -> None:
    """Raise a UserError for the first setting (`group.key`) outside its range, naming both."""
    for name, value in values.items():
        if value is None or name not in SETTINGS:
            continue
        _check_range(name, value, SETTINGS[name].allowed)
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int and abs(number) > MAX_INTEGER:
                raise UserError(f"setting '{name}' is {number}; it must be at most {MAX_INTEGER}")
        if SETTINGS[name].path and (problem := problem_of(value)):
            raise UserError(f"setting '{name}' is '{printable(value)}'; it {problem}")


def _check_range(name: str, value: Any, allowed: Range | None) -> None:
    if allowed is not None and not allowed.allows(value):
        raise UserError(f"setting '{name}' is {_shown(value)}; it must be {allowed.text}")


def _shown(value: Any) -> Any:
    """A value as messages show it."""
    return "null" if value is None else list(value) if isinstance(value, tuple) else value


def _wrong(config: Config, name: str, must: str) -> UserError:
    """The error of a setting that is wrong beside another one; `must`: what it must be or do."""
    return UserError(f"setting '{name}' is {_shown(_value(config, name))}; it must {must}")


def check_together(config: Config) -> None:
    """Raise a UserError for settings that are allowed alone and wrong together."""
    for check in (
        _check_corpus,
        _check_band,
        _check_filters,
        _check_transforms,
        _check_warps,
        _check_mp3,
        _check_aligner,
        _check_kaldi,
        _check_units,
        _check_language_model,
        _check_batches,
        _check_soft_targets,
        _check_specialists,
        _check_models,
    ):
        check(config)


def _check_corpus(config: Config) -> None:
    corpus = config.corpus
    if corpus.name not in CORPORA:  # not in `check_values`: records outlive the packages of readers
        readers = sorted(point.name for point in entry_points(group=READERS))
        names = list(dict.fromkeys([*CORPORA, *readers]))
        if corpus.name not in names:
            raise UserError(
                f"setting 'corpus.name' is {printable(corpus.name)}; it must be "
                f"{one_of(*names).text}{yaml_dataclasses.suggestion(corpus.name, names)}"
            )
    if corpus.fold >= (corpus.folds or 1):
        must = f"be less than corpus.folds ({_shown(corpus.folds)}): the first is 0"
        raise _wrong(config, "corpus.fold", must)
    if corpus.folds and corpus.test_speakers:
        must = "be null with corpus.folds, which determines the test speakers"
        raise _wrong(config, "corpus.test_speakers", must)
    seen: dict[str, str] = {}
    for split in ("train", "dev", "test", "untranscribed"):
        name = f"corpus.{split}_parts"
        for part in getattr(corpus, f"{split}_parts"):
            if part in seen:
                text = f"setting '{name}' names {part}, and so does {seen[part]}; name it once"
                raise UserError(text)
            seen[part] = name


def _check_band(config: Config) -> None:
    features = config.features
    nyquist = features.sample_rate / 2
    if not features.low_hz < features.upper_hz <= nyquist:
        raise UserError(
            f"setting 'features.high_hz' is {features.high_hz:g}; it must lie above features.low_hz"
            f" ({features.low_hz:g}) and at or below half the sample rate ({nyquist:g})"
        )


def _check_filters(config: Config) -> None:
    """Every filter holds a frequency of the spectrum; an empty one is constant."""
    features = config.features
    if config.corpus.name == "kaldi_feats":
        return
    low, high = (1127 * math.log1p(hz / 700) for hz in (features.low_hz, features.upper_hz))
    ends = [low + n * (high - low) / (features.mel_bins + 1) for n in range(features.mel_bins + 2)]
    bin_hz = features.sample_rate / features.transform_size
    places = [700 * math.expm1(end / 1127) / bin_hz for end in ends]
    for left, right in zip(places, places[2:], strict=False):
        if math.floor(left) + 1 >= right:
            raise UserError(
                f"setting 'features.mel_bins' is {features.mel_bins}; filters from "
                f"{features.low_hz:g} to {features.upper_hz:g} Hz are then narrower than the "
                f"spectrum's step of {bin_hz:g} Hz: give fewer"
            )


def _check_transforms(config: Config) -> None:
    """Transforms of speakers are of cepstra, which log-mels have."""
    cepstra, mel_bins = config.frames.speaker_cepstra, config.features.mel_bins
    if cepstra and config.corpus.name == "kaldi_feats":
        must = "be 0 with corpus.name=kaldi_feats, whose features may be no log-mels"
        raise _wrong(config, "frames.speaker_cepstra", must)
    if cepstra > mel_bins:
        must = f"be at most features.mel_bins ({mel_bins})"
        raise _wrong(config, "frames.speaker_cepstra", must)


def _check_warps(config: Config) -> None:
    features = config.features
    low, high = features.warped_hz
    for name in ("vtlp_warps", "transfer_vtlp_warps"):
        for warp in getattr(features, name):
            if warp != 1 and low * max(1.0, warp) >= high * min(1.0, warp):
                raise UserError(
                    f"setting 'features.{name}' has {warp:g}; the band from {features.low_hz:g} to "
                    f"{features.upper_hz:g} Hz is too narrow for it: give a warp nearer to 1, or a "
                    "wider band"
                )
    if both := set(features.vtlp_warps) & set(features.transfer_vtlp_warps):
        raise UserError(
            f"setting 'features.transfer_vtlp_warps' has {min(both):g}, and so has "
            "features.vtlp_warps; give each warp once: the transfer set has both"
        )


def _check_mp3(config: Config) -> None:
    rate, kbits = config.features.sample_rate, config.features.mp3_kbits
    low, high = MP3_KBITS.get(rate, (0, 0))
    if kbits is not None and not low <= kbits <= high:
        wanted, lacks = (f"from {low} to {high}", "") if high else ("null", ", which MP3 lacks")
        must = f"be {wanted} with features.sample_rate={rate}{lacks}"
        raise _wrong(config, "features.mp3_kbits", must)


def _check_aligner(config: Config) -> None:
    align = config.align
    if (align.method == "dnn") != (align.model is not None):
        raise UserError(
            f"setting 'align.model' is {align.model or 'null'} and 'align.method' is "
            f"{align.method}; give a model with the method dnn, and only with it"
        )
    if align.method == "pocketsphinx" and config.features.sample_rate != POCKETSPHINX_HZ:
        raise UserError(
            f"setting 'features.sample_rate' is {config.features.sample_rate}; pocketsphinx "
            f"aligns {POCKETSPHINX_HZ} Hz alone: give align.method=flat"
        )


def _check_kaldi(config: Config) -> None:
    align = config.align
    if (align.method == "kaldi") != (align.pdf_ali is not None or align.pdf_post is not None):
        name = "pdf_ali" if align.pdf_post is None else "pdf_post"
        raise UserError(
            f"setting 'align.{name}' is {getattr(align, name) or 'null'} and 'align.method' is "
            f"{align.method}; give alignments with the method kaldi, and only with it"
        )
    if align.pdf_ali is not None and align.pdf_post is not None:
        must = "be null with align.pdf_ali, which gives the targets"
        raise _wrong(config, "align.pdf_post", must)
    if config.corpus.name != "kaldi_feats":
        return
    for name, expected in (
        ("align.method", "kaldi"),
        ("features.vtlp_warps", (1.0,)),
        ("features.transfer_vtlp_warps", ()),
        ("features.tempos", (1.0,)),
        ("features.mp3_kbits", None),
        ("align.snip_edges", True),
    ):
        if _value(config, name) != expected:
            needed = str(_shown(expected)).lower()
            must = f"be {needed} with corpus.name=kaldi_feats, which has frames and no sound"
            raise _wrong(config, name, must)


def _check_units(config: Config) -> None:
    units, lang, wrong = config.lang.units, config.lang, ""
    language = config.corpus.demo_language if config.corpus.name == "demo" else "en"
    if units == "phones":
        if lang.case != "upper":
            wrong = f"'lang.case' is {lang.case}; it must be upper"
        elif not lang.positions:
            wrong = "'lang.positions' is false; it must be true"
        elif language != "en" and config.align.lexicon is None:
            wrong = (
                f"'corpus.demo_language' is {language}, which has no lexicon; give "
                "lang.units=graphemes align.method=flat, or en,"
            )
    elif config.align.method == "pocketsphinx":
        wrong = (
            "'align.method' is pocketsphinx, which knows English phones alone; give "
            "align.method=flat"
        )
    elif config.align.lexicon is not None:
        wrong = f"'align.lexicon' is {config.align.lexicon}; it must be null"
    elif units == "pieces" and config.lm.arpa is not None:
        wrong = f"'lm.arpa' is {config.lm.arpa}, a model of words; give text, lm.text,"
    elif units == "pieces" and config.lm.vocabulary is not None:
        wrong = f"'lm.vocabulary' is {config.lm.vocabulary}; it must be null"
    if wrong:
        raise UserError(f"setting {wrong} with lang.units={units}")


def _check_language_model(config: Config) -> None:
    lm = config.lm
    for name in ("text", "vocabulary", "min_counts", "prune") if lm.arpa is not None else ():
        if getattr(lm, name) is not None:
            must = "be null with lm.arpa, a language model that is not trained"
            raise _wrong(config, f"lm.{name}", must)
    if lm.min_counts is not None and len(lm.min_counts) != lm.order:
        raise UserError(
            f"setting 'lm.min_counts' has {len(lm.min_counts)} numbers; it must have one for each "
            f"of the {lm.order} orders (lm.order)"
        )


def _check_batches(config: Config) -> None:
    train = config.train
    if train.streams > train.batch_frames:
        limit = train.batch_frames
        must = f"be at most train.batch_frames ({limit}): a batch has a frame of each stream"
        raise _wrong(config, "train.streams", must)


def _check_soft_targets(config: Config) -> None:
    soft = config.soft_targets
    count, models = config.train.members, "members (train.members)"
    if soft.external_posteriors:
        count, models = len(soft.external_posteriors), "models of soft_targets.external_posteriors"
    if soft.external_posteriors and config.features.tempos != (1.0,):
        must = "be [1.0] with soft_targets.external_posteriors, whose frames have one tempo"
        raise _wrong(config, "features.tempos", must)
    if soft.weights is not None and len(soft.weights) != count:
        raise UserError(
            f"setting 'soft_targets.weights' has {len(soft.weights)} numbers; it must have one for "
            f"each of the {count} {models}"
        )
    if soft.encoding == "sampled" and soft.bits == 8 and soft.kept_classes > 255:
        must = "be at most 255 for draws that are stored in 8 bits"
        raise _wrong(config, "soft_targets.kept_classes", must)
    usable = ("dense",) if config.distill.loss == "logits" else ("dense", "top-k")
    if config.distill.loss is not None and soft.encoding not in usable:
        must = f"be {' or '.join(usable)} with distill.loss={config.distill.loss}"
        raise _wrong(config, "soft_targets.encoding", must)


def _check_specialists(config: Config) -> None:
    if not config.specialists.count:
        return
    for name, expected in (
        ("soft_targets.mean", "arithmetic"),
        ("soft_targets.weights", None),
        ("soft_targets.external_posteriors", ()),
        ("model.class", None),
    ):
        if _value(config, name) != expected:
            needed = "[]" if expected == () else str(_shown(expected))
            raise _wrong(config, name, f"be {needed} with specialists (specialists.count)")
    if (first := member_models(config)[0]).class_ is not None or first.tree > 1:
        must = "have neither class nor tree in its first model, from which specialists start"
        raise _wrong(config, "train.member_models", must)


def _check_models(config: Config) -> None:
    """Check the settings in which single members and shapes of the distilled model differ."""
    model_with(config.model, {}, "model")
    # Kaldi's frames have any number of features; the trainer knows it.
    filters = math.inf if config.corpus.name == "kaldi_feats" else config.features.mel_bins
    for name, value in (("model.tree", config.model), *shapes(config).items()):
        if value.tree > 1:
            name = name if value is config.model else f"distill.shapes.{name}.tree"
            raise UserError(f"setting '{name}' is not 1; give other trees in train.member_models")
    for model in all_models(config):
        if model.tree > config.senones.trees:
            raise UserError(
                f"setting 'train.member_models' has the tree {model.tree}; it must be at most "
                f"{config.senones.trees} (senones.trees)"
            )
        if model.tree > 1 and (model.class_ is not None or config.align.method == "kaldi"):
            what = "a network of your own" if model.class_ else "align.method=kaldi"
            raise UserError(
                f"setting 'train.member_models' has another tree, which does not work with {what}"
            )
        check_masks(config.train, model.left_frames + 1 + model.right_frames, filters)


def check_masks(train: TrainConfig, frames: int, filters: float) -> None:
    """Raise a UserError for a mask wider than windows of so many frames and filters."""
    for name, most in (("time_mask", frames), ("frequency_mask", filters)):
        if (width := getattr(train, name)) > most:
            must = f"must be at most {most}, the size of a window"
            raise UserError(f"setting 'train.{name}' is {width}; it {must}")


# --- models ---------------------------------------------------------------------------------------


# Settings of `model` that `distill` has, too.
SHAPE_SETTINGS = tuple(
    ["layers", "width", "left_frames", "right_frames", "kind", "channels", "class", "args"]
)


def member_models(config: Config) -> list[ModelConfig]:
    """The model of each member."""
    settings, count = config.train.member_models, config.train.members
    if len(settings) > count:
        raise UserError(
            f"setting 'train.member_models' has {len(settings)} models; it must have at most "
            f"{count} (train.members)"
        )
    models = [
        model_with(config.model, values, f"train.member_models.{number}")
        for number, values in enumerate(settings)
    ] or [config.model]
    return [models[n % len(models)] for n in range(count)]


def all_models(config: Config) -> list[ModelConfig]:
    """The models of the members, and of each shape of the distilled model."""
    return [*member_models(config), *shapes(config).values()]


def shapes(config: Config) -> dict[str, ModelConfig]:
    """The shapes of the distilled models by name; that of `distill.layers`, … has the name ""."""
    own = {key: _value(config, f"distill.{key}") for key in (*SHAPE_SETTINGS, "dropout")}
    chosen = {key: value for key, value in own.items() if value is not None}
    main = model_with(config.model, chosen, "distill")
    more = config.distill.shapes or {}
    for name in more:
        if not re.fullmatch(r"(?=.*[a-z])[a-z0-9_]{1,40}", name) or name == "control":
            raise UserError(
                f"setting 'distill.shapes' has the name '{printable(name)}'; give small letters, "
                "digits and _, with a letter, and not control"
            )
    return {"": main} | {
        name: model_with(main, values, f"distill.shapes.{name}") for name, values in more.items()
    }


def has_own_networks(config: Config) -> bool:
    """Whether a member or a distilled model is of a class of the user's own."""
    return any(m.class_ is not None for m in all_models(config))


def model_with(model: ModelConfig, values: Any, where: str) -> ModelConfig:
    """A model with some settings replaced; a new kind or class drops the old class or its `args`.

    Messages call the settings `where`.KEY.
    """
    known = [name for name in SETTINGS if name.startswith("model.")]
    fields = yaml_dataclasses.convert(ModelConfig, values, "", f"{where}.", known)
    for key, value in values.items():
        if value is not None:
            _check_range(f"{where}.{key}", value, SETTINGS[f"model.{key}"].allowed)
    dropped = {"class_": None, "args": None} if "kind" in fields else {}
    dropped |= {"args": None} if "class_" in fields else {}
    made = dataclasses.replace(model, **(dropped | fields))
    if made.class_ is None and made.args is not None:
        text = f"setting '{where}.args' has values, but '{where}.class' is null; give both"
        raise UserError(text)
    return made
