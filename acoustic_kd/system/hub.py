"""Models and bundles in repositories of the Hugging Face hub."""

import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from acoustic_kd.system.errors import UserError, first_line, installation


def local_or_hub(name: str | Path, files: Iterable[str]) -> Path:
    """A directory; or a repository of the hub, such as `user/model`, in the local cache.

    Args:
        files: of the repository, that are fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    hub, nowhere = (
        _package(name),
        f"{name}: neither a directory nor a model of the Hugging Face hub",
    )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):  # of a user, and of a model
        raise UserError(nowhere)
    hub = _package(name)
    try:
        return Path(hub.snapshot_download(str(name), allow_patterns=list(files)))
    except (OSError, ValueError, hub.errors.HFValidationError) as error:
        raise UserError(f"{nowhere} ({first_line(error)})") from None


def upload(folder: Path, name: str) -> str:
    """Upload a directory to a repository of the hub, which is made if necessary.

    Who may write there is known from `hf auth login`, or $HF_TOKEN.

    Returns:
        The address of the repository.
    """
    hub = _package(name)
    try:
        hub.create_repo(name, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Upload {folder.name}")
        return str(hub.hf_hub_url(name, "README.md")).partition("/resolve/")[0]
    except (OSError, ValueError, hub.errors.HFValidationError) as error:
        raise UserError(f"{name}: cannot be uploaded ({first_line(error)})") from None


def _package(name: str | Path) -> ModuleType:
    try:
        import huggingface_hub  # slow to import
        import huggingface_hub.errors
    except ImportError:
        raise UserError(
            f"{name}: no such directory; to look for it on the Hugging Face hub, the package "
            f"huggingface_hub is needed: {installation('hub')}"
        ) from None
    return huggingface_hub
