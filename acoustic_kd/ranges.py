"""Which values of the settings make sense, beyond having the right type."""

import math
from collections.abc import Callable
from typing import Any

from acoustic_kd.config import (
    ALIGNERS,
    CASES,
    DEMO_LANGUAGES,
    ENCODINGS,
    LIBRISPEECH_PARTS,
    MEANS,
    PIECE_MODELS,
    TRACKERS,
    TRANSFER_SETS,
    UNITS,
    UNKNOWN_WORDS,
    Config,
    CorpusConfig,
    DecodeConfig,
    all_settings,
)
from acoustic_kd.errors import UserError

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
    "features.train_warps": (
        lambda w: 1 in w and len(set(w)) == len(w) and all(0.5 <= x <= 2 for x in w),
        "different numbers from 0.5 to 2, with 1 (the speech itself) among them",
    ),
    "features.transfer_warps": (
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
    "align.rounds": _at_least(1, 1000),
    "align.gaussians": _one_of(1, 2, 4, 8, 16, 32, 64),
    "align.flat_hours": _POSITIVE,
    "align.outliers": _POSITIVE,
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
    "train.logits_mb": _POSITIVE,
    "train.memory_gb": _POSITIVE,
    "train.lanes": _at_least(1),
    "train.checkpoint_steps": _at_least(1),
    "soft_targets.posteriors": ((lambda names: all(names)), "paths of archives"),
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
    "decode.ngram": _at_least(1),
    "decode.vocabulary": _at_least(1),
    "decode.min_counts": (
        lambda counts: counts[:1] == (1,) and list(counts) == sorted(counts),
        "one number an order, the first 1 (words are kept), never falling",
    ),
    "decode.prune": _SHARE,
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
    _check_language_model(config.decode)
    _check_units(config)
    features = config.features
    nyquist = features.sample_rate / 2
    high = features.high_hz if features.high_hz > 0 else nyquist + features.high_hz
    if not features.low_hz < high <= nyquist:
        raise UserError(
            f"setting 'features.high_hz' is {features.high_hz:g}; it must lie above features.low_hz"
            f" ({features.low_hz:g}) and at or below half the sample rate ({nyquist:g})"
        )
    if both := set(features.train_warps) & set(features.transfer_warps):
        raise UserError(
            f"setting 'features.transfer_warps' has {min(both):g}, and so has "
            "features.train_warps; give each copy once: the transfer set has both"
        )
    if (config.align.method == "dnn") != (config.align.model is not None):
        raise UserError(
            f"setting 'align.model' is {config.align.model or 'null'} and 'align.method' is "
            f"{config.align.method}; a model is given where the method is dnn, and only there"
        )
    _check_kaldi(config)
    soft = config.soft_targets
    averaged, those = config.train.members, "members (train.members)"
    if soft.posteriors:
        averaged, those = len(soft.posteriors), "models of soft_targets.posteriors"
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
    elif config.features.train_warps != (1.0,):
        wrong = f"'features.train_warps' is {list(config.features.train_warps)}; it must be [1.0]"
    elif config.features.transfer_warps:
        wrong = (
            f"'features.transfer_warps' is {list(config.features.transfer_warps)}; it must be []"
        )
    elif not align.snip_edges:
        wrong = "'align.snip_edges' is False; it must be true"
    if wrong:
        raise UserError(
            f"setting {wrong} where corpus.name is kaldi_feats: there are frames and no sound"
        )


def _check_language_model(decode: DecodeConfig) -> None:
    """Likewise, for those that choose the language model."""
    if decode.arpa is not None:
        for name in ("lm_text", "vocabulary", "min_counts", "prune"):
            value = getattr(decode, name)
            if value is not None:
                raise UserError(
                    f"setting 'decode.{name}' is {value}; it must be null where decode.arpa gives "
                    "a language model, which is not trained"
                )
    if decode.min_counts is not None and len(decode.min_counts) != decode.ngram:
        raise UserError(
            f"setting 'decode.min_counts' has {len(decode.min_counts)} numbers; it must have one "
            f"for each of the {decode.ngram} orders (decode.ngram)"
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
    elif units == "pieces" and config.decode.arpa is not None:
        wrong = (
            f"'decode.arpa' is {config.decode.arpa}, a model of words; give text, decode.lm_text,"
        )
    elif units == "pieces" and config.decode.vocabulary is not None:
        wrong = f"'decode.vocabulary' is {config.decode.vocabulary}; it must be null"
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
