"""What lexica of other tools have beside words and phones: columns, output symbols, variants.

A whole file shows what its fields are: a number in nearly every line is a column (a probability, a
cost), while a number in many places of many words is a phone (2 and 9 of SAMPA, a tone).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from acoustic_kd.language.cmu_phones import are_cmu_phones
from acoustic_kd.system.errors import UserError

Row = tuple[str, str, list[str]]  # "PATH:LINE", word, phones

NEARLY_ALL = 0.9  # of the lines: whole numbers there are a column
MOST = 0.5  # of the lines: other numbers there are a column
MIN_LINES = 10  # of a file whose whole numbers can be told apart
FIRST_LINES = 1000  # whose words are looked at for a mark that separates fields
MIN_WORDS = 3  # of a number that is a phone
MAX_RARE_FIRST = 0.6  # of the lines: a first phone that no other line has
MIN_LINES_OF_RARE = 30  # of a file where such phones are no chance
MAX_SAME_TONE = 0.8  # of the last fields; more are numbers of variants
_NUMBER = re.compile(
    r"[+\-\u2212]?(\d+([.,]\d*)?|[.,]\d+)(e[+\-\u2212]?\d+)?%?|0x[\da-f]+|\d+/\d+"
    r"|[+\-\u2212]?inf(inity)?",
    re.IGNORECASE,
)
_OUTPUT_SYMBOL = re.compile(r"\[.*\]")
_BRACKETED = re.compile(r"\[.+\]|<.+>|\(.+\)|\{.+\}")
_WRAPPED = {"[": "]", "(": ")", "{": "}", "<": ">", "/": "/", '"': '"', "'": "'", "|": "|"}
_PAUSES = {"sp", "sil"}  # at the end of each pronunciation in dictionaries of HTK
_SEPARATORS = set(".-+=|:;,/_'\"*\u02c8\u02cc\u00b7\u2022\u2016") | {"->", "||", "--", "=>"}
_SAMPA = re.compile(r"[@{}~]")
_VARIANT = re.compile(r"(.+?)(?:\((\d+|[A-Za-z])\)|\[(\d+)\]|\{(\d+)\}|[_~#](\d+))")


def without_columns(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Rows of words and phones alone, and what was passed over, in words for the terminal.

    A UserError names a number or a bracketed word among the phones that is no column.
    """
    written = {field for _, _, fields in rows for field in fields}
    numbers = {field for field in written if _NUMBER.fullmatch(field)}
    if not all(map(str.isdecimal, numbers)):  # otherwise a syllable
        numbers |= {field for field in written if field.lower() == "nan"}
    others = {f for f in written - numbers if not _BRACKETED.fullmatch(f)}
    tones = not are_cmu_phones(map(str.upper, others))  # English has none
    notes: list[str] = []
    if any(map(_OUTPUT_SYMBOL.fullmatch, written)):
        rows = _without(rows, 0, _OUTPUT_SYMBOL.fullmatch, 1, "output symbols in brackets", notes)
    if _in_nearly_all(rows, lambda word, fields: fields[0].upper() == word.upper()):
        rows = [(where, word, fields[1:] if fields[1:] else fields) for where, word, fields in rows]
        notes.append("the word itself before the phones")
    for place, name in ((0, "before"), (-1, "behind")):
        if numbers and (width := _width(rows, place, numbers, tones)):
            text = f"numbers {name} the phones"
            rows = _without(rows, place, numbers.__contains__, width, text, notes)
    if _in_nearly_all(rows, lambda _, fields: fields[-1].lower() in _PAUSES):
        rows = _without(rows, -1, lambda f: f.lower() in _PAUSES, 1, "pauses behind phones", notes)
    phones = {field for _, _, fields in rows for field in fields} if notes else written
    if not numbers.isdisjoint(phones):
        _check_numbers(rows, numbers & phones, phones, tones)
    _check_marks(rows, phones)
    _check_first(rows)
    return rows, notes


def _without(
    rows: list[Row],
    place: int,
    is_column: Callable[[str], object],
    width: int,
    name: str,
    notes: list[str],
) -> list[Row]:
    """Rows without the columns at one end (place 0 or -1); the last phone always stays."""
    kept, lines = [], 0
    for where, word, fields in rows:
        count, most = 0, min(width, len(fields) - 1)
        while count < most and is_column(fields[place]):
            fields = fields[1:] if place == 0 else fields[:-1]
            count += 1
        kept.append((where, word, fields))
        lines += count > 0
    if lines:
        notes.append(f"{name} ({lines} lines)")
    return kept


def _in_nearly_all(rows: Sequence[Row], test: Callable[[str, list[str]], bool]) -> bool:
    """Whether a test holds for nearly all rows and leaves another field there."""
    misses = (1 - NEARLY_ALL) * len(rows) if len(rows) >= MIN_LINES else -1
    for _, word, fields in rows:
        if misses < 0:
            return False
        misses -= len(fields) < 2 or not test(word, fields)
    return misses >= 0


def _width(rows: list[Row], place: int, numbers: Collection[str], tones: bool) -> int:
    """How many columns of numbers there are at one end of the fields.

    Args:
        tones: whether numbers may be tones.
    """
    ends = []
    for _, _, fields in rows:
        count = 0
        inner = fields[:-1] if place == 0 else fields[:0:-1]
        while count < len(inner) and inner[count] in numbers:
            count += 1
        if count:
            ends.append(inner[:count])
    whole = all(field.isdecimal() for end in ends for field in end)
    if whole and (
        len(rows) < MIN_LINES or (tones and place == -1 and _are_tones(end[0] for end in ends))
    ):
        return 0
    if not ends or len(ends) < (NEARLY_ALL if whole else MOST) * len(rows):
        return 0
    longest = Counter(map(len, ends))
    return max(width for width in longest if _at_least(longest, width) >= MOST * len(ends))


def _at_least(lengths: Counter[int], width: int) -> int:
    return sum(count for length, count in lengths.items() if length >= width)


def _are_tones(last: Iterable[str]) -> bool:
    """Whether the whole numbers at the ends of pronunciations are tones, and no other numbers."""
    counts = Counter(last)
    single = all(len(number) == 1 for number in counts)
    return bool(counts) and single and max(counts.values()) <= MAX_SAME_TONE * counts.total()


def _check_numbers(rows: list[Row], numbers: set[str], phones: set[str], tones: bool) -> None:
    """Refuse a number that is no phone."""
    found: dict[str, list[tuple[str, str]]] = {}
    first = last = total = 0
    for where, word, fields in rows:
        for place, field in enumerate(fields):
            if field in numbers:
                found.setdefault(field, []).append((where, word))
                total += 1
                first += place == 0
                last += place == len(fields) - 1
    cases = len({phone.upper() for phone in phones}) < len(phones)
    sampa = cases or any(map(_SAMPA.search, phones))
    ends = [fields[-1] for _, _, fields in rows if fields[-1] in numbers]
    varied = first < total and (last < total or _are_tones(ends))
    for number, places in found.items():
        digit = number.isdecimal() and len(number) == 1
        frequent = number.isdecimal() and len({word for _, word in places}) >= MIN_WORDS
        if not tones or (not (digit and sampa) and not (frequent and varied)):
            where, word = places[0]
            raise UserError(
                f"{where}: word '{word}' has the number {number} among its phones; remove it, or "
                "give the phone another name"
            )


def _check_first(rows: list[Row]) -> None:
    """Refuse phones without spaces between them, and words behind a column of numbers."""
    counts = Counter(field for _, _, fields in rows for field in set(fields))
    rare = [row for row in rows if counts[row[2][0]] == 1]
    if len(rows) >= MIN_LINES_OF_RARE and len(rare) > MAX_RARE_FIRST * len(rows):
        where, word, fields = rare[0]
        raise UserError(
            f"{where}: '{fields[0]}', the first phone of word '{word}', is in no other line, and "
            "most lines have such a phone; remove a column that is no phone, or write a space "
            "between phones"
        )


def _check_marks(rows: list[Row], phones: set[str]) -> None:
    """Refuse pronunciations in brackets, and bracketed words and separators among the phones."""
    wrapped = any(phone[1:] and phone[0] in _WRAPPED for phone in phones)
    pairs = Counter(
        fields[0][0]
        for _, _, fields in (rows if wrapped else ())
        if fields[0][1:] and fields[-1][1:] and _WRAPPED.get(fields[0][0]) == fields[-1][-1]
    )
    for mark, count in pairs.items():
        if count > MOST * len(rows):
            raise UserError(
                f"{rows[0][0]}: pronunciations are between {mark} and {_WRAPPED[mark]}; remove "
                "these marks, and write a space between phones"
            )
    odd = set(filter(_BRACKETED.fullmatch, phones)) | (_SEPARATORS & phones)
    for where, word, fields in rows if odd else ():
        for field in fields:
            if field in odd and not _BRACKETED.fullmatch(word):
                raise UserError(
                    f"{where}: word '{word}' has {field} among its phones; remove it, or give the "
                    "phone another name"
                )
    for mark in ',;|=:"':
        marked = [(where, word) for where, word, _ in rows[:FIRST_LINES] if mark in word]
        if len(rows) >= MIN_LINES and len(marked) > MOST * len(rows[:FIRST_LINES]):
            where, word = marked[0]
            raise UserError(
                f"{where}: word '{word}' has {mark} in it, as most words have; remove it, and "
                "separate word and phones with a space"
            )


def without_variants(words: Collection[str]) -> dict[str, str]:
    """Written word → the word without the number or letter of its variant.

    `READ(2)` is a variant of READ. Letters and other marks, as in `READ(b)` and `READ_2`, are
    variants only if those before them are there.
    """
    found: dict[str, dict[int, str]] = {}
    plain: dict[str, str] = {}
    for word in words:
        match = _VARIANT.fullmatch(word) if not word[-1].isalpha() else None  # mostly it is
        if match is None:
            continue
        base, mark = match[1], next(filter(None, match.groups()[1:]))
        if word.endswith(")") and mark.isdecimal():
            plain[word] = base
        else:
            number = int(mark) if mark.isdecimal() else ord(mark.lower()) - ord("a") + 1
            found.setdefault(base, {})[number] = word
    for base, variants in found.items():
        start = 2 if base in words else 1
        expected = set(range(min(start, *variants), max(variants) + 1))
        if expected == variants.keys() and (base in words or len(variants) > 1):
            plain |= dict.fromkeys(variants.values(), base)
    return plain
