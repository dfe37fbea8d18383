"""`acoustic-kd run`: the stages of the recipe, from audio to the table."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from acoustic_kd.experiment.options import add_experiment, experiment_of
from acoustic_kd.experiment.stages import STAGES, explain_stage, run_stage
from acoustic_kd.settings import has_own_networks, settings_file
from acoustic_kd.system.environment import MAX_PROCESSES
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.launched import child_environment
from acoustic_kd.system.signals import Stopped


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "From audio to the table: baseline, ensemble, control and distilled model, in frame "
        "accuracy and WER. Stages that are up to date are skipped; a run that was interrupted "
        "resumes when the same command is run again."
    )
    parser.epilog = "Example: acoustic-kd run --config an4 --data-dir DIR train.members=10"
    add_experiment(parser)
    parser.set_defaults(config=Path("demo"))
    last = f"{len(STAGES) - 1} ({list(STAGES)[-1]})"
    parser.add_argument(
        "--stage", default="0", metavar="STAGE", help="first stage, number or name (default: 0)"
    )
    parser.add_argument(
        "--stop-stage", default=str(len(STAGES) - 1), metavar="STAGE",
        help=f"last stage, number or name (default: {last})",
    )  # fmt: skip
    parser.add_argument(
        "--num-processes", type=int, default=1, metavar="N",
        help="train and write soft targets on N processes or GPUs of this machine (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="print which stages are out of date, and why; run nothing",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run the stages; returns the exit status of the first that failed, or 0."""
    if not 1 <= options.num_processes <= MAX_PROCESSES:
        raise UserError(
            f"--num-processes is {options.num_processes}; it must be 1 to {MAX_PROCESSES}"
        )
    first, last = _number(options.stage), _number(options.stop_stage)
    if first > last:
        raise UserError(f"--stage {options.stage} comes after --stop-stage {options.stop_stage}")
    experiment = experiment_of(options)
    if has_own_networks(experiment.config):
        from acoustic_kd.experiment.training_jobs import check_own_networks  # slow to import

        check_own_networks(experiment.config)
    print(_description(settings_file(options.config)), end="")
    begun = time.monotonic()
    for number in range(first, last + 1):
        name = list(STAGES)[number]
        print(f"stage {number}: {name}", flush=True)
        if options.dry_run:
            explain_stage(experiment, name)
        elif options.num_processes > 1 and STAGES[name].distributed:
            if status := _launch(options.num_processes, [name, *_arguments(options)]):
                return status
        else:
            run_stage(experiment, name)
            if "torch" in sys.modules:  # else there is little to release
                from acoustic_kd.system.memory import release_memory

                release_memory()
    print(f"stages {first} to {last}: {time.monotonic() - begun:.0f} s")
    return 0


def _number(stage: str) -> int:
    """The number of a stage that is given by number or name."""
    names = list(STAGES)
    if stage in names:
        return names.index(stage)
    if stage.isdecimal() and int(stage) < len(names):
        return int(stage)
    raise UserError(
        f"no stage '{stage}'; stages are 0 ({names[0]}) to {len(names) - 1} ({names[-1]})"
    )


def _description(settings: Path) -> str:
    """The comment at the head of a settings file: what will happen, and how long it takes."""
    lines = []
    for line in settings.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(f"{line.removeprefix('#').removeprefix(' ')}\n")
    return "".join(lines)


def _arguments(options: argparse.Namespace) -> list[str]:
    """The options that describe the experiment, for a stage's own verb."""
    words = ["--config", str(options.config)]
    words += [] if options.exp_dir is None else ["--exp-dir", str(options.exp_dir)]
    words += [] if options.data_dir is None else ["--data-dir", options.data_dir]
    return [*words, *options.overrides]


def _launch(processes: int, arguments: list[str]) -> int:
    """Run a stage on several processes; returns its exit status. It ends before this returns."""
    command = [sys.executable, "-m", "acoustic_kd.launch", str(processes), *arguments]
    with subprocess.Popen(command, env=child_environment()) as launcher:  # noqa: S603
        try:
            return launcher.wait()
        except Stopped:
            launcher.terminate()
            launcher.wait()
            raise
        except KeyboardInterrupt:  # the terminal sends it to the launcher, too
            launcher.wait()
            raise
