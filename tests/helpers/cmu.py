"""CMU's dictionary of English, which takes a second to read."""

from functools import cache

from acoustic_kd.alignment.pocketsphinx import bundled_lexicon
from acoustic_kd.language.lexicon import Lexicon, read_lexicon


@cache
def cmu_lexicon() -> Lexicon:
    """The lexicon in pocketsphinx's wheel, read once."""
    return read_lexicon(bundled_lexicon())
