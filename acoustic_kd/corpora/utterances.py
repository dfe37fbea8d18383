"""Utterances: what every corpus reader produces and every later stage reads."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from acoustic_kd.system.characters import straight_apostrophes, visible
from acoustic_kd.system.errors import UserError
from acoustic_kd.system.files import jsonl_rows, write_jsonl

SPLITS = ("train", "dev", "test")  # of every corpus, with transcripts
EVALUATION_SPLITS = ("dev", "test")
UNTRANSCRIBED = "untranscribed"  # an optional split: speech to distil on, and nothing else
ALL_SPLITS = (*SPLITS, UNTRANSCRIBED)
MAX_EXCLUDED_SHARE = 0.05  # of a split; more means a wrong path or a broken download

MAX_REASONS = 330  # characters of the reasons in a message, which must fit into one line

COPY_MARK = "#warp"  # in the ids of copies at other warps and tempos; in no other id

_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")

Normalise = Callable[[str], str]  # a transcript as written → words with one space between them


@dataclass(frozen=True)
class Utterance:
    """One recording, or one segment of a recording.

    Attributes:
        id: unique in the corpus; soft targets and alignments are keyed by it.
        audio: absolute path of the sound file.
        text: words with one space between them; None: not transcribed.
        start, end: the segment in seconds; None: from the beginning, to the end.
    """

    id: str
    speaker: str
    audio: str
    text: str | None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Exclusion:
    """An utterance that is left out of a split, with the reason."""

    id: str
    split: str
    reason: str


@dataclass
class Corpus:
    """Utterances of each split (SPLITS, perhaps UNTRANSCRIBED), and those that are left out.

    Attributes:
        notes: what the user should know of the corpus, one line each.
    """

    splits: dict[str, list[Utterance]]
    excluded: list[Exclusion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def normalise_text(text: str) -> str:
    """Words in upper case with one space between them, in the form that `visible` gives them.

    Every apostrophe becomes U+0027. Applied twice, it changes nothing more.
    """
    text = visible(text).upper()
    if not text.isascii() or "`" in text:
        text = straight_apostrophes(visible(text))
    return " ".join(text.split())


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write one utterance a line as JSON, whole or not at all."""
    write_jsonl(path, (asdict(utterance) for utterance in utterances))


def read_manifest(path: Path) -> list[Utterance]:
    """Read what `write_manifest` wrote."""
    return [utterance for _, utterance in jsonl_rows(path, Utterance, "an utterance")]


def check_ids(utterances: Iterable[Utterance]) -> None:
    """Refuse an id that later stages cannot write and read again, or that two utterances have.

    In transcripts and in Kaldi's archives an id ends at the first space. Ids that differ only in
    their Unicode form look the same and become the same in other programs.
    """
    seen: dict[str, Utterance] = {}
    for utterance in utterances:
        if problem := _problem_of(utterance):
            raise UserError(
                f"utterance id '{utterance.id}' of {utterance.audio} {problem}; rename it"
            )
        key = unicodedata.normalize("NFC", utterance.id)
        if earlier := seen.get(key):
            raise UserError(
                f"utterance id '{utterance.id}' is used twice, by {earlier.audio} and by "
                f"{utterance.audio}; rename one of them"
            )
        seen[key] = utterance


def check_transcripts(utterances: Iterable[Utterance]) -> None:
    """Refuse words with a control character, or with the character that stands for lost ones."""
    for utterance in utterances:
        if found := _NO_TEXT.search(utterance.text or ""):
            raise UserError(
                f"the transcript of utterance '{utterance.id}' has U+{ord(found[0]):04X} in it, "
                "which is no part of a word; correct it"
            )


def _problem_of(utterance: Utterance) -> str | None:
    """What is wrong with the id of an utterance, or with the name of its file."""
    if utterance.id.split() != [utterance.id]:
        return "is empty or has a space in it"
    if COPY_MARK in utterance.id:
        return f"has '{COPY_MARK}' in it, which marks copies at other vocal tract lengths"
    if invisible := next((c for c in utterance.id if not c.isprintable()), None):
        return f"has the invisible character U+{ord(invisible):04X} in it"
    if not is_text(utterance.audio):
        return "has a sound file whose name is not UTF-8"
    return None


def is_text(name: str) -> bool:
    """Whether a file name is text: one that is not UTF-8 cannot be written to a manifest."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def unread_note(root: Path, folders: Iterable[str]) -> str:
    """A note on folders beside those of the splits, which no reader reads."""
    names = ", ".join(ALL_SPLITS)
    return f"not read: {', '.join(folders)} in {root}; the names of splits are {names}"


def unused_notes(where: object, what: str, unused: Sequence[str], why: str = "") -> list[str]:
    """A note on ids that are not used, and the first of them; no note if there are none."""
    return [f"{where}: {len(unused)} {what}, first '{unused[0]}'{why}"] if unused else []


def check_excluded(
    split: str, kept: int, excluded: list[Exclusion], max_share: float = MAX_EXCLUDED_SHARE
) -> None:
    """Raise a UserError if more than `max_share` of `kept + len(excluded)` is left out."""
    total = kept + len(excluded)
    if len(excluded) <= max_share * total:
        return
    first = f"{excluded[0].id}: {excluded[0].reason}"
    for exclusion in excluded[1:3]:
        named = f"{first}; {exclusion.id}: {exclusion.reason}"
        first = named if len(named) <= MAX_REASONS else f"{first}; also {exclusion.id}"
    raise UserError(
        f"{split}: {len(excluded)} of {total} utterances cannot be used, more than "
        f"{max_share:.0%}; fix the corpus or its path (first: {first})"
    )


def split_by_speaker(
    utterances: Iterable[Utterance],
    share: float,
    seed: int,
    alternative: str = "a dev split that comes with the corpus",
) -> tuple[list[Utterance], list[Utterance]]:
    """Split off whole speakers that hold about `share` of the utterances.

    The choice depends on the set of utterances and the seed, never on their order. The size of
    the part split off differs from `share` of the utterances by less than the largest speaker.

    Args:
        alternative: what a message suggests where there are too few speakers.

    Returns:
        (kept, split off), each in the order given, each with at least one speaker.

    """
    utterances = list(utterances)
    sizes = Counter(utterance.speaker for utterance in utterances)
    if len(sizes) < 2:
        raise UserError(
            f"cannot split by speaker: {len(utterances)} utterances of {len(sizes)} speaker(s); "
            f"give at least 2 speakers, or {alternative}"
        )
    return take_speakers(utterances, _choose_speakers(sizes, share * len(utterances), seed))


def take_speakers(
    utterances: Iterable[Utterance], speakers: Iterable[str]
) -> tuple[list[Utterance], list[Utterance]]:
    """Split off the utterances of `speakers`: (kept, split off), each in the order given."""
    chosen = set(speakers)  # there may be as many as utterances
    split: tuple[list[Utterance], list[Utterance]] = [], []
    for utterance in utterances:
        split[utterance.speaker in chosen].append(utterance)
    return split


def shuffled_speakers(speakers: Iterable[str], seed: int) -> list[str]:
    """Each speaker once, in an order that depends on nothing but their names and the seed."""
    return sorted(set(speakers), key=lambda s: hashlib.sha256(f"{seed}:{s}".encode()).digest())


def _choose_speakers(sizes: Counter[str], target: float, seed: int) -> set[str]:
    """Choose speakers whose sizes add up to about `target`: at least one, and not all."""
    order = shuffled_speakers(sizes, seed)
    chosen: list[str] = []
    total = 0
    for speaker in order:
        if abs(total + sizes[speaker] - target) <= abs(total - target):
            chosen.append(speaker)
            total += sizes[speaker]
    if not chosen:
        chosen = [min(order, key=sizes.__getitem__)]
    if len(chosen) == len(order):
        chosen.remove(min(order, key=sizes.__getitem__))
    return set(chosen)


def pair(
    split: str,
    spoken: Mapping[str, Utterance | str],
    rows: Iterable[tuple[str, str, str]],
    no_transcript: str,
    no_sound: Callable[[str], str],
    refuse: Callable[[str], str | None] = lambda words: None,
) -> tuple[list[Utterance], list[Exclusion]]:
    """Give each utterance its transcript, where a corpus has them in different files.

    Every id of either side is kept or excluded.

    Args:
        spoken: id → utterance, or the reason why its sound cannot be used.
        rows: ("PATH:LINE", id, words) of each transcript; the ids are unique.
        no_transcript: the reason to exclude an utterance that no row has.
        no_sound: id of a transcript without utterance → the reason to exclude it.
        refuse: words → the reason why they cannot be used, if they cannot.
    """
    texts = {key: (where, words) for where, key, words in rows}
    kept, without_words = [], []
    for key, found in spoken.items():
        where, words = texts.get(key, ("", ""))
        problem = refuse(words) if words else "no words"
        if isinstance(found, str):
            without_words.append(Exclusion(key, split, found))
        elif not where:
            without_words.append(Exclusion(key, split, no_transcript))
        elif problem:
            without_words.append(Exclusion(key, split, f"{where}: {problem}"))
        else:
            kept.append(replace(found, text=words))
    without_sound = [Exclusion(key, split, no_sound(key)) for key in texts if key not in spoken]
    # In turn, so that the first few in a message show that ids differ between the files.
    both = zip_longest(without_words, without_sound)
    return kept, [exclusion for turn in both for exclusion in turn if exclusion]
