"""The whole recipe on a minute of synthesised speech, through the command line."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from forked import Program

from acoustic_kd.cli import main
from acoustic_kd.corpora.utterances import SPLITS, Utterance, read_manifest
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.training import trainer
from chaos_experiment import SETTINGS, write_demo_lexicon


@contextmanager
def one_core():
    """Everything in this process: starting others takes longer than the work itself."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@dataclass
class TinyRecipe:
    """One experiment; calling it runs a stage and gives the exit status."""

    directory: Path
    settings: tuple[str, ...]
    options: tuple[str, ...] = ()

    def arguments(self, stage: str, *more: str) -> list[str]:
        options = [stage, "--exp-dir", str(self.directory), *self.options]
        return [*options, *self.settings, *more]

    def __call__(self, stage: str, *more: str) -> int:
        with one_core():
            try:
                return main(self.arguments(stage, *more))
            except SystemExit as end:
                return end.code

    def run(self, stages: Sequence[str] = tuple(STAGES), *more: str) -> "TinyRecipe":
        """Run stages, which must succeed; returns the experiment."""
        for stage in stages:
            assert self(stage, *more) == 0, stage
        return self

    def killed(self, path: Path, times: int, stage: str, *more: str) -> bool:
        """The stage in a process of its own, which is killed −9 where it would rename a file to
        `path` after it has done so `times` times; false if the process ends before.
        """
        arguments = (str(path), times, self.arguments(stage, *more))
        folder = self.directory.with_name(f"{self.directory.name}-killed")
        with one_core():  # else models are trained in other processes than the one that is watched
            status, errors = Program(folder, *arguments, function=_run_killed).end()
        assert status in (0, -signal.SIGKILL), errors
        return status != 0

    def copy(self, directory: Path, *more: str) -> "TinyRecipe":
        """A copy, with more settings."""
        shutil.copytree(self.directory, directory)
        return TinyRecipe(directory, (*self.settings, *more), self.options)

    def done_stages(self) -> list[str]:
        return [name for name, stage in STAGES.items()
                if (self.directory / stage.folder / "done.json").exists()]  # fmt: skip

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file with the time of its last change and its bytes."""
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.directory)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in paths
        }


def _run_killed(path: str, times: int, arguments: list[str]) -> int:
    """A file is written under another name and then renamed; Python says so before it does it.

    Every checkpoint is written, whatever share of the time that takes.
    """
    trainer.CHECKPOINT_SHARE, renamed = float("inf"), []

    def watch(event, details):
        if event == "os.rename" and os.fspath(details[1]) == path:
            if len(renamed) == times:
                os.kill(os.getpid(), signal.SIGKILL)
            renamed.append(path)

    sys.addaudithook(watch)
    return main(arguments)


def prepare(folder: Path) -> TinyRecipe:
    """An experiment without output, with a lexicon of the demo's words alone."""
    lexicon = write_demo_lexicon(folder / "lexicon.txt")
    return TinyRecipe(folder / "exp", (*SETTINGS, lexicon))


def write_kaldi_data(folder: Path, splits: dict[str, Sequence[Utterance]]) -> None:
    """Kaldi data directories with copies of utterances."""
    for split, utterances in splits.items():
        (folder / split).mkdir(parents=True)
        rows = {"wav.scp": [], "text": [], "utt2spk": []}
        for utterance in utterances:
            name = f"{split}/{utterance.id}.wav"
            shutil.copy(utterance.audio, folder / name)
            rows["wav.scp"].append(f"{utterance.id} {name}\n")
            rows["text"].append(f"{utterance.id} {utterance.text}\n")
            rows["utt2spk"].append(f"{utterance.id} {utterance.speaker}\n")
        for name, lines in rows.items():
            (folder / split / name).write_text("".join(lines), encoding="utf-8")


def kaldi_data(tiny: TinyRecipe, folder: Path) -> TinyRecipe:
    """The same speech as Kaldi data directories under `folder`/data, and an experiment on them."""
    manifests = {split: tiny.directory / "corpus" / f"{split}.jsonl" for split in SPLITS}
    write_kaldi_data(folder / "data", {s: read_manifest(path) for s, path in manifests.items()})
    settings = (*tiny.settings, "corpus.name=kaldi_dir")
    return TinyRecipe(folder / "exp", settings, ("--data-dir", str(folder / "data")))


def silent_data(folder: Path, texts: dict[str, str], *settings: str) -> TinyRecipe:
    """An experiment on a second of silence a speaker: a and b are train, c dev, d test."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate("abcd"):  # no two files are the same
        samples = np.where(np.arange(16000) == number, 1, 0).astype(np.int16)
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    splits = {
        split: [Utterance(n, n, str(folder / f"{n}.wav"), texts[n]) for n in speakers]
        for split, speakers in {"train": "ab", "dev": "c", "test": "d"}.items()
    }
    write_kaldi_data(folder / "data", splits)
    settings = ("corpus.name=kaldi_dir", *settings)
    return TinyRecipe(folder / "exp", settings, ("--data-dir", str(folder / "data")))
