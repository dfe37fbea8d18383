"""The first stages: the corpus, its features, and how these are normalised."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from acoustic_kd import corpora
from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.audio import AudioError, read_audio
from acoustic_kd.config import Config, FeatureConfig
from acoustic_kd.corpora.demo_text import vocabulary
from acoustic_kd.corpora.manifest import (
    UNTRANSCRIBED,
    Exclusion,
    Utterance,
    check_excluded,
    normalise_text,
    read_manifest,
    write_manifest,
)
from acoustic_kd.corpora.openslr import LEXICONS, file_of
from acoustic_kd.errors import UserError
from acoustic_kd.features import (
    copy_id,
    copy_mark,
    gather_moments,
    grouping,
    log_mels,
    original_id,
)
from acoustic_kd.files import digest, ends_mark, file_digest, write_jsonl
from acoustic_kd.frames import Classes, read_utterances, shard_paths, write_store
from acoustic_kd.frames import Utterance as Frames
from acoustic_kd.kaldi.objects import MATRIX
from acoustic_kd.kaldi.tables import archive_of, parse_place, read_place
from acoustic_kd.lexicon import Lexicon, as_once_read, read_lexicon, write_lexicon
from acoustic_kd.parallel import map_ordered
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.language_model import check as check_language_model
from acoustic_kd.stages.spelling import check_leaves, is_spelled, normaliser, spelling_source
from acoustic_kd.stages.transfer import LEARNT, all_splits, chosen_splits
from acoustic_kd.stages.unknown_words import (
    spoken_words,
    unknown_words_source,
    with_unknown_words,
)

UNLABELLED = Classes(0, "")
LEXICON = "lexicon.txt"


# --- corpus -------------------------------------------------------------------------------------


def takes_pdfs(config: Config) -> bool:
    """Whether the classes are pdf-ids of Kaldi's: nothing is aligned, so no lexicon is read.

    docs/kaldi.md
    """
    return config.align.method == "kaldi"


def corpus_sources(config: Config) -> dict[str, str]:
    """The utterances as read, with what is in each sound file, and the lexicon's text."""
    if takes_pdfs(config):
        sources = {"lexicon": "none"}
    else:
        sources = spelling_source(config) or lexicon_source(config)
    words: Iterable[str] = map(normalise_text, vocabulary(config.corpus.demo_language))
    if corpora.data_dir(config.corpus) is not None:
        # Only the demo writes anything there.
        corpus = corpora.load(config.corpus, Path(), normaliser(config))
        rows = _source_rows(corpus.splits)
        sources["data"] = digest([rows, [asdict(exclusion) for exclusion in corpus.excluded]])
        words = spoken_words(corpus.splits)
    elif more := corpora.read_untranscribed(config.corpus):
        sources["data"] = digest(_source_rows({UNTRANSCRIBED: more}))
    return sources | unknown_words_source(config, _lexicon(config), words)


def lexicon_source(config: Config) -> dict[str, str]:
    """The lexicon's text; and that its phones are as written, where they once were not."""
    sources = {"lexicon": file_digest(_lexicon_path(config))}
    if any(as_once_read(phone) != phone for phone in _lexicon(config).phones()):
        sources["phones"] = "as written"
    return sources


def _source_rows(splits: dict[str, list[Utterance]]) -> list[list]:
    """Every utterance with its split, and what its sound file, or archive, is known by."""
    mark = cache(ends_mark)
    return [
        [split, asdict(utterance), *mark(archive_of(utterance.audio))]
        for split, utterances in splits.items()
        for utterance in utterances
    ]


def run_corpus(experiment: Experiment) -> None:
    """Read the corpus; write a manifest a split, the lexicon and the exclusions."""
    out = experiment.path("corpus")
    config = experiment.config
    check_language_model(config)  # refused now, not when all is trained
    corpus = corpora.load(config.corpus, out / "audio", normaliser(config))
    chosen_splits(config, tuple(corpus.splits))  # likewise
    for split, utterances in corpus.splits.items():
        write_manifest(out / f"{split}.jsonl", utterances)
        speakers = len({u.speaker for u in utterances})
        print(f"  {split}: {len(utterances)} utterances, {speakers} speakers")
    if not takes_pdfs(config):
        lexicon = with_unknown_words(experiment, _lexicon(config), spoken_words(corpus.splits))
        write_lexicon(out / LEXICON, lexicon, is_spelled(config))
        if is_spelled(config):
            check_leaves(config, lexicon)
    report_exclusions(out, corpus.excluded)


def _lexicon(config: Config) -> Lexicon:
    """The lexicon that is given; none where words are spelled, or nothing is said to be aligned."""
    if is_spelled(config) or takes_pdfs(config):
        return Lexicon({})
    path = _lexicon_path(config)
    return _read_once(path, file_digest(path))


@lru_cache(maxsize=1)  # the sources ask for it, then the stage
def _read_once(path: Path, content: str) -> Lexicon:
    return read_lexicon(path)


def _lexicon_path(config: Config) -> Path:
    if config.align.lexicon is not None:
        given = Path(config.align.lexicon)
        named = config.align.lexicon in LEXICONS and not given.is_file()
        return file_of(given.name, corpora.librispeech_dir(config.corpus)) if named else given
    return corpora.own_lexicon(config.corpus) or bundled_lexicon()


def check_kept(
    directory: Path, split: str, kept: int, excluded: list[Exclusion], most: float
) -> None:
    """Raise a UserError where too many of a split were left out, when all have been named.

    Args:
        excluded: of this split and of others.
        most: as of `check_excluded`.
    """
    try:
        check_excluded(split, kept, [one for one in excluded if one.split == split], most)
    except UserError:
        report_exclusions(directory, excluded)
        raise


def report_exclusions(directory: Path, excluded: list[Exclusion]) -> None:
    """Name what was left out in `excluded.jsonl`, and count it on the terminal."""
    write_jsonl(directory / "excluded.jsonl", (asdict(exclusion) for exclusion in excluded))
    if excluded:
        print(f"  {len(excluded)} utterances left out, named in {directory / 'excluded.jsonl'}")


# --- features -----------------------------------------------------------------------------------

_features: FeatureConfig


def _start_features(config: FeatureConfig) -> None:
    global _features
    _features = config


def _extract(item: tuple[Utterance, tuple[float, ...]]) -> list[Frames] | str:
    """The frames of one utterance at each warp, or why there are none."""
    utterance, warps = item
    try:
        samples = read_audio(utterance, _features.sample_rate)
    except AudioError as error:
        return str(error)
    copies = log_mels(samples, _features, warps)
    if not len(copies[0]):
        return f"{utterance.audio}: shorter than one window of 25 ms"
    named = zip(warps, copies, strict=True)
    return [Frames(copy_id(utterance.id, warp), features, None) for warp, features in named]


def _take(item: tuple[Utterance, tuple[float, ...]]) -> list[Frames] | str:
    """The frames that an archive of Kaldi's has of one utterance, or why there are none."""
    utterance, _ = item
    place = parse_place(utterance.id, utterance.audio, Path())
    features = read_place(place, MATRIX, utterance.id)
    if not len(features):
        return f"{utterance.audio}: no frames"
    if not np.isfinite(features).all():
        return f"{utterance.audio}: a feature is infinite or no number"
    return [Frames(utterance.id, features, None)]


def run_features(experiment: Experiment) -> None:
    """Compute the log-mel frames of every split, or take those of an archive."""
    config = experiment.config
    grouping(config.features.normalise)  # a wrong setting is found before the work, not after
    out, excluded = experiment.path("features"), []
    splits = {
        split: read_manifest(experiment.path("corpus") / f"{split}.jsonl")
        for split in all_splits(experiment)
    }
    items = [
        (utterance, config.features.train_warps if split in LEARNT else (1.0,))
        for split, utterances in splits.items()
        for utterance in utterances
    ]
    # One round for all splits: processes take seconds to start.
    find = _take if corpora.is_of_features(config.corpus) else _extract
    work = map_ordered(find, items, "features", 0, _start_features, (config.features,))
    with closing(work) as results:
        same = SameDimension()
        for split, utterances in splits.items():
            failed: list[Exclusion] = []
            frames = map(same.check, _kept(split, utterances, results, failed))
            shard_frames = config.frames.shard_frames
            written = write_store(out / split, frames, UNLABELLED, shard_frames, "float32")
            check_excluded(split, len(utterances) - len(failed), failed)
            print(f"  {split}: {written} frames, {written / 360_000:.2f} h")
            excluded += failed
    report_exclusions(out, excluded)


def _kept(
    split: str,
    utterances: list[Utterance],
    results: Iterator[list[Frames] | str],
    failed: list[Exclusion],
) -> Iterator[Frames]:
    """The frames of a split, off the front of `results`; what has none is added to `failed`."""
    for utterance in utterances:
        result = next(results)
        if isinstance(result, str):
            failed.append(Exclusion(utterance.id, split, result))
        else:
            yield from result


class SameDimension:
    """Sees to it that all frames have as many features."""

    def __init__(self) -> None:
        self._first: Frames | None = None

    def check(self, frames: Frames) -> Frames:
        """The same frames.

        Raises:
            UserError: others before them had another number.
        """
        self._first = self._first or frames
        here, there = frames.features.shape[1], self._first.features.shape[1]
        if here != there:
            raise UserError(
                f"utterance '{frames.id}' has {here} features a frame, but '{self._first.id}' has "
                f"{there}; take archives that were made alike"
            )
        return frames


def stored_frames(directory: Path) -> Iterator[Frames]:
    """The utterances of a store, shard by shard."""
    for path in shard_paths(directory):
        yield from read_utterances(path)


def normalised(experiment: Experiment, split: str) -> Iterator[Frames]:
    """The frames of a split, normalised over each group of `features.normalise`."""
    return normalised_store(experiment, experiment.path("features"), split)


def normalised_store(experiment: Experiment, features: Path, split: str) -> Iterator[Frames]:
    """The frames of the store `features`/`split`, normalised over each group.

    Global moments are those of `features`/train; a speaker's or an utterance's are its own.
    """
    method = experiment.config.features.normalise
    group = grouping(method)
    source = "train" if method == "global" else split
    manifest = experiment.path("corpus")
    speakers = {
        name: {u.id: u.speaker for u in read_manifest(manifest / f"{name}.jsonl")}
        for name in {source, split}
    }

    def key(name: str, part: str) -> tuple[str, str]:
        # A copy sounds like another speaker.
        return group(name, speakers[part][original_id(name)]), copy_mark(name)

    moments = gather_moments(
        (key(u.id, source), u.features) for u in stored_frames(features / source)
    )
    for utterance in stored_frames(features / split):
        own = moments[key(utterance.id, split)]
        yield Frames(utterance.id, own.normalise(utterance.features), None)
