"""Sentences of the demo corpus: drawn at random from a small grammar of each language.

A grammar has more than a hundred words (numbers, names, places, dates) and combines them freely, so
that a language model trained on the transcripts leaves work for the acoustic model. A `$SYMBOL`
stands for one of its alternatives; every sentence begins as `$SENTENCE`.

Accents are espeak-ng's names of languages. Most voices have a language's first accent; the voices
of English name their accent one by one.
"""

import random

# ruff: noqa: RUF001

Grammar = dict[str, list[str]]

ACCENTS = {"es": ("es", "es-419"), "el": ("el",)}  # "es-419" is Latin American Spanish
GRAMMARS: dict[str, Grammar] = {}

GRAMMARS["el"] = {
    "SENTENCE": [
        "$SWITCH $DEVICE $IN_ROOM",
        "βάλε το φως $IN_ROOM στο $TENS $UNIT τοις εκατό",
        "$ASK με ξυπνήσεις $CLOCK $DAY",
        "$ASK καλέσεις $WHOM $WHEN",
        "$ASK καλέσεις το $DIGIT $DIGIT $DIGIT $DIGIT $DIGIT",
        "$WHO μένει στην οδό $STREET $TENS $UNIT $IN_PLACE",
        "$HE και $SHE θέλουν να βρεθούν $WHEN",
        "κλείσε $UNIT εισιτήρια από $CITY για $ABROAD $WHEN",
        "το λεωφορείο από $CITY φεύγει $CLOCK",
        "τι καιρό θα κάνει $IN_PLACE $WHEN",
        "πόσα χιλιόμετρα είναι από $CITY μέχρι $ABROAD",
        "πρόσθεσε $UNIT $FOOD και $UNIT $THING στη λίστα",
        "γράψε $TO_WHOM ότι τα $GOODS κοστίζουν $TENS $UNIT ευρώ",
        "ο κωδικός για $ROOM είναι $DIGIT $DIGIT $DIGIT $DIGIT",
        "σημείωσε $ITEM $ITEM $ITEM $ITEM $ITEM",
    ],
    "ITEM": ["$MAN", "$GOODS", "$NEUTER_ROOM", "$STREET", "$NEUTER_ABROAD", "$MONTH", "$DIGIT"],
    "ASK": ["μπορείς να", "θα ήθελα να", "θέλω να", "μην ξεχάσεις να"],
    "SWITCH": ["άνοιξε", "κλείσε"],
    "DEVICE": ["το φως", "το ραδιόφωνο", "τη θέρμανση", "τον φούρνο", "την τηλεόραση"],
    "ROOM": ["το $NEUTER_ROOM", "το $NEUTER_ROOM", "την κουζίνα", "τον κήπο"],
    "IN_ROOM": ["στο $NEUTER_ROOM", "στο $NEUTER_ROOM", "στην κουζίνα", "στον κήπο"],
    "NEUTER_ROOM": ["γραφείο", "γκαράζ", "μπάνιο", "σαλόνι", "υπόγειο"],
    "WHO": ["$HE", "$SHE"],
    "HE": ["ο Πέτρος", "ο Νίκος", "ο Γιώργος", "ο Θωμάς"],
    "SHE": ["η Άννα", "η Μαρία", "η Ελένη", "η Σοφία"],
    "WHOM": ["τον $MAN", "την Άννα", "τη Μαρία", "την Ελένη", "τη Σοφία"],
    "TO_WHOM": ["στον $MAN", "στην Άννα", "στη Μαρία", "στην Ελένη", "στη Σοφία"],
    "MAN": ["Πέτρο", "Νίκο", "Γιώργο", "Θωμά"],
    "CITY": ["την Αθήνα", "την Πάτρα", "τον Βόλο", "τη Λάρισα", "τα Ιωάννινα"],
    "ABROAD": ["το $NEUTER_ABROAD", "τη Ρώμη", "τη Βιέννη", "τη Μαδρίτη"],
    "NEUTER_ABROAD": ["Παρίσι", "Λονδίνο", "Βερολίνο"],
    "IN_PLACE": [
        *("στην Αθήνα", "στην Πάτρα", "στον Βόλο", "στη Λάρισα", "στα Ιωάννινα"),
        *("στο $NEUTER_ABROAD", "στη Ρώμη", "στη Βιέννη", "στη Μαδρίτη"),
    ],
    "STREET": ["Αθηνάς", "Ερμού", "Σταδίου", "Σόλωνος", "Πατησίων"],
    "GOODS": ["$FOOD", "$THING"],
    "FOOD": ["μήλα", "αυγά", "λεμόνια", "ψωμιά", "πορτοκάλια"],
    "THING": ["βιβλία", "λουλούδια", "ποτήρια", "παπούτσια"],
    "WHEN": ["αύριο", "απόψε", "$DAY", "$DAY $TIME", "στις $HOUR $MONTH"],
    "TIME": ["το πρωί", "το απόγευμα", "το βράδυ"],
    "DAY": [
        *("τη Δευτέρα", "την Τρίτη", "την Τετάρτη", "την Πέμπτη"),
        *("την Παρασκευή", "το Σάββατο", "την Κυριακή"),
    ],
    "MONTH": ["Μαρτίου", "Απριλίου", "Ιουνίου", "Ιουλίου", "Αυγούστου", "Οκτωβρίου"],
    "CLOCK": [
        *("στις $HOUR και μισή", "στις $HOUR και τέταρτο", "στις $HOUR παρά τέταρτο"),
        *("στις $HOUR ακριβώς", "το μεσημέρι"),
    ],
    # Hours and days of a month are feminine; everything that is counted is neuter.
    "HOUR": ["δύο", "τρεις", "τέσσερις", "πέντε", "έξι", "επτά", "οκτώ", "εννέα", "δέκα"],
    "UNIT": ["δύο", "τρία", "τέσσερα", "πέντε", "έξι", "επτά", "οκτώ", "εννέα"],
    "TENS": ["είκοσι", "τριάντα", "σαράντα", "πενήντα", "εξήντα", "εβδομήντα", "ογδόντα"],
    "DIGIT": ["μηδέν", "ένα", "$UNIT", "$UNIT", "$UNIT", "$UNIT"],
}

GRAMMARS["en"] = {
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

# Counts are two or more: such numbers have the same form for both genders.
GRAMMARS["es"] = {
    "SENTENCE": [
        "$SWITCH $DEVICE $OF_ROOM",
        "pon la luz $OF_ROOM al $NUMBER por ciento",
        "$ASK despertarme $CLOCK el $DAY",
        "$ASK llamar a $NAME $WHEN",
        "$ASK marcar el $DIGIT $DIGIT $DIGIT $DIGIT $DIGIT",
        "$NAME vive en el número $NUMBER de la calle $STREET en $PLACE",
        "$MAN y $WOMAN quieren verse $WHEN",
        "$ASK reservar $UNIT asientos de $CITY a $ABROAD $WHEN",
        "el tren de $CITY a $ABROAD sale $CLOCK",
        "qué tiempo hará en $PLACE $WHEN",
        "cuántos kilómetros hay de $CITY a $ABROAD",
        "añade $UNIT $FEMININE y $UNIT $MASCULINE a la lista",
        "escribe a $NAME que $GOODS cuestan $NUMBER euros",
        "el código $OF_ROOM es $DIGIT $DIGIT $DIGIT $DIGIT",
        "apunta $ITEM $ITEM $ITEM $ITEM $ITEM",
    ],
    "ITEM": ["$NAME", "$PLACE", "$FEMININE", "$MASCULINE", "$DAY", "$MONTH", "$DIGIT"],
    "ASK": ["puedes", "podrías", "no olvides", "por favor recuerda"],
    "SWITCH": ["enciende", "apaga"],
    "DEVICE": ["la luz", "la radio", "el horno", "la alarma", "el ventilador", "la calefacción"],
    "OF_ROOM": [
        *("de la cocina", "de la oficina", "de la entrada"),
        *("del baño", "del salón", "del garaje", "del jardín"),
    ],
    "NAME": ["$MAN", "$WOMAN"],
    "MAN": ["Pedro", "Andrés", "Javier", "Miguel", "Hugo"],
    "WOMAN": ["Laura", "Elena", "Julia", "Carmen", "Rosa"],
    "PLACE": ["$CITY", "$ABROAD"],
    "CITY": ["Madrid", "Sevilla", "Valencia", "Toledo", "Bilbao"],
    "ABROAD": ["Lisboa", "París", "Londres", "Roma", "Berlín"],
    "STREET": ["Mayor", "Real", "del Sol", "del Puente", "del Bosque", "del Mercado"],
    "GOODS": ["las $FEMININE", "los $MASCULINE"],
    "FEMININE": ["manzanas", "naranjas", "flores", "camisas", "sillas"],
    "MASCULINE": ["huevos", "limones", "libros", "tomates", "zapatos"],
    "WHEN": ["mañana", "esta noche", "el $DAY", "el $DAY por la $TIME", "el $DATE de $MONTH"],
    "TIME": ["mañana", "tarde", "noche"],
    "DAY": ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"],
    "MONTH": ["marzo", "abril", "junio", "julio", "agosto", "octubre", "diciembre"],
    "DATE": ["primero", "once", "doce", "quince", "$UNIT", "$UNIT"],
    "CLOCK": [
        *("a las $UNIT y media", "a las $UNIT y cuarto", "a las $UNIT menos cuarto"),
        *("a las $UNIT en punto", "al mediodía"),
    ],
    "NUMBER": ["$TENS y $UNIT"],
    "TENS": ["treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa"],
    "UNIT": ["dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"],
    "DIGIT": ["cero", "uno", "$UNIT", "$UNIT", "$UNIT", "$UNIT"],
}


def sentences(count: int, seed: int, language: str = "en") -> list[str]:
    """Draw `count` different sentences; a longer list begins with the shorter one of its seed."""
    rng = random.Random(f"sentences {seed}")
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        drawn[_expand("$SENTENCE", GRAMMARS[language], rng)] = None
    return list(drawn)


def vocabulary(language: str = "en") -> set[str]:
    """Every word of a language's grammar, in the grammar's spelling."""
    texts = (text for alternatives in GRAMMARS[language].values() for text in alternatives)
    return {word for text in texts for word in text.split() if not word.startswith("$")}


def _expand(text: str, grammar: Grammar, rng: random.Random) -> str:
    words = []
    for word in text.split():
        replaced = rng.choice(grammar[word[1:]]) if word.startswith("$") else ""
        words.append(_expand(replaced, grammar, rng) if replaced else word)
    return " ".join(words)
