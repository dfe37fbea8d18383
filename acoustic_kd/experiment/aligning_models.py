"""The trained models of an earlier experiment that align the speech: `align.model`.

docs/alignment.md
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic_kd.experiment.outputs import INVENTORY, STATISTICS
from acoustic_kd.kaldi.archives import table_files
from acoustic_kd.settings import NEUTRAL, Config, shaping_settings
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import file_sha256, json_sha256, sha256
from acoustic_kd.system.records import read_done, verify_files
from acoustic_kd.training.model import FILES as MODEL_FILES

# Settings of the frames that a model reads; they must be the same for training and alignment.
FEATURE_SETTINGS = (
    *("features.sample_rate", "features.mel_bins", "features.low_hz", "features.high_hz"),
    "features.normalise",
)
# Settings that shape an alignment, by method, and that no earlier stage has.
ALIGN_SETTINGS = {"flat": ("features.normalise",), "dnn": ("features.normalise", "train.bfloat16")}


@dataclass(frozen=True)
class AligningModels:
    """Paths of trained models and of what belongs to them.

    Attributes:
        experiment: its directory.
        models: their directories; several form an ensemble.
    """

    experiment: Path
    models: tuple[Path, ...]

    @property
    def inventory(self) -> Path:
        """The senones."""
        return self.experiment / INVENTORY

    @property
    def frames(self) -> Path:
        """The output of the frames stage, with the statistics of the senones."""
        return self.experiment / "frames"

    def verify(self) -> None:
        """Raise a UserError if a file is damaged; `align_sources` notices a missing one."""
        verify_files(self.inventory.parent, (self.inventory.name,), missing=True)
        verify_files(self.frames, (STATISTICS,), missing=True)
        for model in self.models:
            verify_files(model, MODEL_FILES, missing=True)

    @property
    def name(self) -> str:
        """The name of the models in messages."""
        if len(self.models) > 1:
            return f"the ensemble of {len(self.models)} in {self.experiment}"
        return str(self.models[0])


def find_models(model: str) -> AligningModels:
    """The models that `align.model` names: of an experiment, or one of them."""
    path = Path(model)
    if (path / "model.json").is_file():
        above = path.absolute().parents
        experiment = next((p for p in above if (p / INVENTORY).is_file()), above[1])
        return AligningModels(experiment, (path,))
    record = read_done(path / "members")
    if record is None:
        raise UserError(
            f"setting 'align.model' is {model}, which has no trained models; give the directory of "
            "an experiment whose members are trained, or of one model, as EXP_DIR/distilled/01"
        )
    count = int(record["settings"]["train.members"])
    return AligningModels(path, tuple(path / "members" / f"{n:02d}" for n in range(1, count + 1)))


def align_sources(config: Config) -> dict[str, str]:
    """Digests of the models that align, or of Kaldi's alignments, if the settings name any.

    With settings of other stages that shape the alignment, unless they have their defaults.
    """
    for name in ("pdf_ali", "pdf_post"):
        if (given := getattr(config.align, name)) is not None:
            return {name: json_sha256([file_sha256(path) for path in table_files(given)])}
    names = ALIGN_SETTINGS.get(config.align.method, ())
    defaults = shaping_settings(Config(), *names)
    chosen = shaping_settings(config, *names).items() if names else ()
    sources = {key: str(value) for key, value in chosen if value != defaults[key]}
    if config.align.model is None:
        return sources
    models = find_models(config.align.model)
    models.verify()
    files = [models.inventory, models.frames / STATISTICS]
    files += [model / name for model in models.models for name in MODEL_FILES]
    return sources | {"model": json_sha256([_content(path) for path in files])}


def _content(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); setting 'align.model' needs it"
        ) from None


def check_same_features(models: AligningModels, config: Config) -> None:
    """Raise a UserError unless the models were trained on frames with the settings of this one."""
    trained_with: dict[str, Any] = {}
    for stage in ("features", "frames"):
        record = read_done(models.experiment / stage)
        if record is None:
            raise UserError(
                f"{models.experiment / stage}/done.json: no record of how it was made; setting "
                "'align.model' needs an experiment as it was trained"
            )
        trained_with |= record["settings"]
    for key, value in shaping_settings(config, *FEATURE_SETTINGS).items():
        if (trained := trained_with.get(key, NEUTRAL[key])) != value:
            raise UserError(
                f"setting '{key}' is {value}, but {trained} in {models.experiment}, whose models "
                "align; give both the same value"
            )
