"""Articles, contractions and elision: a noun in the form that a slot asks for.

Place: below `training.text.frames`. `phrase` writes a noun with its article and preposition,
`attach` puts a text behind another and lets vowels fall where the language does.

Unusual: the languages differ only in tables here. `_DETERMINERS` gives each article by gender and
by how the noun begins, and `_CONTRACTED` what a preposition and an article become together.
"""

import re

from training.text.tables import Entry

PLURAL_FORMS = ("pl", "thes", "some")
COUNTED_FORMS = (*PLURAL_FORMS, "a")  # what an uncountable noun lacks
_PREPOSITIONS = {
    "of": {"en": "of", "es": "de", "fr": "de", "it": "di", "pt": "de"},
    "to": {"en": "to", "es": "a", "fr": "à", "it": "a", "pt": "a"},
    "in": {"en": "in", "es": "en", "fr": "dans", "it": "in", "pt": "em"},
    "from": {"en": "from", "es": "de", "fr": "de", "it": "da", "pt": "de"},
    "with": {"en": "with", "es": "con", "fr": "avec", "it": "con", "pt": "com"},
    "for": {"en": "for", "es": "para", "fr": "pour", "it": "per", "pt": "para"},
    "on": {"en": "on", "es": "sobre", "fr": "sur", "it": "su", "pt": "sobre"},
}
NOUN_FORMS = ("", "pl", "the", "a", "this", "my", "thes", "some", *_PREPOSITIONS)
# By language and form: masculine and feminine, each before a plain onset, before one that Italian
# treats as heavy (s + consonant, z, gn, ps), and before a vowel; a shorter row repeats its last.
_DETERMINERS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "en": {
        "the": (("the",), ("the",)),
        "a": (("a", "a", "an"), ("a", "a", "an")),
        "this": (("this",), ("this",)),
        "my": (("my",), ("my",)),
        "thes": (("the",), ("the",)),
        "some": (("some",), ("some",)),
    },
    "es": {
        "the": (("el",), ("la",)),
        "a": (("un",), ("una",)),
        "this": (("este",), ("esta",)),
        "my": (("mi",), ("mi",)),
        "thes": (("los",), ("las",)),
        "some": (("unos",), ("unas",)),
    },
    "fr": {
        "the": (("le", "le", "l'"), ("la", "la", "l'")),
        "a": (("un",), ("une",)),
        "this": (("ce", "ce", "cet"), ("cette",)),
        "my": (("mon",), ("ma", "ma", "mon")),
        "thes": (("les",), ("les",)),
        "some": (("des",), ("des",)),
    },
    "it": {
        "the": (("il", "lo", "l'"), ("la", "la", "l'")),
        "a": (("un", "uno", "un"), ("una", "una", "un'")),
        "this": (("questo", "questo", "quest'"), ("questa", "questa", "quest'")),
        "my": (("il mio",), ("la mia",)),
        "thes": (("i", "gli"), ("le",)),
        "some": (("dei", "degli"), ("delle",)),
    },
    "pt": {
        "the": (("o",), ("a",)),
        "a": (("um",), ("uma",)),
        "this": (("este",), ("esta",)),
        "my": (("meu",), ("minha",)),
        "thes": (("os",), ("as",)),
        "some": (("alguns",), ("algumas",)),
    },
}
_CONTRACTED = {
    "en": {},
    "es": {("de", "el"): "del", ("a", "el"): "al"},
    "fr": {("de", "le"): "du", ("à", "le"): "au"},
    "it": {
        (preposition, article): stem + ending
        for preposition, stem in
        {"di": "de", "a": "a", "in": "ne", "da": "da", "su": "su"}.items()
        for article, ending in
        {"il": "l", "lo": "llo", "la": "lla", "l'": "ll'"}.items()
    },
    "pt": {
        ("de", "o"): "do", ("de", "a"): "da", ("em", "o"): "no", ("em", "a"): "na",
        ("a", "o"): "ao", ("a", "a"): "à",
    },
}  # fmt: skip
_PLAIN, _HEAVY, _VOWEL = range(3)
_ONSETS = {
    "en": (
        r"(?!)",
        r"(?!uni[^nm]|use|usu|euro|one\b|once|u-turn|ukul|utens)[aeiou]|hour|honest|heir",
    ),
    "es": (r"(?!)", r"[aeiouáéíóú]"),
    "fr": (r"(?!)", r"(?!onz|oui|uhlan|ya|yo|huit)[aeiouhâàäéèêëîïôöùûüœæ]|y[^aeiou]"),
    "it": (r"s[^aeiouàèéìòù]|z|gn|ps|pn|x|y[aeo]|i[aeo]", r"[aeiouhàèéìòù]"),
    "pt": (r"(?!)", r"[aeiouáâãàéêíóôõú]"),
}
# These relatives take the article in Italian even in the singular: la mia mamma.
_ITALIAN_WITH_ARTICLE = {"mamma", "papà", "babbo", "fidanzato", "fidanzata", "compagno", "compagna"}
# What the word before a slot becomes: before a vowel, and before a heavy Italian onset. Those of
# the first table hold before any slot, the others before nouns only.
_SINGULAR = ("del", "al", "nel", "dal", "sul")
_ALWAYS = {
    "fr": {w: w[:-1] + "'" for w in ("de", "que", "jusque", "lorsque", "puisque")},
    "it": {"a": "ad", "e": "ed"},
}
_BEFORE_VOWEL = {
    "fr": {
        "le": "l'", "la": "l'", "ce": "cet", "ma": "mon", "ta": "ton", "sa": "son", "du": "de l'",
        "au": "à l'", "beau": "bel", "nouveau": "nouvel", "vieux": "vieil",
    },
    "it": {
        "il": "l'", "la": "l'", "lo": "l'", "una": "un'", "quel": "quell'", "quella": "quell'",
        "questo": "quest'", "questa": "quest'", "bel": "bell'", "i": "gli", "dei": "degli",
        "quei": "quegli", "ai": "agli", "nei": "negli", "dai": "dagli", "sui": "sugli",
        **{w: w + "l'" for w in _SINGULAR},
        **{w: w[:-1] + "'" for w in ("della", "alla", "nella", "dalla", "sulla")},
    },
}  # fmt: skip
_BEFORE_HEAVY = {
    "il": "lo", "un": "uno", "i": "gli", "dei": "degli", "quel": "quello", "quei": "quegli",
    "ai": "agli", "nei": "negli", "dai": "dagli", "sui": "sugli",
    **{w: w + "lo" for w in _SINGULAR},
}  # fmt: skip
_LAST_WORD = re.compile(r"(?:^|(?<=[\s¿¡']))(\w+) $")


def phrase(language: str, noun: Entry, form: str, relative: bool = False) -> str:
    """The noun in one of NOUN_FORMS, such as `of`: "della macchina".

    relative: a member of the family, which stands without the article in Italian "mia madre".
    Raises KeyError for another form.
    """
    if form in PLURAL_FORMS and form != "some" and not noun.plural:
        raise KeyError(f"{noun.text!r} has no plural, which the form {form!r} needs")
    word = noun.plural if form in PLURAL_FORMS else noun.text
    if form in ("", "pl"):
        return word
    if form not in _PREPOSITIONS:
        if form == "my" and language == "it" and relative and word not in _ITALIAN_WITH_ARTICLE:
            return ("mia " if noun.gender == "f" else "mio ") + word
        return _put(_determiner(language, noun, form, word), word)
    preposition = _PREPOSITIONS[form][language]
    article = _determiner(language, noun, "the", word)
    together = _CONTRACTED[language].get((preposition, article), f"{preposition} {article}")
    return _put(together, word)


def is_feminine(noun: Entry) -> bool:
    return noun.gender in ("f", "fa")


def attach(language: str, before: str, text: str, noun: bool) -> str:
    """before + text, with the last word of `before` shortened or changed as the sound wants it.

    noun: the text is a noun (articles before it change), not a phrase or a name.
    """
    match = _LAST_WORD.search(before)
    if not match:
        return before + text
    word, onset = match[1].lower(), _onset(language, text)
    changed = _changed(language, word, text, onset, noun)
    if changed is None:
        return before + text
    if match[1][0].isupper():
        changed = changed[0].upper() + changed[1:]
    return _put(before[: match.start(1)] + changed, text)


def _changed(language: str, word: str, text: str, onset: int, noun: bool) -> str | None:
    if language == "es":  # y Irene -> e Irene, o otro -> u otro
        if word == "y" and re.match(r"h?i(?!e)|í", text.lower()):
            return "e"
        return "u" if word == "o" and re.match(r"h?[oó]", text.lower()) else None
    if language == "it" and onset == _HEAVY:
        return _BEFORE_HEAVY.get(word) if noun else None
    if onset != _VOWEL or language not in _ALWAYS:
        return None
    if word in _ALWAYS[language]:
        if language == "it" and text[0].lower() != word:
            return None
        return _ALWAYS[language][word]
    return _BEFORE_VOWEL[language].get(word) if noun else None


def _determiner(language: str, noun: Entry, form: str, word: str) -> str:
    feminine = is_feminine(noun)
    onset = _onset(language, word)
    if language == "es" and noun.gender == "fa" and form in ("the", "a"):
        feminine = False
    choices = _DETERMINERS[language][form][feminine]
    return choices[min(onset, len(choices) - 1)]


def _onset(language: str, word: str) -> int:
    heavy, vowel = _ONSETS[language]
    if re.match(heavy, word.lower()):
        return _HEAVY
    return _VOWEL if re.match(vowel, word.lower()) else _PLAIN


def _put(before: str, text: str) -> str:
    return before + text if before.endswith("'") else f"{before} {text}"
