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
    nowhere = f"{name}: neither a directory nor a model of the Hugging Face hub"
    # `exp/an5`, where there is a directory `exp`, is a mistyped path.
    if not _is_repository(name) or Path(name).parent.is_dir():
        raise UserError(nowhere)
    try:
        return Path(_package(name).snapshot_download(str(name), allow_patterns=list(files)))
    except UserError:
        raise
    except Exception as error:  # of the connection, the hub, or the disk
        raise UserError(f"{nowhere} ({first_line(error)})") from None


def check_upload(name: str) -> None:
    """Raise a UserError if nothing can be uploaded to a repository of that name."""
    if not _is_repository(name):
        raise UserError(f"--upload is '{name}'; it must be USER/NAME")
    _package(name)


def upload(folder: Path, name: str) -> str:
    """Upload a directory to a repository of the hub; a new one is private.

    Uses the token of `hf auth login`, or $HF_TOKEN.

    Returns:
        The address of the repository.
    """
    hub = _package(name)
    try:
        hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Upload {folder.name}")
        return str(hub.hf_hub_url(name, "README.md")).partition("/resolve/")[0]
    except Exception as error:  # of the connection, or the hub
        raise UserError(f"{name}: cannot be uploaded ({first_line(error)})") from None


def _is_repository(name: str | Path) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) is not None


def _package(name: str | Path) -> ModuleType:
    try:
        import huggingface_hub  # slow to import
    except ImportError:
        text = f"{name}: the Hugging Face hub needs the package huggingface_hub"
        raise UserError(f"{text}: {installation('hub')}") from None
    return huggingface_hub
