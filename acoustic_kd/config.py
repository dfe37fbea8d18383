"""Settings: one dataclass a stage.

`acoustic_kd.settings` reads them, `acoustic_kd.ranges` says which values make sense.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

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
    *("decode.arpa", "decode.lm_text"),
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
    train_warps: tuple[float, ...] = (1.0,)  # a copy of train for each vocal tract length
    # Further copies, from which only the distilled models and their control learn: each epoch draws
    # one copy of each utterance at random, of these and of `train_warps`. The ensemble predicts
    # copies that its members have not learnt from; that says more than the labels.
    transfer_warps: tuple[float, ...] = ()
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
    rounds: int = 30
    gaussians: int = 8
    flat_hours: float = 4.0
    # For flat: utterances of train that fit their transcripts worse than most, by so many robust
    # standard deviations, are left out; null: none.
    outliers: float | None = 6.0


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
    logits_mb: float = 1000.0  # 10^6 bytes, a process
    # For frames and soft targets, a process; what does not fit is read chunk by chunk, epoch for
    # epoch (docs/scale.md).
    memory_gb: float | None = None  # 10^9 bytes; null: what is free
    # A batch takes an equal share of each lane, and of several processes each reads its lanes alone
    # (docs/scale.md). Of lanes and processes one must be a multiple of the other.
    lanes: int = 1
    checkpoint_steps: int = 1000
    tracker: str | None = None  # of TRACKERS: every epoch's metrics go there, too


@dataclass(frozen=True)
class SoftTargetConfig:
    """The ensemble's tempered predictions, stored for the transfer set."""

    # Archives of posteriors of models outside, Kaldi's, one a model, that take the members' place:
    # docs/kaldi.md.
    posteriors: tuple[str, ...] = ()
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
class DecodeConfig:
    """Language model, search and the grid that is tuned on dev."""

    # The language model: docs/language-model.md. A ready one: the path of an ARPA file, or one of
    # LibriSpeech's by name, such as 3-gram.pruned.1e-7; null: an n-gram is trained.
    arpa: str | None = None
    lm_text: str | None = None  # path: trained on this text; null: on the train transcripts
    ngram: int = 3  # the order
    vocabulary: int | None = None  # so many of the most frequent words; null: all
    min_counts: tuple[int, ...] | None = None  # an order: rarer n-grams are left out; null: none
    prune: float | None = None  # n-grams that the perplexity grows less by; null: none
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
