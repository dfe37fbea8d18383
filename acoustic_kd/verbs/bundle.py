"""`acoustic-kd bundle`: packs the recogniser of a finished experiment into one directory."""

import argparse
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from acoustic_kd.decoding.scoring import error_counts, pooled, replicate
from acoustic_kd.decoding.search import log_likelihoods
from acoustic_kd.decoding.workers import decoder_pool
from acoustic_kd.experiment.normalised import normalised
from acoustic_kd.experiment.onnx_models import (
    check_close,
    check_exportable,
    check_packages,
    write_int8,
    write_scores,
)
from acoustic_kd.experiment.options import add_finished_experiment
from acoustic_kd.experiment.outputs import INVENTORY, SPEAKER_SPACE, STATISTICS, read_split
from acoustic_kd.experiment.sherpa_onnx import TOKENS, write_sherpa
from acoustic_kd.experiment.stages import DEFAULT_MODEL
from acoustic_kd.experiment.transcriber import Transcriber, moments_of_train
from acoustic_kd.features.frame_sequence import FrameSequence
from acoustic_kd.language.pieces import PIECES_FILE
from acoustic_kd.reports.model_card import model_card
from acoustic_kd.runtime import bundle as bundles
from acoustic_kd.runtime.bundle import OnnxScorer, is_bundle
from acoustic_kd.runtime.recognizer import Scorer
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_directory, file_sha256, write_json, write_text
from acoustic_kd.system.hub import check_upload, upload
from acoustic_kd.system.parallel import cores
from acoustic_kd.system.paths import path_argument
from acoustic_kd.training.model import FILES as MODEL_FILES
from acoustic_kd.verbs.decode import references_of, transformed, utterances_to_decode

CARD = "README.md"
TARGETS = RUNTIME, SHERPA = "acoustic-kd", "sherpa-onnx"
RUNTIME_USE = """```python
import acoustic_kd as akd

recognizer = akd.Recognizer.from_pretrained("{name}")
print(recognizer("talk.wav").text)
```

```sh
acoustic-kd transcribe {name} talk.wav --json
```"""


def bundle(
    directory: Path,
    out: Path,
    model: str = DEFAULT_MODEL,
    target: str = RUNTIME,
    int8: bool = False,
    allow_worse: bool = False,
    license_text: str = "",
    name: str = "",
) -> None:
    """Write the bundle of one system of an experiment.

    Args:
        model: `distilled/01`, `members/01` or `ensemble`.
        target: what reads it, one of TARGETS.
        int8: also write the model with weights of 8 bits.
        allow_worse: write that model even if it makes more word errors on dev than chance explains.
        license_text: of the training data, for the model card.
        name: by which the card's code reads it; default: that of the directory.
    """
    check_packages()
    transcriber = Transcriber(directory, model)
    check_exportable(transcriber.acoustics, model)
    out = Path(out)
    _check_options(transcriber, out, target, int8)
    with atomic_directory(out) as folder:
        _write_models(transcriber, folder, out, int8, allow_worse)
        if target == SHERPA:
            use = write_sherpa(transcriber, folder, name or out.name)
        else:
            use = RUNTIME_USE.format(name=name or out.name)
            _copy_files(transcriber, folder)
        write_json(folder / bundles.CONFIG, _config(transcriber, model, target, folder))
        card = model_card(transcriber.experiment, model, folder, out.name, use, license_text)
        write_text(folder / CARD, card)


def _check_options(transcriber: Transcriber, out: Path, target: str, int8: bool) -> None:
    """Raise a UserError for what a bundle cannot be, or would replace."""
    if out.exists() and not (out.is_dir() and _holds_bundle_alone(out)):
        raise UserError(f"{out}: exists and is not a bundle; give another --out")
    if target == SHERPA and (int8 or transcriber.join.pieces):
        what = "--int8" if int8 else "lang.units=pieces"
        raise UserError(f"bundles for {SHERPA} do not have {what}; leave out --for")


def _holds_bundle_alone(folder: Path) -> bool:
    """Whether a folder is empty, or has a bundle's files and no others."""
    names = {path.name for path in folder.iterdir()}
    known = {bundles.CONFIG, CARD, TOKENS, *bundles.NEEDED, *bundles.MAY_HAVE}
    return not names or (is_bundle(folder) and names <= known)


def _copy_files(transcriber: Transcriber, folder: Path) -> None:
    experiment = transcriber.experiment
    graph = experiment.path("graph")
    sources = {name: graph / name for name in (*bundles.GRAPH, PIECES_FILE)}
    sources[bundles.INVENTORY] = experiment.directory / INVENTORY
    sources[bundles.STATISTICS] = experiment.path("frames") / STATISTICS
    sources[bundles.LEXICON] = transcriber.lexicon
    if transcriber.speaker_space is not None:
        sources[bundles.SPEAKER_SPACE] = experiment.path("frames") / SPEAKER_SPACE
    if len(transcriber.system.directories) == 1:  # to go on from, with PyTorch
        own = transcriber.system.directories[0]
        sources |= {name: own / name for name in MODEL_FILES}
    for name, source in sources.items():
        if name != PIECES_FILE or source.is_file():
            shutil.copyfile(source, folder / name)


def _write_models(
    transcriber: Transcriber, folder: Path, out: Path, int8: bool, allow_worse: bool
) -> None:
    """Write the model of any frames, normalised or not, as ONNX; compare it with PyTorch.

    With 8-bit weights, the word errors on dev are compared with those of float32, too.
    """
    acoustics = transcriber.acoustics
    path = folder / bundles.MODEL
    write_scores(acoustics, transcriber.features, 1 / transcriber.weights[0], path)
    scorer = OnnxScorer.read(path, acoustics.log_prior, acoustics.durations, acoustics.window)
    difference = check_close(transcriber.experiment, acoustics, scorer, out)
    print(f"  {path.name}: differs from PyTorch by {difference:.1g} at most on dev")
    if not int8:
        return
    write_int8(path, folder / bundles.INT8_MODEL)
    small = scorer.with_model(folder / bundles.INT8_MODEL)
    dev = [u.id for u in utterances_to_decode(transcriber.experiment, "dev")]
    references = references_of(transcriber.experiment, "dev", dev)
    utterances = utterances_of(transcriber, "dev", dev)
    counts = [
        error_counts(references, recognised(transcriber, each, "dev", utterances)[0])
        for each in (scorer, small)
    ]
    before, after = (pooled(count) for count in counts)
    print(
        f"  {bundles.INT8_MODEL}: dev WER {after.percent:.2f} % ({after.errors} of {after.words}), "
        f"float32 {before.percent:.2f} % ({before.errors})"
    )
    drawn = replicate(np.stack([count[:, 0] for count in counts], 1), counts[0][:, 1])
    surplus = float(np.percentile(drawn[:, 1] - drawn[:, 0], 2.5))
    if surplus > 0 and not allow_worse:
        raise UserError(
            f"8-bit weights make more word errors on dev than chance explains: {after.percent:.2f} "
            f"instead of {before.percent:.2f} %; leave out --int8, or give --allow-worse"
        )


def utterances_of(
    transcriber: Transcriber, split: str, names: Collection[str]
) -> list[FrameSequence]:
    """Some utterances of a split, normalised."""
    return [u for u in normalised(transcriber.experiment, split) if u.id in names]


def recognised(
    transcriber: Transcriber, scorer: Scorer, split: str, utterances: Sequence[FrameSequence]
) -> tuple[dict[str, list[str]], list[FrameSequence]]:
    """Utterance → its words; and the frames that gave them, with transforms of their speakers."""
    experiment, weights = transcriber.experiment, [transcriber.weights]

    def likelihoods() -> Iterator[tuple[str, np.ndarray]]:
        for u in utterances:
            yield u.id, log_likelihoods(scorer.posteriors(u.features), scorer.log_prior)

    jobs = experiment.config.decode.jobs or cores()
    with decoder_pool(experiment.path("graph"), transcriber.decoder.settings, jobs) as decode:
        if transcriber.speaker_space is not None:
            first = decode(likelihoods(), weights, experiment.config.decode.first_beam)
            speakers = {u.id: u.speaker for u in read_split(experiment, split)}
            utterances = list(transformed(transcriber.speaker_space, utterances, speakers, first))
        decoded = decode(likelihoods(), weights)
    words = {name: transcriber.join(result.words[0]) for name, result in decoded.items()}
    return words, list(utterances)


def _config(transcriber: Transcriber, model: str, target: str, folder: Path) -> dict[str, Any]:
    """The contents of `config.json`."""
    if target == SHERPA:
        return {"format": f"{bundles.FORMAT} for {SHERPA}", "model": model}
    moments = moments_of_train(transcriber.experiment)
    config = bundles.BundleConfig(
        format=bundles.FORMAT,
        version=bundles.VERSION,
        model=model,
        features=transcriber.features,
        search=transcriber.decoder.settings,
        weights=transcriber.weights,
        trained_hz=transcriber.trained_hz,
        window=transcriber.acoustics.window,
        train_moments=(moments.count, moments.sum.tolist(), moments.squares.tolist()),
        files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    )
    return asdict(config)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A directory with all that recognising needs: the model as ONNX, the graph, settings, and "
        "a model card. acoustic-kd transcribe reads it without PyTorch."
    )
    parser.epilog = "Example: acoustic-kd bundle exp/an4 --out an4-bundle --int8"
    add_finished_experiment(parser)
    parser.add_argument(
        "--out", type=path_argument, metavar="DIR", required=True, help="directory of the bundle"
    )
    parser.add_argument(
        "--for", dest="target", choices=TARGETS, default=RUNTIME,
        help="what reads the bundle (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--int8", action="store_true", help="also with weights of 8 bits")
    parser.add_argument(
        "--allow-worse", action="store_true",
        help="accept 8-bit weights that make more word errors on dev than chance explains",
    )  # fmt: skip
    parser.add_argument(
        "--upload", metavar="USER/NAME",
        help="also upload to this repository of the Hugging Face hub; a new one is private",
    )  # fmt: skip
    parser.add_argument(
        "--license", default="", metavar="TEXT", help="of the training data, for the model card"
    )


def run(options: argparse.Namespace) -> None:
    if options.upload is not None:
        check_upload(options.upload)
    bundle(
        options.experiment,
        options.out,
        options.model,
        options.target,
        options.int8,
        options.allow_worse,
        options.license,
        options.upload or "",
    )
    size = sum(path.stat().st_size for path in Path(options.out).iterdir())
    print(f"{options.out}: {size / 1e6:.1f} MB")
    if options.upload is not None:
        print(upload(Path(options.out), options.upload))
