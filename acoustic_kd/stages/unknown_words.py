"""Words of transcripts and language models that the lexicon lacks: they are said as spelled.

docs/lexicon.md
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from acoustic_kd.config import Config
from acoustic_kd.corpora.manifest import Utterance
from acoustic_kd.files import write_text
from acoustic_kd.g2p.model import FORMAT, cached_model
from acoustic_kd.g2p.search import Guess
from acoustic_kd.lexicon import Lexicon
from acoustic_kd.stages.experiment import Experiment
from acoustic_kd.stages.spelling import alphabet_of, is_spelled

G2P = "g2p.txt"
MODEL = "g2p/model.safetensors"  # in the experiment's directory: it outlasts a changed corpus
LEAST_WORDS = 2000  # of a lexicon that is learnt from; docs/lexicon.md
MOST_VARIANTS = 3
LEAST_SHARE = 0.3  # of the best pronunciation's probability


def spoken_words(splits: dict[str, list[Utterance]]) -> Counter[str]:
    """Every word of the transcripts, with how often it comes."""
    texts = (utterance.text or "" for split in splits.values() for utterance in split)
    return Counter(word for text in texts for word in text.split())


def unknown_words_source(config: Config, lexicon: Lexicon, words: Iterable[str]) -> dict[str, str]:
    """What the corpus stage records where it guesses pronunciations; nothing where it need not."""
    guessing = config.align.unknown_words == "g2p" and len(lexicon.entries) >= LEAST_WORDS
    unknown = guessing and any(word not in lexicon for word in words)
    return {"g2p": str(FORMAT)} if unknown else {}


def with_unknown_words(
    experiment: Experiment,
    lexicon: Lexicon,
    words: Counter[str],
    stage: str = "corpus",
    whole: str = "all that is spoken",
) -> Lexicon:
    """The lexicon, and after its words those of `words` that it lacks, as far as can be told.

    Where words are spelled, that is all that is asked. Otherwise their pronunciations are guessed:
    says on the terminal what was done, and lists the guesses in the stage's `g2p.txt`. What the
    corpus stage has guessed is not learnt from.

    Args:
        words: of the transcripts or of a language model, with how often each comes.
        whole: what the terminal calls all of `words`.
    """
    if is_spelled(experiment.config):
        return _with_spelled_words(experiment, lexicon, words, stage)
    unknown = sorted(word for word in words if word not in lexicon)
    if not unknown:
        return lexicon
    share = sum(words[word] for word in unknown) / words.total()
    print(
        f"  {len(unknown)} words are not in the lexicon: {some(unknown)} ({share:.1%} of {whole})"
    )
    if experiment.config.align.unknown_words == "exclude":
        return lexicon
    given = lexicon if stage == "corpus" else _given(experiment, lexicon)
    if len(given.entries) < LEAST_WORDS:
        print(f"  they stay unknown: its {len(given.entries)} words are too few to learn from")
        return lexicon
    model = cached_model(given, experiment.directory / MODEL)
    guesses = {
        word: variants(guessed)
        for word, guessed in zip(unknown, model.pronounce(unknown), strict=True)
    }
    said = {word: found for word, found in guesses.items() if found}
    if said:
        path = experiment.path(stage) / G2P
        write_text(path, g2p_text(said))
        number = sum(map(len, said.values()))
        print(f"  {len(said)} of them got {number} pronunciations by their letters: {path}")
    if left := [word for word in unknown if word not in said]:
        print(f"  {len(left)} stay unknown, for the lexicon has no such letters: {some(left)}")
    new = {word: tuple(guess.phones for guess in found) for word, found in said.items()}
    return Lexicon(lexicon.entries | new)


def _with_spelled_words(
    experiment: Experiment, lexicon: Lexicon, words: Counter[str], stage: str
) -> Lexicon:
    """The lexicon, and after its words those of `words` that it lacks and that can be spelled."""
    new = sorted(word for word in words if word not in lexicon)
    spelled = alphabet_of(experiment, stage).spelled(new)
    if left := [word for word in new if word not in spelled]:
        share = sum(words[word] for word in left) / words.total()
        print(
            f"  {len(left)} words have no spelling in the letters of train: {some(left)} "
            f"({share:.1%} of all)"
        )
    return Lexicon(lexicon.entries | spelled)


def _given(experiment: Experiment, lexicon: Lexicon) -> Lexicon:
    """The lexicon of the corpus stage without the words that it guessed."""
    path = experiment.path("corpus") / G2P
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    guessed = {line.partition("\t")[0] for line in lines}
    return Lexicon({word: lexicon[word] for word in lexicon.entries if word not in guessed})


def variants(guesses: list[Guess]) -> list[Guess]:
    """The best pronunciation, and those that are nearly as probable."""
    return [g for g in guesses[:MOST_VARIANTS] if g.share >= LEAST_SHARE * guesses[0].share]


def g2p_text(said: dict[str, list[Guess]]) -> str:
    """One guess a line, separated by tabs: word, `1/2` for the first of two, its share, phones."""
    return "".join(
        f"{word}\t{number}/{len(found)}\t{guess.share:.2f}\t{' '.join(guess.phones)}\n"
        for word, found in said.items()
        for number, guess in enumerate(found, start=1)
    )


def some(words: Sequence[str]) -> str:
    """The first few of some words, for a message."""
    return ", ".join(words[:5]) + (", …" if len(words) > 5 else "")
