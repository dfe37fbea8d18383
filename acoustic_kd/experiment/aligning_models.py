"""The trained models of an earlier experiment that align this one's speech: `align.model`.

docs/alignment.md
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoustic_kd.experiment.outputs import INVENTORY, STATISTICS
from acoustic_kd.kaldi.archives import table_files
from acoustic_kd.settings import Config, shaping_settings
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import file_sha256, json_sha256, sha256
from acoustic_kd.system.steps import read_done

# Settings that say what a model hears: an utterance's frames must be made alike for it.
FEATURE_SETTINGS = (
    *("features.sample_rate", "features.mel_bins", "features.low_hz", "features.high_hz"),
    "features.normalise",
)
# Settings that shape an alignment, by its method, and that no stage before it has.
ALIGN_SETTINGS = {"flat": ("features.normalise",), "dnn": ("features.normalise", "train.bfloat16")}


@dataclass(frozen=True)
class AligningModels:
    """Where trained models lie, and what goes with them.

    Attributes:
        experiment: its directory.
        models: their directories; several are an ensemble.
    """

    experiment: Path
    models: tuple[Path, ...]

    @property
    def inventory(self) -> Path:
        """The senones."""
        return self.experiment / INVENTORY

    @property
    def frames(self) -> Path:
        """What the frames stage wrote: how frequent and how long the senones are."""
        return self.experiment / "frames"

    @property
    def name(self) -> str:
        """What messages call it."""
        if len(self.models) > 1:
            return f"the ensemble of {len(self.models)} in {self.experiment}"
        return str(self.models[0])


def find_models(model: str) -> AligningModels:
    """What `align.model` names."""
    path = Path(model)
    if (path / "model.json").is_file():
        return AligningModels(path.absolute().parent.parent, (path,))
    record = read_done(path / "members")
    if record is None:
        raise UserError(
            f"setting 'align.model' is {model}: there are no trained models; give the directory of "
            "an experiment whose members are trained, or of one model, as EXP_DIR/distilled/01"
        )
    count = int(record["settings"]["train.members"])
    return AligningModels(path, tuple(path / "members" / f"{n:02d}" for n in range(1, count + 1)))


def align_sources(config: Config) -> dict[str, str]:
    """The models that align and what goes with them, or the alignments that are given, if any.

    And settings of other stages that shape the alignment, where they are not the defaults: so what
    was made with these stays current.
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
    found = find_models(config.align.model)
    files = [found.inventory, found.frames / STATISTICS]
    files += [
        model / name for model in found.models for name in ("model.json", "model.safetensors")
    ]
    return sources | {"model": json_sha256([_content(path) for path in files])}


def _content(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); setting 'align.model' needs it"
        ) from None


def check_same_features(found: AligningModels, config: Config) -> None:
    """Are the frames that the models were trained on of the same kind as this experiment's?"""
    then: dict[str, Any] = {}
    for stage in ("features", "frames"):
        record = read_done(found.experiment / stage)
        if record is None:
            raise UserError(
                f"{found.experiment / stage}/done.json: no record of how it was made; setting "
                "'align.model' needs an experiment as it was trained"
            )
        then |= record["settings"]
    for key, value in shaping_settings(config, *FEATURE_SETTINGS).items():
        if then.get(key) != value:
            raise UserError(
                f"setting '{key}' is {value}, but {then.get(key)} in {found.experiment}, whose "
                "models are to align; give the same to both"
            )
