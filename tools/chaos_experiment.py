"""The tiny experiment that chaos.py breaks: how it is made, restored and compared.

Its settings are those of the tests' tiny recipe.
"""

import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.corpora.demo_sentences import vocabulary
from acoustic_kd.experiment.stages import STAGES
from acoustic_kd.language.lexicon import read_lexicon, write_lexicon

SETTINGS = (
    "corpus.demo_train_voices=2",
    "corpus.demo_dev_voices=1",
    "corpus.demo_test_voices=1",
    "corpus.demo_train_sentences=10",
    "corpus.demo_eval_sentences=2",
    "senones.leaves=120",
    "senones.min_frames=5",
    "frames.shard_frames=300",
    "model.layers=1",
    "model.width=32",
    "train.members=2",
    "train.epochs=2",
    "train.batch_frames=128",
    "train.checkpoint_steps=20",
    "distill.models=1",
    "decode.beam=8",
    "decode.max_active=200",
    "decode.lm_weights=[5,10]",
    "decode.insertion_penalties=[0.0]",
    "decode.jobs=1",
)
# Two voices' copies, so that their stage has files; checkpoints after each epoch and between.
MORE_SETTINGS = ("features.transfer_vtlp_warps=[0.9]", "train.checkpoint_steps=5")

# What differs between two runs: times. A record has the size and check sum of files with times, and
# a check sum of its own.
MEASURED = ("seconds", "minutes", "frames_per_second", "real_time_factor", "peak_gib", "check")
TIMED = (
    "results.json",
    "report.html",
    "metrics.jsonl",
    "measurement.json",
    "frames.json",
    "graph.json",
)
RECORDS = ("started.json", "done.json")
TIME_ROWS = re.compile(r'.*(?:minutes</th>| min</td>|"seconds").*')  # rows of tables of HTML pages
OTHERS_FILES = (".ses",)  # that packages leave in the folder for temporary files: onnxruntime
TEMPORARY = re.compile(r"(?:^|/)\.[^/]*\.tmp$")


def write_demo_lexicon(path: Path) -> str:
    """Write a lexicon of the demo's words alone, which is fast to read; returns its setting."""
    write_lexicon(path, read_lexicon(bundled_lexicon()).restricted_to(vocabulary()))
    return f"align.lexicon={path}"


@dataclass
class Site:
    """A folder in which one trial at a time works on a copy of the finished experiment.

    The experiment was made in this folder, because its files contain its path.

    Attributes:
        settings, options: those that the experiment was made with.
        folder: contains `exp`, the copy; `whole`, the finished experiment; `out`, for files of
            verbs; `tmp`, for temporary files of commands.
        contents: of the files of `whole`, by their paths in it.
        unsteady: kinds of files that are not compared.
    """

    folder: Path
    settings: tuple[str, ...] = ()
    options: tuple[str, ...] = ("--config", "demo")
    contents: dict[str, bytes] = field(default_factory=dict)
    unsteady: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.exp, self.whole = self.folder / "exp", self.folder / "whole"
        self.out, self.tmp = self.folder / "out", self.folder / "tmp"

    def prepare(self) -> None:
        """An empty site."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.out, self.tmp):
            folder.mkdir(parents=True)
        lexicon = write_demo_lexicon(self.folder / "lexicon.txt")
        self.settings = (*SETTINGS, *MORE_SETTINGS, lexicon)

    def arguments(self, verb: str, *more: str) -> list[str]:
        """The command line of a stage, or of `run`."""
        return [verb, *self.options, "--exp-dir", str(self.exp), *more, *self.settings]

    def keep(self) -> None:
        """Take the experiment as the finished one."""
        shutil.rmtree(self.whole, ignore_errors=True)
        shutil.copytree(self.exp, self.whole)
        self.contents = contents(self.whole)

    def restore(self, without: Collection[str] = ()) -> None:
        """Copy the finished experiment anew, without some stages; empty `out` and `tmp`."""
        for folder in (self.out, self.tmp):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        # The folder itself stays: a small disk may be mounted on it.
        self.exp.mkdir(exist_ok=True)
        for path in self.exp.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        missing = {STAGES[stage].folder for stage in without}
        missing |= {name for stage in without for name in STAGES[stage].beside}
        for path in self.whole.iterdir():
            if path.name not in missing:
                target = self.exp / path.name
                shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)

    def differences(self, unfinished: bool = False) -> list[str]:
        """The files of the experiment that are not as in the finished one, times aside.

        Args:
            unfinished: files may be missing, and what grows or changes until the end may differ.
        """
        found = contents(self.exp)
        wrong = [
            name
            for name, content in sorted(found.items())
            if (expected := self.contents.get(name)) != content
            and kind_of(name) not in self.unsteady
            and (expected is None or without_times(name, expected) != without_times(name, content))
        ]
        if unfinished:
            return [name for name in wrong if name in self.contents and not _changes(name)]
        return sorted({*wrong, *(self.contents.keys() - found.keys())})

    def temporary_files(self) -> list[str]:
        """What commands have not cleaned up."""
        names = [path for path in _files(self.exp) if TEMPORARY.search(path)]
        others = [path.name for path in self.tmp.iterdir() if path.name not in OTHERS_FILES]
        return [*names, *(f"TMPDIR/{name}" for name in others)]


def _changes(name: str) -> bool:
    return name.endswith((*RECORDS, "metrics.jsonl"))


def _files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file, by its path in the folder."""
    return {name: (folder / name).read_bytes() for name in _files(folder)}


def without_times(name: str, content: bytes) -> bytes:
    """The bytes of a file; without times, if it is JSON or a page."""
    try:
        if name.endswith((".json", ".jsonl")):
            rows = content.splitlines() if name.endswith(".jsonl") else [content]
            return json.dumps([_without_times(json.loads(row)) for row in rows]).encode()
        return TIME_ROWS.sub("", content.decode()).encode() if name.endswith(".html") else content
    except (ValueError, RecursionError):
        return content


def _without_times(value: Any) -> Any:
    """A JSON value without seconds, and a record without sizes and digests of files with them."""
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_times(item) for key, item in value.items() if key not in MEASURED}
    for key in ("files", "sha256"):
        if isinstance(files := kept.get(key), dict):
            kept[key] = {name: None if name.endswith(TIMED) else files[name] for name in files}
    return kept


# --- kinds of files and what reads them -----------------------------------------------------------


def kind_of(name: str) -> str:
    """The kind of a file of an experiment: its path without numbers, splits and names."""
    name = re.sub(r"^corpus/audio/.*", "corpus/audio/….wav", name)
    name = re.sub(r"^decode/[^/]+/", "decode/SYSTEM/", name)
    name = re.sub(r"\b(train|dev|test)\b", "SPLIT", name)
    return re.sub(r"(?<!\.h)\d+", "N", name)


def stage_of(name: str) -> str:
    """The stage that writes a file."""
    folder = name.partition("/")[0]
    owners = (stage for stage in STAGES.values() if folder in (stage.folder, *stage.beside))
    return next((stage.name for stage in owners), "corpus")


@dataclass(frozen=True)
class Reader:
    """A command that reads a finished experiment.

    Attributes:
        arguments: its command line.
        stage: the stage that it is; its output is deleted before. "": a verb or a whole run.
        strict: whether it must find any damage.
    """

    arguments: tuple[str, ...]
    stage: str = ""
    strict: bool = False


def readers(site: Site, speech: str) -> dict[str, Reader]:
    """Commands by name.

    Args:
        speech: a recording.
    """
    exp, out = str(site.exp), site.out
    verbs: dict[str, Sequence[str]] = {
        "transcribe": ("transcribe", exp, speech),
        "transcribe --json": ("transcribe", exp, speech, "--json", "--model", "ensemble"),
        "bundle": ("bundle", exp, "--out", str(out / "bundle")),
        "posteriors": ("posteriors", exp, "dev", "--out", str(out / "dev.ark")),
        "compare": ("compare", exp, str(site.whole), "--out", str(out / "page.html")),
        "run": site.arguments("run"),
        "inspect EXP": ("inspect", exp, "--verify"),
    }
    verbs |= {
        f"inspect {folder}": ("inspect", f"{exp}/{folder}", "--verify")
        for folder in ("soft_targets", "features/train", "frames/train", "copies/transfer-train")
    }
    found = {
        name: Reader(tuple(words), strict=name == "inspect EXP") for name, words in verbs.items()
    }
    return found | {name: Reader(tuple(site.arguments(name)), name) for name in STAGES}


def readers_of(name: str, known: Collection[str]) -> Iterator[str]:
    """The known commands that read a file."""
    stage = stage_of(name)
    for command in known:
        if command in STAGES:
            reads = stage in STAGES[command].inputs
        elif command.startswith("inspect ") and command != "inspect EXP":
            reads = name.startswith(command.removeprefix("inspect ") + "/")
        else:
            reads = True
        if reads:
            yield command
