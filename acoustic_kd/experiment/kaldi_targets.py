"""Targets from Kaldi: `align.method=kaldi` takes pdf-ids of a tree of Kaldi's as classes.

Three stages then differ: align copies the given alignments, or the best classes of posteriors,
with as many frames as the features; senones counts the classes; frames takes them as targets.
docs/kaldi.md
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from acoustic_kd.corpora.utterances import SPLITS, Exclusion
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.outputs import (
    INVENTORY,
    FrameLabels,
    check_kept,
    inventory_of,
    read_split,
    report_exclusions,
)
from acoustic_kd.features.frame_sequence import Classes
from acoustic_kd.features.frames import read_index
from acoustic_kd.kaldi.archives import Table, table_files
from acoustic_kd.kaldi.objects import ALIGNMENT, POSTERIOR, integer_bytes, write_objects
from acoustic_kd.kaldi.posteriors import best_classes, frames_as_here
from acoustic_kd.settings import Config
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import (
    file_sha256,
    json_sha256,
    read_json,
    size_and_ends_digest,
    write_json,
)

FORMAT = "acoustic_kd pdfs 1"


def check_has_tree(experiment: Experiment) -> None:
    """Raise a UserError if the classes are pdf-ids of Kaldi, for which no graph can be built."""
    if takes_pdfs(experiment.config):
        raise UserError(
            "with align.method=kaldi the classes are Kaldi's pdf-ids, for which no graph is built; "
            "stop after 'distill' (--stop-stage distill) and decode the archives of "
            "'acoustic-kd posteriors' with Kaldi's graph"
        )


# --- align --------------------------------------------------------------------------------------


def run_pdf_align(experiment: Experiment) -> None:
    """Write the pdf-id of every frame of each split, one archive a split, as far as given."""
    config, out = experiment.config.align, experiment.path("align")
    if config.pdf_ali is not None:
        table = Table(config.pdf_ali, ALIGNMENT)
    else:
        table = Table(config.pdf_post or "", POSTERIOR)
    excluded: list[Exclusion] = []
    for split in SPLITS:
        utterances = read_split(experiment, split)
        known = {u.id for u in utterances if u.id in table}
        failed = [
            Exclusion(u.id, split, f"not in {table.given}") for u in utterances if u.id not in known
        ]
        if split == "test" and not known:
            print("  test: no alignments, so no frame accuracy")
            failed = []
        excluded += failed
        check_kept(out, split, len(known), excluded, config.max_failed)
        index = read_index(experiment.path("features") / split)
        lengths = {name: frames for name, frames in index.lengths.items() if name in known}
        aligned = ((name, integer_bytes(_labels(table, name, lengths[name], experiment.config)))
                   for name in table if name in lengths)  # fmt: skip
        number = write_objects(out / f"{split}.ark", aligned)
        print(f"  {split}: {number} utterances, {sum(lengths.values())} frames")
    table.close()
    report_exclusions(out, excluded)


def _labels(table: Table, name: str, frames: int, config: Config) -> np.ndarray:
    """The pdf-id of each frame of an utterance, int32 [T]."""
    where, align = f"{table.given} (utterance '{name}')", config.align
    labels = frames_as_here(table[name], frames, align.snip_edges, where)
    if align.pdf_post is not None:
        labels = best_classes(labels, where)
    most = labels.max(initial=0)
    if labels.min(initial=0) < 0 or (align.pdfs is not None and most >= align.pdfs):
        wrong = labels.min() if labels.min() < 0 else most
        raise UserError(
            f"{where}: {wrong} is not a pdf-id; pdf-ids are 0 to "
            f"{'…' if align.pdfs is None else align.pdfs - 1}; make them of transition-ids by "
            "ali-to-pdf, and set align.pdfs to the number that hmm-info prints"
        )
    return labels


# --- senones ------------------------------------------------------------------------------------


def run_pdf_senones(experiment: Experiment) -> None:
    """Count the classes: `align.pdfs`, or as many as the largest pdf-id says."""
    given = experiment.config.align.pdfs
    paths = {split: experiment.path("align") / f"{split}.ark" for split in SPLITS}
    stored = (labels for path in paths.values() for _, labels in _stored(path))
    ends = [(int(labels.min()), int(labels.max()) + 1) for labels in stored if len(labels)]
    least, count = min(first for first, _ in ends), max(last for _, last in ends)
    # Files do not say what a pdf-id means: other alignments may belong to another tree.
    value = {
        "format": FORMAT, "pdfs": given or count, "alignment": file_sha256(paths["train"])
    }  # fmt: skip
    write_json(experiment.directory / INVENTORY, value)
    if given is None:
        print(f"  {count} pdf-ids, by the largest in the alignments (align.pdfs says how many)")
        if least:
            print("  (no frame is of 0: are these transition-ids, to be put through ali-to-pdf?)")
    else:
        print(f"  {given} pdf-ids")


def _stored(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    if path.stat().st_size:  # a test split may lack alignments
        yield from Table(str(path), ALIGNMENT).items()


# --- frames -------------------------------------------------------------------------------------


def pdf_labels(experiment: Experiment, split: str) -> FrameLabels:
    """The pdf-ids of a split's frames."""
    aligned = dict(_stored(experiment.path("align") / f"{split}.ark"))
    return FrameLabels(_pdfs(experiment), aligned, _run_lengths)


class _Pdfs(TypedDict):
    """The content of `inventory.json` if the classes are pdf-ids."""

    format: str
    pdfs: int
    alignment: str


def _pdfs(experiment: Experiment) -> Classes:
    experiment.verify("senones", INVENTORY.name)
    value = read_json(experiment.directory / INVENTORY, _Pdfs, "an inventory of pdf-ids")
    return Classes(value["pdfs"], json_sha256(value)[:32])


def classes_of(experiment: Experiment) -> Classes:
    """The experiment's classes: senones, or pdf-ids of Kaldi."""
    if takes_pdfs(experiment.config):
        return _pdfs(experiment)
    return inventory_of(experiment).classes


def _run_lengths(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.flatnonzero(np.diff(labels, prepend=-1))
    return labels[first], np.diff(first, append=len(labels))


def posterior_sources(config: Config) -> dict[str, str]:
    """A digest of each model's archives of posteriors, from sizes and ends of the files."""
    archives = map(table_files, config.soft_targets.external_posteriors)
    marks = [json_sha256([size_and_ends_digest(path) for path in paths]) for paths in archives]
    return {f"posteriors {number}": mark for number, mark in enumerate(marks, start=1)}


# --- corpus -------------------------------------------------------------------------------------


def takes_pdfs(config: Config) -> bool:
    """Whether the classes are pdf-ids of Kaldi. Then nothing is aligned, so no lexicon is read.

    docs/kaldi.md
    """
    return config.align.method == "kaldi"
