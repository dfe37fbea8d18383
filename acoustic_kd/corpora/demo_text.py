"""What the demo's voices say: sentences of a small grammar for a spoken assistant.

136 words in free combination (numbers, names, places, dates), so that a language model learned
from the transcripts leaves work for the acoustic model. Every word is in CMU's dictionary.
"""

import random

# A `$SYMBOL` stands for one of its alternatives; every sentence begins as `$SENTENCE`.
GRAMMAR = {
    "SENTENCE": [
        "TURN $SWITCH THE $DEVICE IN THE $ROOM",
        "SET THE $DEVICE IN THE $ROOM TO $TENS $UNIT",
        "$ASK WAKE ME AT $CLOCK ON $DAY",
        "$ASK CALL $NAME $WHEN",
        "$ASK DIAL $DIGIT $DIGIT $DIGIT $DIGIT $DIGIT",
        "$NAME LIVES AT $TENS $UNIT $STREET STREET IN $PLACE",
        "$NAME AND $NAME WANT TO MEET $WHEN",
        "$ASK BOOK $UNIT SEATS FROM $PLACE TO $PLACE $WHEN",
        "THE TRAIN FROM $PLACE LEAVES AT $CLOCK",
        "WHAT IS THE WEATHER LIKE IN $PLACE $WHEN",
        "HOW FAR IS IT FROM $PLACE TO $PLACE",
        "ADD $UNIT $GOODS AND $UNIT $GOODS TO THE LIST",
        "WRITE TO $NAME THAT THE $GOODS COST $TENS $UNIT DOLLARS",
        "THE CODE IS $DIGIT $DIGIT $DIGIT $DIGIT FOR THE $ROOM",
        "REMEMBER $ITEM $ITEM $ITEM $ITEM $ITEM",
    ],
    "ITEM": ["$NAME", "$PLACE", "$GOODS", "$ROOM", "$DEVICE", "$STREET", "$MONTH", "$DIGIT"],
    "ASK": ["PLEASE", "COULD YOU", "DO NOT FORGET TO", "I WANT TO"],
    "SWITCH": ["ON", "OFF"],
    "DEVICE": ["LIGHT", "HEATING", "RADIO", "OVEN", "ALARM"],
    "ROOM": ["KITCHEN", "BEDROOM", "GARDEN", "OFFICE", "GARAGE", "BATHROOM"],
    "NAME": ["PETER", "ANNA", "DAVID", "LAURA", "THOMAS", "JULIA", "OLIVER", "SUSAN", "VICTOR"],
    "PLACE": ["LONDON", "BOSTON", "PARIS", "CHICAGO", "DUBLIN", "TORONTO", "BERLIN", "DENVER"],
    "STREET": ["CHURCH", "RIVER", "MARKET", "KING", "FOREST", "BRIDGE"],
    "GOODS": ["APPLES", "EGGS", "LEMONS", "SHIRTS", "BOOKS", "FLOWERS", "CHAIRS"],
    "WHEN": ["TOMORROW", "TONIGHT", "ON $DAY", "ON $DAY $TIME", "ON THE $ORDINAL OF $MONTH"],
    "TIME": ["MORNING", "AFTERNOON", "EVENING"],
    "DAY": ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"],
    "MONTH": ["MARCH", "APRIL", "JUNE", "JULY", "AUGUST", "OCTOBER", "DECEMBER"],
    "ORDINAL": ["FIRST", "SECOND", "THIRD", "FIFTH", "NINTH", "TENTH", "TWELFTH"],
    "CLOCK": ["HALF PAST $UNIT", "QUARTER TO $UNIT", "$UNIT THIRTY", "$UNIT FIFTEEN", "NOON"],
    "TENS": ["TWENTY", "THIRTY", "FORTY", "FIFTY", "SIXTY", "SEVENTY", "EIGHTY", "NINETY"],
    "UNIT": ["TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"],
    "DIGIT": ["ZERO", "ONE", "$UNIT", "$UNIT", "$UNIT", "$UNIT"],
}


def sentences(count: int, seed: int) -> list[str]:
    """`count` different sentences; a longer list begins with the shorter one of the same seed."""
    rng = random.Random(f"sentences {seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        found[_expand("$SENTENCE", rng)] = None
    return list(found)


def vocabulary() -> set[str]:
    """Every word of the grammar."""
    texts = " ".join(text for alternatives in GRAMMAR.values() for text in alternatives)
    return {word for word in texts.split() if not word.startswith("$")}


def _expand(text: str, rng: random.Random) -> str:
    words = []
    for word in text.split():
        replaced = rng.choice(GRAMMAR[word[1:]]) if word.startswith("$") else ""
        words.append(_expand(replaced, rng) if replaced else word)
    return " ".join(words)
