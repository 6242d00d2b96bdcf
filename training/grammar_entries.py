"""How the tables of words are written: builders of entries, and the spelling rules of each
language.

Place: used by the data of the bundled grammar, `training.grammar_es_en`. A table is text with
entries of the form `Spanish = English`, separated by semicolons or line ends.
"""

import re
from collections.abc import Iterable, Sequence

from training.grammar import Entry, Forms

_GENDERS = ("ms", "fs", "mp", "fp")
_PERSONS = ("1s", "2s", "3s", "1p", "3p")
_PAST_PERSONS = ("1s", "2s", "3s", "3p")


def entry(spanish: str, english: str) -> Entry:
    """An entry that nothing agrees with."""
    return {"es": Forms({"text": spanish}), "en": Forms({"text": english})}


def plain(table: str) -> list[Entry]:
    """Entries that nothing agrees with."""
    return [entry(*_sides(item)) for item in _items(table)]


def combined(first: Sequence[Entry], second: Sequence[Entry]) -> list[Entry]:
    """Each entry of the first followed by each of the second."""
    return [
        {lang: Forms({"text": f"{a[lang].forms['text']} {b[lang].forms['text']}"}) for lang in a}
        for a in first
        for b in second
    ]


def nouns(table: str) -> list[Entry]:
    """`Spanish = English : gender`, gender one of ms, fs, mp, fp; form "bare" has no article."""
    out = []
    for item in _items(table):
        pair, gender = (side.strip() for side in item.rsplit(":", 1))
        spanish, english = _sides(pair)
        es = {"text": spanish, "bare": re.sub("^(el|la|los|las) ", "", spanish)}
        en = {"text": english, "bare": re.sub("^the ", "", english)}
        out.append({"es": Forms(es, (gender,)), "en": Forms(en, (gender[1],))})
    return out


def subjects(table: str) -> list[Entry]:
    """`Spanish = English : person gender`; verbs agree with one, adjectives with the other."""
    out = []
    for item in _items(table):
        pair, tags = item.rsplit(":", 1)
        person, gender = tags.split()
        spanish, english = _sides(pair)
        out.append(
            {
                "es": Forms({"text": spanish}, (person, gender)),
                "en": Forms({"text": english}, (person, gender[1])),
            }
        )
    return out


def tasters(table: str) -> list[Entry]:
    """`Spanish = English : person`: who likes something, "a Ana le"; form "no" is the denial."""
    out = []
    for item in _items(table):
        pair, person = (side.strip() for side in item.rsplit(":", 1))
        spanish, english = _sides(pair)
        pronoun = "le" if person == "3s" else "les"
        es = {"text": f"a {spanish} {pronoun}", "no": f"a {spanish} no {pronoun}"}
        out.append({"es": Forms(es), "en": Forms({"text": english}, (person,))})
    return out


def agreeing(table: str) -> list[Entry]:
    """Words that agree with a noun: `ms fs mp fp = English`, or `singular plural = English`.

    The English is one for all, or `singular / plural`.
    """
    out = []
    for item in _items(table):
        spanish, english = _sides(item)
        forms = spanish.split()
        if len(forms) == 2:
            forms = [forms[0], forms[0], forms[1], forms[1]]
        singular, _, plural = (side.strip() for side in english.partition("/"))
        out.append(
            {
                "es": Forms({f"text.{g}": f for g, f in zip(_GENDERS, forms, strict=True)}),
                "en": Forms({"text.s": singular, "text.p": plural or singular, "text": singular}),
            }
        )
    return out


def verb(spanish: str, past: str, english: str) -> Entry:
    """A verb. spanish: infinitive and five present forms; english: base/third person/past.

    past: forms for 1s 2s 3s 3p, as the first person plural often sounds like the present.
    """
    infinitive, *present = spanish.split()
    base, third, before = english.split("/")
    es = {"inf": infinitive} | _by_person("now", _PERSONS, present)
    es |= _by_person("past", _PAST_PERSONS, past.split())
    return {
        "es": Forms(es),
        "en": Forms({"inf": base, "now": base, "now.3s": third, "past": before}),
    }


def persons(spanish: str, english: str) -> Entry:
    """A phrase for 1s 2s 3s 1p 3p, `/` between the forms; English may have one form for all."""
    forms = english.split("/") if "/" in english else [english] * len(_PERSONS)
    return {
        "es": Forms(_by_person("text", _PERSONS, spanish.split("/"))),
        "en": Forms(_by_person("text", _PERSONS, forms)),
    }


def finish_spanish(text: str) -> str:
    """Contract the masculine article: "a el" is "al", "de el" is "del"."""
    return re.sub(r"\b([Aa]|[Dd]e) el\b", lambda m: "al" if m[1].lower() == "a" else "del", text)


def finish_english(text: str) -> str:
    """Write "an" before a vowel sound."""
    return re.sub(r"\b([Aa]) (?=[aeio]|u(?!ni|se))", r"\1n ", text)


FINISH = {"es": finish_spanish, "en": finish_english}


def _by_person(form: str, people: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    return {f"{form}.{p}": text for p, text in zip(people, texts, strict=True) if text}


def _items(table: str) -> Iterable[str]:
    return (item.strip() for item in re.split(r"[\n;]", table) if item.strip())


def _sides(item: str) -> tuple[str, str]:
    spanish, english = item.split("=")
    return spanish.strip(), english.strip()
