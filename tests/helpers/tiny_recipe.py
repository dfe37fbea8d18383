"""The whole recipe on a minute of synthesised speech, through the command line."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.cli import main
from acoustic_kd.corpora.demo_sentences import vocabulary
from acoustic_kd.corpora.utterances import SPLITS, read_manifest
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.language.lexicon import read_lexicon, write_lexicon

SETTINGS = (
    "corpus.demo_train_voices=2",
    "corpus.demo_dev_voices=1",
    "corpus.demo_test_voices=1",
    "corpus.demo_train_sentences=10",
    "corpus.demo_eval_sentences=3",
    "senones.leaves=120",
    "senones.min_frames=5",
    "frames.shard_frames=300",
    "model.layers=1",
    "model.width=32",
    "train.members=2",
    "train.epochs=2",
    "train.batch_frames=128",
    "train.checkpoint_steps=2",
    "distill.models=1",
    "decode.beam=8",
    "decode.max_active=200",
    "decode.lm_weights=[5,10]",
    "decode.insertion_penalties=[0.0]",
    "decode.jobs=1",
)

# A file is written under another name and then renamed; Python says so before it does it.
KILLED = """
import os, signal, sys

path, times, renamed = sys.argv[1], int(sys.argv[2]), []

def watch(event, arguments):
    if event == "os.rename" and os.fspath(arguments[1]) == path:
        if len(renamed) == times:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed.append(path)

sys.addaudithook(watch)
from acoustic_kd.cli import main
sys.exit(main(sys.argv[3:]))
"""


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

    def killed(self, path: Path, times: int, stage: str, *more: str) -> bool:
        """The stage in a process of its own, which is killed −9 where it would rename a file to
        `path` after it has done so `times` times; false if the process ends before.
        """
        command = [sys.executable, "-c", KILLED, str(path), str(times)]
        command += self.arguments(stage, *more)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with one_core():  # else models are trained in other processes than the one that is watched
            return subprocess.run(command, env=environment).returncode == -signal.SIGKILL

    def copy(self, directory: Path) -> "TinyRecipe":
        shutil.copytree(self.directory, directory)
        return TinyRecipe(directory, self.settings, self.options)

    def changes_nothing_again(self, capfd) -> None:
        """Every stage of the finished experiment is current and says so; no file changes."""
        before = self.files()
        for stage in STAGES:
            capfd.readouterr()
            assert self(stage) == 0
            assert tuple(capfd.readouterr()) == ("  up to date\n", "")
        assert self.files() == before

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file with the time of its last change and its bytes."""
        paths = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.directory)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in paths
        }


def prepare(folder: Path) -> TinyRecipe:
    """An experiment of which nothing is done yet, with a lexicon of the demo's words alone."""
    lexicon = read_lexicon(bundled_lexicon()).restricted_to(vocabulary())
    write_lexicon(folder / "lexicon.txt", lexicon)
    return TinyRecipe(folder / "exp", (*SETTINGS, f"align.lexicon={folder / 'lexicon.txt'}"))


def kaldi_data(tiny: TinyRecipe, folder: Path) -> TinyRecipe:
    """The same speech as Kaldi data directories under `folder`/data, and an experiment on them."""
    data = folder / "data"
    for split in SPLITS:
        (data / split).mkdir(parents=True)
        utterances = read_manifest(tiny.directory / "corpus" / f"{split}.jsonl")
        rows = {"wav.scp": [], "text": [], "utt2spk": []}
        for utterance in utterances:
            path = data / split / f"{utterance.id}.wav"
            shutil.copy(utterance.audio, path)
            rows["wav.scp"].append(f"{utterance.id} {split}/{path.name}")
            rows["text"].append(f"{utterance.id} {utterance.text}")
            rows["utt2spk"].append(f"{utterance.id} {utterance.speaker}")
        for name, lines in rows.items():
            (data / split / name).write_text("".join(f"{line}\n" for line in lines))
    settings = (*tiny.settings, "corpus.name=kaldi_dir")
    return TinyRecipe(folder / "exp", settings, ("--data-dir", str(data)))
