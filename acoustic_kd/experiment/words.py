"""The words of an experiment: how they are spelled in units, and pronunciations of words that the
lexicon lacks (docs/lexicon-and-lm.md).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from acoustic_kd.alignment.senones import read_inventory
from acoustic_kd.corpora.utterances import Normalise, Utterance, normalise_text
from acoustic_kd.decoding.graph.contexts import STATES
from acoustic_kd.experiment.aligning_models import find_models
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.outputs import INVENTORY, read_split
from acoustic_kd.language.g2p import G2P_FORMAT, cached_model
from acoustic_kd.language.g2p_search import Guess
from acoustic_kd.language.graphemes import SPELLING_FORMAT, Alphabet
from acoustic_kd.language.lexicon import SILENCE, Lexicon
from acoustic_kd.language.normalise import normalise_spelled
from acoustic_kd.settings import Config
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import file_sha256, write_text
from acoustic_kd.system.records import read_done


def is_spelled(config: Config) -> bool:
    """Whether words are spelled in letters instead of phones of a lexicon."""
    return config.lang.units != "phones"


def normaliser(config: Config) -> Normalise:
    """The function that normalises transcripts, text and words of language models."""
    return (
        partial(normalise_spelled, case=config.lang.case) if is_spelled(config) else normalise_text
    )


def spelling_source(config: Config) -> dict[str, str]:
    """What the corpus stage records; the same for graphemes and pieces, which come later."""
    if not is_spelled(config):
        return {}
    sources = {"units": _units(config)}
    if config.align.method == "dnn":
        sources["model's units"] = file_sha256(find_models(str(config.align.model)).inventory)
    return sources


def _units(config: Config) -> str:
    """What words are made of, in short."""
    if not is_spelled(config):
        return "phones"
    places = " by place" if config.lang.positions else ""
    return f"graphemes {SPELLING_FORMAT} {config.lang.case}{places}"


def check_spelled(experiment: Experiment) -> None:
    """Raise a UserError unless words of the corpus stage are made of what the settings say."""
    then = experiment.done("corpus")["inputs"].get("units", "phones")
    now = _units(experiment.config)
    if then != now:
        raise UserError(
            f"{experiment.path('corpus')}: words are made of {then}, but the settings of 'lang' "
            f"say {now}; run stage {experiment.number('corpus')} (corpus) and the later stages "
            "again"
        )


def alphabet_of(experiment: Experiment, stage: str) -> Alphabet:
    """What words are spelled in.

    Args:
        stage: "corpus": the graphemes of the train transcripts, or those of the models that align
            them; "graph": those that have senones.
    """
    config = experiment.config
    if stage == "graph":
        return _in_units_of(experiment.directory / INVENTORY)
    if config.align.method == "dnn":
        model = find_models(str(config.align.model))
        then = (read_done(model.experiment / "corpus") or {}).get("inputs", {})
        known, asked = then.get("units", "phones"), _units(config)
        if known != asked:
            raise UserError(
                f"setting 'align.model' is {config.align.model}: its words are made of {known}, "
                f"and the settings of 'lang' say {asked}; the models that align must know the same"
            )
        return _in_units_of(model.inventory)
    train = read_split(experiment, "train")
    words = Counter(w for u in train for w in (u.text or "").split())
    return Alphabet(words, config.lang.positions)


def _in_units_of(inventory: Path) -> Alphabet:
    return Alphabet.of(set(read_inventory(inventory).phones) - {SILENCE})


def check_leaves(config: Config, lexicon: Lexicon) -> None:
    """Raise a UserError if there are too few senones for the letters, before any alignment."""
    states = STATES * (1 + len(lexicon.phones()))
    if config.senones.leaves < states:
        places, advice = "", ""
        if config.lang.positions:
            places, advice = ", some by their place in a word,", "; or give lang.positions=false"
        raise UserError(
            f"setting 'senones.leaves' is {config.senones.leaves}; silence and "
            f"{len(lexicon.phones())} letters{places} need at least {states}, and better twice as "
            f"many{advice}"
        )


G2P = "g2p.txt"
MODEL = "g2p/model.safetensors"  # in the experiment's directory: it outlasts a changed corpus
MIN_TRAINING_WORDS = 2000  # of a lexicon to train G2P on; docs/lexicon-and-lm.md
MAX_VARIANTS = 3
MIN_SHARE_OF_BEST = 0.3  # of the best pronunciation's probability


def spoken_words(splits: dict[str, list[Utterance]]) -> Counter[str]:
    """Every word of the transcripts with its count."""
    texts = (utterance.text or "" for split in splits.values() for utterance in split)
    return Counter(word for text in texts for word in text.split())


def unknown_words_source(config: Config, lexicon: Lexicon, words: Iterable[str]) -> dict[str, str]:
    """What the corpus stage records if it guesses pronunciations; nothing otherwise."""
    guessing = config.align.unknown_words == "g2p" and len(lexicon.entries) >= MIN_TRAINING_WORDS
    unknown = guessing and any(word not in lexicon for word in words)
    return {"g2p": str(G2P_FORMAT)} if unknown else {}


def with_unknown_words(
    experiment: Experiment,
    lexicon: Lexicon,
    words: Counter[str],
    stage: str = "corpus",
    whole: str = "all that is spoken",
) -> Lexicon:
    """The lexicon, followed by pronunciations of those of `words` that it lacks, if possible.

    With `lang.units` other than phones, words are spelled. Otherwise G2P guesses pronunciations,
    which are reported on the terminal and listed in `g2p.txt` of the stage. G2P is not trained on
    guesses of the corpus stage.

    Args:
        words: of the transcripts or of a language model, with their counts.
        whole: the name of all `words` on the terminal.
    """
    if is_spelled(experiment.config):
        return _with_spelled_words(experiment, lexicon, words, stage)
    unknown = sorted(word for word in words if word not in lexicon)
    if not unknown:
        return lexicon
    share = sum(words[word] for word in unknown) / words.total()
    print(
        f"  {len(unknown)} words are not in the lexicon: {shortened_list(unknown)} "
        f"({share:.1%} of {whole})"
    )
    if experiment.config.align.unknown_words == "exclude":
        return lexicon
    given = lexicon if stage == "corpus" else _given(experiment, lexicon)
    if len(given.entries) < MIN_TRAINING_WORDS:
        print(f"  they stay unknown: its {len(given.entries)} words are too few to train G2P on")
        return lexicon
    model = cached_model(given, experiment.directory / MODEL)
    guesses = {
        word: probable_pronunciations(guessed)
        for word, guessed in zip(unknown, model.pronounce(unknown), strict=True)
    }
    guesses = {word: guessed for word, guessed in guesses.items() if guessed}
    if guesses:
        path = experiment.path(stage) / G2P
        write_text(path, g2p_text(guesses))
        number = sum(map(len, guesses.values()))
        print(f"  {len(guesses)} of them got {number} pronunciations from their letters: {path}")
    if left := [word for word in unknown if word not in guesses]:
        print(
            f"  {len(left)} stay unknown, because no word of the lexicon has such letters: "
            f"{shortened_list(left)}"
        )
    new = {word: tuple(guess.phones for guess in guessed) for word, guessed in guesses.items()}
    return Lexicon(lexicon.entries | new)


def _with_spelled_words(
    experiment: Experiment, lexicon: Lexicon, words: Counter[str], stage: str
) -> Lexicon:
    """The lexicon, followed by those of `words` that it lacks and that can be spelled."""
    new = sorted(word for word in words if word not in lexicon)
    spelled = alphabet_of(experiment, stage).spell_all(new)
    if left := [word for word in new if word not in spelled]:
        share = sum(words[word] for word in left) / words.total()
        print(
            f"  {len(left)} words have no spelling in the letters of train: {shortened_list(left)} "
            f"({share:.1%} of all)"
        )
    return Lexicon(lexicon.entries | spelled)


def _given(experiment: Experiment, lexicon: Lexicon) -> Lexicon:
    """The lexicon of the corpus stage without the words that it guessed."""
    path = experiment.path("corpus") / G2P
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    guessed = {line.partition("\t")[0] for line in lines}
    return Lexicon({word: lexicon[word] for word in lexicon.entries if word not in guessed})


def probable_pronunciations(guesses: list[Guess]) -> list[Guess]:
    """The best pronunciation, and those that are nearly as probable."""
    return [g for g in guesses[:MAX_VARIANTS] if g.share >= MIN_SHARE_OF_BEST * guesses[0].share]


def g2p_text(guesses: dict[str, list[Guess]]) -> str:
    """One guess a line, separated by tabs: word, `1/2` for the first of two, its share, phones."""
    return "".join(
        f"{word}\t{number}/{len(guessed)}\t{guess.share:.2f}\t{' '.join(guess.phones)}\n"
        for word, guessed in guesses.items()
        for number, guess in enumerate(guessed, start=1)
    )


def shortened_list(words: Sequence[str]) -> str:
    """The first few of some words, for a message."""
    return ", ".join(words[:5]) + (", …" if len(words) > 5 else "")
