"""What the demo's voices say, a table for each language: sentences for a spoken assistant.

More than a hundred words each, in free combination (numbers, names, places, dates), so that a
language model learned from the transcripts leaves work for the acoustic model.

`GRAMMAR`: a `$SYMBOL` stands for one of its alternatives; every sentence begins as `$SENTENCE`.
`ACCENTS`: names of espeak-ng's languages, that of most voices first (English names them voice by
voice). Another language is a module here, a line below, and a name in `config.DEMO_LANGUAGES`.
"""

from acoustic_kd.corpora.demo_languages import el, en, es

GRAMMARS = {"en": en.GRAMMAR, "es": es.GRAMMAR, "el": el.GRAMMAR}
ACCENTS = {"es": es.ACCENTS, "el": el.ACCENTS}
