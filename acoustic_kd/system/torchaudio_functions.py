"""The functions of torchaudio that this package uses.

They are Python code. `import torchaudio` also loads a compiled library, which none of them needs
and which does not load where torchaudio was built for another torch. Then torchaudio is imported
without its library, as it is on systems for which it has none.
"""

# ruff: noqa: E402  # what is imported first decides how torchaudio is imported
import multiprocessing
import sys
from types import ModuleType

import torch  # noqa: F401  # if torch itself does not load, that is the error to report

from acoustic_kd.system.errors import warn


def _without_library() -> ModuleType:
    """A stand-in for `torchaudio._extension`, which loads the library."""
    module = ModuleType("torchaudio._extension")
    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=lambda function: function,
    )
    return module


try:
    import torchaudio  # noqa: F401
except (OSError, RuntimeError) as error:  # does not load; is built for another CUDA
    if multiprocessing.parent_process() is None:
        reason = " ".join(str(error).split())
        warn(
            f"torchaudio's compiled library does not load ({reason}); it is not needed, so work "
            "continues without it"
        )
    sys.modules["torchaudio._extension"] = _without_library()

from torchaudio.functional import compute_deltas, create_dct, resample

__all__ = ["compute_deltas", "create_dct", "resample"]
