"""The phones of CMU's dictionary of English."""

import re
from collections.abc import Iterable

CMU_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH",
              "UW")  # fmt: skip
CMU_PHONES = frozenset(
    [
        *CMU_VOWELS,
        *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S"),
        *("SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
    ]
)
_OTHERS = {"SIL", "SPN", "NSN"}  # beside them in Kaldi's lexicons
STRESSED = re.compile(f"({'|'.join(CMU_VOWELS)})[012]")


def without_stress(phone: str) -> str:
    """A phone of CMU's in upper case without its stress; another one as it stands."""
    return STRESSED.sub(r"\1", phone)


def are_cmu_phones(phones: Iterable[str]) -> bool:
    """Whether phones in upper case are all of CMU's, or silence and noises."""
    return CMU_PHONES.union(_OTHERS).issuperset(map(without_stress, phones))
