"""The sound files of utterances: where they are, and whether they exist."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from acoustic_kd.corpora.utterances import Utterance
from acoustic_kd.kaldi.archives import archive_of
from acoustic_kd.system.errors import UserError

# Of the formats that libsndfile reads, in order of preference; `.raw` is AN4's.
SUFFIXES = (
    *(".flac", ".wav", ".sph", ".nist", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".raw"),
)
MAX_MISSING_SHARE = 0.5  # of a split; more means wrong paths, fewer are left out by later stages
_PLACE = re.compile(r".*:\d+(\[[^\[\]]*\])?")
_WINDOWS = re.compile(r"(^|/)[A-Za-z]:/|\\")


def locate(where: str, given: str, root: Path) -> str:
    """The absolute path of a sound file.

    A relative path starts at `root`, else at the working directory; `~` is the home directory. A
    file that does not exist has the path below `root`.

    Args:
        where: "PATH:LINE", for messages.
        given: an absolute or relative path.
    """
    if "\0" in given:
        raise UserError(f"{where}: the path has the character U+0000 in it; remove it")
    # Joined to an absolute path, `root` and the working directory do not matter.
    places = [root / given, Path.cwd() / given]
    if given.startswith("~/"):
        places.append(Path(given).expanduser())
    try:
        found = next((path for path in places if path.exists()), None)
    except OSError as error:  # words in the place of a path are too long for one
        what = f"the path cannot be used ({error.strerror})"
        raise UserError(f"{where}: {what}; correct it") from None
    if found is None and _PLACE.fullmatch(given):
        raise UserError(
            f"{where}: '{given}' is a place in an archive of sound, and such archives are not "
            "read; write each recording to a sound file and give its path"
        )
    return str(found or root / given)


def check_exist(splits: Mapping[str, Iterable[Utterance]]) -> None:
    """Refuse a split most of whose sound files, or archives of features, do not exist."""
    for split, utterances in splits.items():
        paths = list(dict.fromkeys(archive_of(utterance.audio) for utterance in utterances))
        missing = [path for path in paths if not path.is_file()]
        if len(missing) > MAX_MISSING_SHARE * len(paths):
            hint = " (a Windows path)" if _WINDOWS.search(str(missing[0])) else ""
            raise UserError(
                f"{split}: {len(missing)} of {len(paths)} sound files do not exist, first "
                f"{missing[0]}{hint}; fix the paths: a relative path starts at the data directory "
                f"or at the working directory, {Path.cwd()}"
            )
