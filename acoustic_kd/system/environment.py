"""Environment variables: those of launchers, and the program's own, all read here."""

import os
from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.system.errors import UserError

DATA_VARIABLE = "ACOUSTIC_KD_DATA"  # the folder of corpora, where --data-dir is not given
BFLOAT16_VARIABLE = "ACOUSTIC_KD_BFLOAT16"  # 0 or 1: what the setting null means
THREADS_VARIABLE = "OMP_NUM_THREADS"
PROCESS_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
ADDRESS_VARIABLES = ("MASTER_ADDR", "MASTER_PORT")
# Accelerate takes these for processes to join, but Slurm sets them for a single process, too.
MPI_PREFIXES = ("PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "MPI_LOCAL")
PRECISION_VARIABLE = "ACCELERATE_MIXED_PRECISION"
PRECISIONS = {"no": False, "bf16": True}
# Settings of Accelerate that training does not obey: values that change nothing; what to do.
OFF = ("", "0", "false")
OTHER_ENGINE = OFF, "several GPUs train with DDP (MULTI_GPU)"
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": OTHER_ENGINE,
    "ACCELERATE_USE_FSDP": OTHER_ENGINE,
    "ACCELERATE_USE_MEGATRON_LM": OTHER_ENGINE,
    "ACCELERATE_USE_PARALLELISM_CONFIG": OTHER_ENGINE,
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        (*OFF, "1"),
        "train.batch_frames is the batch of a step, and train.max_logits_mb divides it to fit in "
        "memory",
    ),
}
TORCHRUN_PREFIX = "PET_"  # torchrun's options, such as PET_NNODES, which Kubernetes sets
MAX_PROCESSES = 1024  # of a machine; more are a typing mistake, and would use up the memory
ADVICE = "unset them, or start processes with 'recipes/run.sh --num-processes N' or torchrun"


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: number of this process, from 0.
        count: of all processes.
        local_count: of processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1


def processes() -> Processes:
    """The processes that torchrun or accelerate started, of which this is one.

    Raises:
        UserError: the variables are not numbers, contradict each other, or are incomplete.
    """
    given = {name: value for name in PROCESS_VARIABLES if (value := os.environ.get(name))}
    numbers = {name: _number(name, value) for name, value in given.items()}
    rank, count, local_rank = (
        numbers.get(name, default)
        for name, default in zip(PROCESS_VARIABLES, (0, 1, 0), strict=False)
    )
    if (rank, count, local_rank) == (0, 1, 0):
        return Processes()
    values = " ".join(f"{name}={value}" for name, value in given.items())
    needed = (*PROCESS_VARIABLES[:3], *ADDRESS_VARIABLES)
    if missing := [name for name in needed if not os.environ.get(name)]:
        raise UserError(f"the environment has {values}, but no {', '.join(missing)}; {ADVICE}")
    local_count = numbers.get("LOCAL_WORLD_SIZE", count)
    if not (local_rank <= rank < count and local_rank < local_count <= count):
        raise UserError(f"the environment has {values}, which contradict each other; {ADVICE}")
    return Processes(rank, count, local_count)


def _number(name: str, value: str) -> int:
    if _is_whole_number(value):
        return int(value)
    raise UserError(
        f"the environment variable {name} is {value[:40]!r}, which is no process number; unset it"
    )


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def is_process_count(text: str) -> bool:
    """Whether a text is a number of processes that a machine can run."""
    return _is_whole_number(text) and 1 <= int(text) <= MAX_PROCESSES


def is_main_process() -> bool:
    """Whether this is the first process of a run of torchrun or accelerate, or the only one."""
    return processes().rank == 0


def prepare_for_accelerate() -> None:
    """Remove variables that Accelerate would misread."""
    alone = processes().count == 1
    for name, value in list(os.environ.items()):
        unused = name in PROCESS_VARIABLES and (alone or not value)
        # OpenMP has ignored a wrong value already; "4,2" is right, but Accelerate wants one number.
        wrong = name == THREADS_VARIABLE and not _is_whole_number(value)
        if unused or wrong or name.startswith(MPI_PREFIXES):
            del os.environ[name]


def prepare_for_torchrun(threads: int) -> None:
    """Remove torchrun's options of other runs; set the threads of a process if they are not set."""
    for name in [name for name in os.environ if name.startswith(TORCHRUN_PREFIX)]:
        del os.environ[name]
    first, *_ = os.environ.get(THREADS_VARIABLE, "").split(",")
    if not is_process_count(first):
        os.environ[THREADS_VARIABLE] = str(threads)


def data_folder() -> Path | None:
    """The folder of corpora that the user names in the environment."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~name, or no home folder
        raise UserError(
            f"the environment variable {DATA_VARIABLE} is '{value}', whose home folder is unknown; "
            "give the whole path"
        ) from None


def bfloat16() -> bool | None:
    """Whether to multiply in bfloat16, if the environment or `accelerate launch` says so."""
    value = os.environ.get(BFLOAT16_VARIABLE)
    if value and value not in ("0", "1"):
        raise UserError(
            f"the environment variable {BFLOAT16_VARIABLE} is '{value}'; set it to 0 or 1"
        )
    if value:
        return value == "1"
    precision = os.environ.get(PRECISION_VARIABLE)
    if precision and precision not in PRECISIONS:
        raise UserError(
            f"the environment variable {PRECISION_VARIABLE} is '{precision}'; models train in "
            "bfloat16 or float32: give accelerate --mixed_precision bf16 or no"
        )
    return PRECISIONS[precision] if precision else None


def check_accelerate() -> None:
    """Refuse settings of Accelerate that training does not obey."""
    for name, (harmless, instead) in UNSUPPORTED.items():
        value = os.environ.get(name, "").lower()
        if value not in harmless:
            raise UserError(
                f"the environment variable {name} is '{value}', by accelerate's config or options; "
                f"unset it: {instead}"
            )
