"""Settings: one dataclass a stage, filled from YAML and dotted overrides.

A key nobody knows is an error that suggests the nearest known one, and a value of the wrong type
is an error that names the setting, so that a typing mistake never trains the wrong model.
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

from acoustic_kd.errors import UserError


@dataclass(frozen=True)
class CorpusConfig:
    """Which speech: see `acoustic_kd.corpora`."""

    name: str = "demo"  # demo, an4, kaldi_dir
    data_dir: str | None = None
    dev_share: float = 0.1  # of the train utterances, by speaker, where the corpus has no dev part
    # Speech without transcripts, which only the distilled model hears (docs/transfer-set.md): a
    # Kaldi data directory, beside whichever corpus; its `text` is not read.
    untranscribed: str | None = None
    untranscribed_share: float = 0.0  # of train, by speaker, whose transcripts are taken away
    seed: int = 1
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
    normalise: str = "speaker"  # mean and variance over each: speaker, utterance, global


@dataclass(frozen=True)
class AlignConfig:
    """Forced alignment to HMM states."""

    lexicon: str | None = None  # path; null: the corpus's own, else pocketsphinx's English one
    max_failed: float = 0.05  # more than this share of a split unaligned is an error


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
    epochs: int = 12
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
    bfloat16: bool | None = None  # null: where the device has instructions for it
    # A batch whose logits and their gradient need more memory goes through the model in parts.
    logits_mb: float = 1000.0  # 10^6 bytes, a process
    checkpoint_steps: int = 1000


@dataclass(frozen=True)
class SoftTargetConfig:
    """The ensemble's tempered predictions, stored for the transfer set."""

    temperature: float = 2.0
    mean: str = "arithmetic"  # of the members' predictions; geometric: of their logits
    weights: tuple[float, ...] | None = None  # of the members in the mean; null: equal
    encoding: str = "top-k"  # top-k, top-p, sampled, dense: see `acoustic_kd.soft_targets.encoding`
    kept_classes: int = 20  # of top-k; the most for top-p; the number of draws for sampled
    kept_mass: float = 0.98  # that top-p asks for
    bits: int = 16  # of a stored probability: 16 or 8
    seed: int = 0  # of the draws
    memory_gb: float | None = None  # for the members and their predictions; null: what is free


@dataclass(frozen=True)
class DistillConfig:
    """The distilled model; settings that are null are those of `train`."""

    models: int = 2
    # transcribed: train; untranscribed: speech without transcripts; all: both, if there are both
    transfer_set: str = "all"
    hard_weight: float = 0.5  # for what is transcribed
    dropout: float = 0.1  # soft targets regularise: less is needed than for members
    epochs: int | None = None
    learning_rate: float | None = None
    decay_below: float | None = 0.0  # it gains slowly for longer before it is time to cool
    decay: float | None = None


@dataclass(frozen=True)
class DecodeConfig:
    """Language model, search and the grid that is tuned on dev."""

    ngram: int = 3
    arpa: str | None = None  # a language model of the user's instead of one from the transcripts
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
    align: AlignConfig = field(default_factory=AlignConfig)
    senones: SenoneConfig = field(default_factory=SenoneConfig)
    frames: FrameConfig = field(default_factory=FrameConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    soft_targets: SoftTargetConfig = field(default_factory=SoftTargetConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)


Range = tuple[Callable[[Any], bool], str]  # what holds of a permitted value, and how to say it


def _at_least(low: float, high: float = math.inf) -> Range:
    text = f"{low} or more" if high == math.inf else f"{low} to {high}"
    return (lambda value: low <= value <= high and math.isfinite(value)), text


_POSITIVE: Range = (lambda value: 0 < value < math.inf), "greater than 0"
_FINITE: Range = math.isfinite, "a finite number"
_DECAY: Range = (lambda factor: 0 < factor <= 1), "greater than 0, at most 1"
_RATE: Range = (lambda value: 0 <= value < 1), "at least 0 and less than 1"


def _all(check: Range) -> Range:
    fits, text = check
    return (lambda values: bool(values) and all(map(fits, values))), f"one or more numbers, {text}"


# Settings whose type permits more than makes sense. Every comparison is written so that it does not
# hold of NaN.
RANGES: dict[str, Range] = {
    "corpus.dev_share": ((lambda share: 0 < share < 1), "between 0 and 1, both excluded"),
    "corpus.untranscribed_share": _RATE,
    "corpus.seed": _at_least(0),
    "corpus.demo_train_voices": _at_least(1, 16),  # as many as `corpora.demo` has
    "corpus.demo_dev_voices": _at_least(1, 4),
    "corpus.demo_test_voices": _at_least(1, 6),
    "corpus.demo_train_sentences": _at_least(1, 500),
    "corpus.demo_eval_sentences": _at_least(1, 500),
    "features.sample_rate": _at_least(1000),
    "features.mel_bins": _at_least(13),  # as many as the cepstra that the tree is grown on
    "features.low_hz": _at_least(0),
    "features.high_hz": _FINITE,
    "features.train_warps": (
        lambda w: 1 in w and len(set(w)) == len(w) and all(0.5 <= x <= 2 for x in w),
        "different numbers from 0.5 to 2, with 1 (the speech itself) among them",
    ),
    "features.normalise": (
        lambda over: over in ("speaker", "utterance", "global"),
        "speaker, utterance or global",
    ),
    "align.max_failed": _RATE,
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
    "train.schedule": ((lambda name: name in ("dev", "cosine")), "dev or cosine"),
    "train.decay_below": _FINITE,
    "train.decay": _DECAY,
    "train.stop_rate": _at_least(0, 1),
    "train.logits_mb": _POSITIVE,
    "train.checkpoint_steps": _at_least(1),
    "soft_targets.temperature": _POSITIVE,
    "soft_targets.mean": (
        (lambda mean: mean in ("arithmetic", "geometric")),
        "arithmetic or geometric",
    ),
    "soft_targets.weights": (
        lambda weights: all(0 <= w < math.inf for w in weights) and sum(weights) > 0,
        "numbers of 0 or more, one a member and not all 0",
    ),
    "soft_targets.encoding": (
        lambda name: name in ("top-k", "top-p", "sampled", "dense"),
        "top-k, top-p, sampled or dense",
    ),
    "soft_targets.kept_classes": _at_least(1, 65535),
    "soft_targets.kept_mass": ((lambda mass: 0 < mass <= 1), "greater than 0, at most 1"),
    "soft_targets.bits": ((lambda bits: bits in (8, 16)), "8 or 16"),
    "soft_targets.seed": _at_least(0),
    "soft_targets.memory_gb": _POSITIVE,
    "distill.models": _at_least(1),
    "distill.transfer_set": (
        lambda name: name in ("all", "transcribed", "untranscribed"),
        "all, transcribed or untranscribed",
    ),
    "distill.hard_weight": _at_least(0),
    "distill.epochs": _at_least(1),
    "distill.dropout": _RATE,
    "distill.learning_rate": _POSITIVE,
    "distill.decay_below": _FINITE,
    "distill.decay": _DECAY,
    "decode.ngram": _at_least(1),
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
    features = config.features
    nyquist = features.sample_rate / 2
    high = features.high_hz if features.high_hz > 0 else nyquist + features.high_hz
    if not features.low_hz < high <= nyquist:
        raise UserError(
            f"setting 'features.high_hz' is {features.high_hz:g}; it must lie above features.low_hz"
            f" ({features.low_hz:g}) and at or below half the sample rate ({nyquist:g})"
        )
    soft = config.soft_targets
    if soft.weights is not None and len(soft.weights) != config.train.members:
        raise UserError(
            f"setting 'soft_targets.weights' has {len(soft.weights)} numbers; it must have one for "
            f"each of the {config.train.members} members (train.members)"
        )
    if soft.encoding == "sampled" and soft.bits == 8 and soft.kept_classes > 255:
        raise UserError(
            f"setting 'soft_targets.kept_classes' is {soft.kept_classes}; it must be 255 or less "
            "where that many draws are stored in 8 bits"
        )


def check_values(values: dict[str, Any]) -> None:
    """Likewise, for some settings by name."""
    for name, value in values.items():
        fits, text = RANGES.get(name, (None, ""))
        if fits is not None and value is not None and not fits(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise UserError(f"setting '{name}' is {shown}; it must be {text}")


def load_config(path: Path | None, overrides: list[str]) -> Config:
    """Read `path` (YAML; null for defaults) and apply overrides such as `model.width=2560`.

    Raises:
        UserError: the file is missing or malformed, a key is unknown (the nearest is suggested),
            or a value has the wrong type or is out of range.
    """
    source = "command line" if path is None else str(path)
    values = {} if path is None else read_yaml(Path(path))
    config = fill(Config, values, source, "")
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
    key = path[0]
    if not dataclasses.is_dataclass(node) or key not in {f.name for f in dataclasses.fields(node)}:
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
