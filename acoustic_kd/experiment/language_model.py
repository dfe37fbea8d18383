"""The language model of the graph stage: a ready one, or an n-gram trained on text; its word
pieces with `lang.units=pieces` (docs/lexicon-and-lm.md).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from acoustic_kd.corpora.load import librispeech_dir
from acoustic_kd.corpora.openslr import LANGUAGE_MODELS, fetch_file, language_model_file
from acoustic_kd.corpora.utterances import EVALUATION_SPLITS
from acoustic_kd.decoding.graph.compile import arpa_words
from acoustic_kd.experiment.experiment import Experiment
from acoustic_kd.experiment.outputs import read_split
from acoustic_kd.experiment.words import (
    alphabet_of,
    is_spelled,
    normaliser,
    shortened_list,
    with_unknown_words,
)
from acoustic_kd.language.g2p import G2P_FORMAT
from acoustic_kd.language.graphemes import clusters
from acoustic_kd.language.lexicon import Lexicon
from acoustic_kd.language.ngrams import train_lm
from acoustic_kd.language.pieces import (
    PIECES_FILE,
    PieceModel,
    single_clusters,
    train_pieces,
    without_marks,
)
from acoustic_kd.language.text import TextFile, most_frequent
from acoustic_kd.settings import Config
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import atomic_path, file_sha256

MIN_KNOWN_SHARE = 0.01  # of the words of a text; fewer are in another language
SEQUENCE_WORDS = 7  # sequences so long seldom stand in two texts by chance
MAX_SHARED_SEQUENCES = 0.01  # of dev or test in the text; more is a text that has both


@dataclass(frozen=True)
class LanguageModel:
    """A back-off model and the pronunciations of its words.

    Attributes:
        words: words or pieces of words of the graph.
        left_out: words without a pronunciation.
        lexicon: pronunciations of at least `words`.
        knows: whether a word can be recognised.
        text_words: for a model of pieces, the words of the text that it was trained on.
        normalise: for the words of the ARPA file, which is ours or the user's.
    """

    path: Path
    words: set[str]
    left_out: set[str]
    lexicon: Lexicon
    knows: Callable[[str], bool]
    text_words: set[str] | None = None
    normalise: Callable[[str], str] = str


def sources(config: Config) -> dict[str, str]:
    """The user's own language model or text, if there is one. One by name is known by its name."""
    lm, digests = config.lm, {}
    if lm.arpa is not None:
        name = _name_of_ready_model(lm.arpa)
        digests["arpa"] = f"openslr 11 {name}" if name else file_sha256(Path(lm.arpa))
    elif lm.text is not None:
        digests["lm.text"] = file_sha256(Path(lm.text))
    guessing = digests and config.align.unknown_words == "g2p" and not is_spelled(config)
    return digests | ({"g2p": str(G2P_FORMAT)} if guessing else {})


def check(config: Config) -> None:
    """Raise a UserError if the language model or the text is missing, before it is needed."""
    lm = config.lm
    if lm.arpa is not None:
        _name_of_ready_model(lm.arpa)
    elif lm.text is not None and not Path(lm.text).is_file():
        raise UserError(f"lm.text {lm.text}: no such file")


def _name_of_ready_model(given: str) -> str | None:
    """The name of LibriSpeech's own language model, where `lm.arpa` is one and not a file."""
    if Path(given).is_file():
        return None
    name = language_model_file(given)
    if name is None:
        known = ", ".join(file.removesuffix(".arpa.gz") for file in LANGUAGE_MODELS)
        raise UserError(
            f"lm.arpa {given}: no such file, and no language model of LibriSpeech's ({known})"
        )
    return name


def make_language_model(experiment: Experiment, lexicon: Lexicon, out: Path) -> LanguageModel:
    """Fetch or train the language model and report it on the terminal.

    Args:
        lexicon: of the corpus stage.
        out: directory of a trained model.
    """
    lm = experiment.config.lm
    if lm.arpa is not None:
        model = _ready_made(experiment, lm.arpa, lexicon)
    elif experiment.config.lang.units == "pieces":
        model = _of_pieces(experiment, lexicon, out)
    else:
        model = _trained(experiment, lexicon, out)
    _report_unknown(experiment, model)
    return model


def _ready_made(experiment: Experiment, given: str, lexicon: Lexicon) -> LanguageModel:
    name = _name_of_ready_model(given)
    path = fetch_file(name, librispeech_dir(experiment.config.corpus)) if name else Path(given)
    normalise = normaliser(experiment.config)
    words = arpa_words(path, normalise)
    lexicon = with_unknown_words(
        experiment, lexicon, Counter(words), "graph", "the language model's words"
    )
    left_out = sorted(word for word in words if word not in lexicon)
    if left_out:
        print(
            f"  {len(left_out)} of the language model's {len(words)} words are left out of the "
            f"graph, because they have no pronunciation: {shortened_list(left_out)}"
        )
    known = set(words) - set(left_out)
    return LanguageModel(
        path, known, set(left_out), lexicon, known.__contains__, normalise=normalise
    )


def _text(experiment: Experiment) -> TextFile | None:
    """The text of `lm.text`, if it is set, with words normalised like transcripts."""
    path = experiment.config.lm.text
    if path is None:
        return None
    return TextFile(Path(path), "lm.text", normaliser(experiment.config))


def _trained(experiment: Experiment, lexicon: Lexicon, out: Path) -> LanguageModel:
    lm, text = experiment.config.lm, _text(experiment)
    sentences: Iterable[list[str]]
    if text is None:
        train = read_split(experiment, "train")
        sentences = [u.text.split() for u in train if u.text]
        counts = Counter(word for sentence in sentences for word in sentence if word in lexicon)
        vocabulary = most_frequent(counts, lm.vocabulary)
    else:
        sentences, counts = text, text.counts()
        _check_known(text, counts, lexicon)
        _warn_of_overlap(experiment, text)
        vocabulary = most_frequent(counts, lm.vocabulary)
        chosen = Counter({word: counts[word] for word in vocabulary})
        lexicon = with_unknown_words(experiment, lexicon, chosen, "graph", "the text")
        vocabulary = [word for word in vocabulary if word in lexicon]
        covered = sum(counts[word] for word in vocabulary) / counts.total()
        print(
            f"  vocabulary: {len(vocabulary)} of the text's {len(counts)} words, {covered:.2%} of "
            f"the {counts.total()} that it is long"
        )
    known = set(vocabulary)
    path = _train(experiment, sentences, known, out)
    return LanguageModel(path, known, set(), lexicon, known.__contains__)


def _of_pieces(experiment: Experiment, lexicon: Lexicon, out: Path) -> LanguageModel:
    """Train the sentencepiece model on the train transcripts, the n-gram on its pieces of the text.

    The vocabulary has the pieces of the text, and every cluster of the train transcripts alone, at
    every place of a word, so that every word can be recognised.
    """
    text = _text(experiment)
    if text is not None:
        _check_known(text, text.counts(), lexicon)
    lang, alphabet = experiment.config.lang, alphabet_of(experiment, "graph")
    spoken = [(utterance.text or "").split() for utterance in read_split(experiment, "train")]
    spelled = alphabet.spell_all({word for words in spoken for word in words})
    learnt = [[word for word in words if word in spelled] for words in spoken]
    content = train_pieces(filter(None, learnt), lang.pieces, lang.piece_model)
    with atomic_path(out / PIECES_FILE) as temporary:
        temporary.write_bytes(content)
    model, sentences = PieceModel(content), spoken if text is None else text
    text_words = {word for sentence in sentences for word in sentence}
    singles = single_clusters(spelled)
    spellings = {
        piece: alphabet.spell(*without_marks(piece))
        for piece in sorted(singles.union(*map(model.split, text_words)))
    }
    pieces = Lexicon({piece: (spelling,) for piece, spelling in spellings.items() if spelling})

    def knows(word: str) -> bool:
        parts = clusters(word)
        whole = singles.issuperset(parts) and alphabet.spell(word) is not None
        return whole or all(piece in pieces for piece in model.split(word))

    known = set(pieces.entries)
    print(f"  vocabulary: {len(known)} pieces of the text's {len(text_words)} words")
    in_pieces = ([piece for word in words for piece in model.split(word)] for words in sentences)
    path = _train(experiment, in_pieces, known, out)
    return LanguageModel(path, known, set(), pieces, knows, text_words)


def _train(
    experiment: Experiment, sentences: Iterable[list[str]], vocabulary: set[str], out: Path
) -> Path:
    """Train an n-gram, report its size, and return its ARPA file."""
    lm, path = experiment.config.lm, out / "lm.arpa"
    numbers = train_lm(sentences, vocabulary, path, lm.order, lm.min_counts, lm.prune)
    sizes = ", ".join(f"{size} {n}-grams" for n, size in enumerate(numbers, start=1))
    print(f"  language model of {sizes}")
    return path


def _check_known(text: TextFile, counts: Counter[str], lexicon: Lexicon) -> None:
    known = sum(count for word, count in counts.items() if word in lexicon)
    if known < MIN_KNOWN_SHARE * counts.total():
        first = shortened_list(most_frequent(counts, 6))
        raise UserError(
            f"{text.setting} {text.path}: {known} of its {counts.total()} words are in the lexicon "
            f"({first} are not); give text of the same language"
        )


def _warn_of_overlap(experiment: Experiment, text: TextFile) -> None:
    """Warn of a text that has what dev or test reads: their word error rates are then too low."""
    spoken = {
        split: Counter(
            sequence
            for utterance in read_split(experiment, split)
            for sequence in _sequences((utterance.text or "").split())
        )
        for split in EVALUATION_SPLITS
    }
    every = set().union(*spoken.values())
    found = {sequence for words in text for sequence in _sequences(words) if sequence in every}
    for split, counts in spoken.items():
        share = sum(counts[sequence] for sequence in found) / max(counts.total(), 1)
        if share > MAX_SHARED_SEQUENCES:
            example = " ".join(next(sequence for sequence in counts if sequence in found))
            print(
                f"  warning: {share:.1%} of the {SEQUENCE_WORDS}-word sequences of {split} are in "
                f"{text.setting} {text.path}, such as '{example}'; its WER is too low"
            )


def _sequences(words: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[first:] for first in range(SEQUENCE_WORDS)), strict=False)


def _report_unknown(experiment: Experiment, model: LanguageModel) -> None:
    """Report how many words of dev and test cannot be recognised, or only in pieces.

    A UserError if no word of dev can be recognised.
    """
    for split in EVALUATION_SPLITS:
        texts = [u.text or "" for u in read_split(experiment, split)]
        words = " ".join(texts).split()
        unknown = [word for word in words if not model.knows(word)]
        if split == "dev" and words and len(unknown) == len(words):
            raise UserError(
                f"language model {model.path}: none of the words of dev ({shortened_list(words)}) "
                f"is in its vocabulary ({shortened_list(sorted(model.words))}); check language and "
                "case"
            )
        made, where = "", "vocabulary"
        if model.text_words is not None:
            new = [word for word in words if word not in model.text_words]
            lost = [word for word in new if not model.knows(word)]
            made, where, unknown = f"; {len(lost)} of them cannot be recognised", "text", new
        share = len(unknown) / max(len(words), 1)
        print(
            f"  {split}: {len(unknown)} of {len(words)} words ({share:.2%}) are not in the "
            f"{where}{made}"
        )
