"""The features stage: log-mel filterbanks of every utterance."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from acoustic_kd.corpora import load as corpora
from acoustic_kd.corpora.utterances import MAX_EXCLUDED_SHARE, Exclusion, Utterance
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.outputs import UNLABELLED, check_kept, read_split, report_exclusions
from acoustic_kd.experiment.transfer_set import all_splits
from acoustic_kd.features.audio import AudioError, read_audio
from acoustic_kd.features.fbank import log_mel
from acoustic_kd.features.frame_sequence import FrameSequence as Frames
from acoustic_kd.features.frames import write_store
from acoustic_kd.kaldi.archives import parse_place, read_place
from acoustic_kd.kaldi.objects import MATRIX
from acoustic_kd.settings import FeatureConfig
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.parallel import map_ordered


def _extract(config: FeatureConfig, utterance: Utterance) -> Frames | AudioError:
    """The frames of one utterance, or why there are none."""
    try:
        samples = read_audio(utterance, config.sample_rate)
    except AudioError as error:
        return error
    features = log_mel(samples, config)
    if not len(features):
        return AudioError(f"{utterance.audio}: shorter than one window of 25 ms", "too short")
    return Frames(utterance.id, features, None)


def _read(utterance: Utterance) -> Frames | AudioError:
    """The frames of one utterance in a Kaldi archive, or the reason why there are none."""
    place = parse_place(utterance.id, utterance.audio, Path())
    features = read_place(place, MATRIX, utterance.id)
    if not len(features):
        return AudioError(f"{utterance.audio}: no frames", "no frames")
    if not np.isfinite(features).all():
        return AudioError(f"{utterance.audio}: a feature is infinite or NaN", "not numbers")
    return Frames(utterance.id, features, None)


def run(experiment: Experiment) -> None:
    """Compute the log-mel frames of every split, or read them from an archive."""
    config = experiment.config
    out, excluded = experiment.path("features"), []
    splits = {split: read_split(experiment, split) for split in all_splits(experiment)}
    items = [utterance for utterances in splits.values() for utterance in utterances]
    # All splits in one call, because processes take seconds to start.
    has_features = corpora.has_features(config.corpus)
    extract = _read if has_features else partial(_extract, config.features)
    work = map_ordered(extract, items, "features")
    with closing(work):
        results = _of_one_dimension(work)
        for split, utterances in splits.items():
            failed: list[tuple[str, AudioError]] = []
            frames = _kept(utterances, results, failed)
            shard_frames = config.frames.shard_frames
            written = write_store(out / split, frames, UNLABELLED, shard_frames, "float32")
            excluded += [Exclusion(name, split, str(error)) for name, error in failed]
            kinds = Counter(error.kind for _, error in failed)
            _check_kept(out, split, len(utterances) - len(failed), excluded, kinds)
            print(f"  {split}: {written} frames, {written / 360_000:.2f} h")
    report_exclusions(out, excluded)


def _kept(
    utterances: list[Utterance],
    results: Iterator[Frames | AudioError],
    failed: list[tuple[str, AudioError]],
) -> Iterator[Frames]:
    """Frames of the next utterances of `results`; the errors of the others go to `failed`."""
    for utterance in utterances:
        result = next(results)
        if isinstance(result, AudioError):
            failed.append((utterance.id, result))
        else:
            yield result


def _check_kept(
    out: Path, split: str, kept: int, excluded: list[Exclusion], kinds: Counter[str]
) -> None:
    """Refuse a split of which too much is left out; sum up the reasons by their kind."""
    try:
        check_kept(out, split, kept, excluded, MAX_EXCLUDED_SHARE)
    except UserError as error:
        counts = ", ".join(f"{number} × {kind}" for kind, number in kinds.most_common())
        raise UserError(f"{error}; all reasons: {counts}") from None


def _of_one_dimension(results: Iterable[Frames | AudioError]) -> Iterator[Frames | AudioError]:
    """The results; a UserError if frames have another number of features than the first ones."""
    first: Frames | None = None
    for result in results:
        if isinstance(result, Frames):
            first = first or result
            dimension, first_dimension = result.features.shape[1], first.features.shape[1]
            if dimension != first_dimension:
                raise UserError(
                    f"utterance '{result.id}' has {dimension} features a frame, but '{first.id}' "
                    f"has {first_dimension}; give archives with the same features"
                )
        yield result
