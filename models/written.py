"""Whether a text is plainly in another language than it should be: a guard of answers.

Models now and then write down Italian in English, or leave a translation in the speaker's language.
Between languages of different scripts the letters tell; between some of those written in Latin
letters their commonest short words do, but for those that both languages have. All others are not
told apart, and doubt is always a no: names and quotations in other languages are ordinary speech.
"""

from collections.abc import Iterable
from functools import cache

import regex

from dragoman.models.words import words

LEAST_LETTERS = 6  # in another script, ideographs and syllables count as two
MOST_OF_ALL = 0.8
LEAST_WORDS, LEAST_COMMON, LEAST_SHARE = 4, 2, 0.25

_SCRIPTS = {
    "Arabic": "ar fa ur ps ckb sd ug",
    "Hebrew": "he yi",
    "Cyrillic": "ru uk bg be mk kk ky tg tt",
    "Greek": "el",
    "Armenian": "hy",
    "Georgian": "ka",
    "Devanagari": "hi mr ne sa",
    "Bengali": "bn as",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Oriya": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Myanmar": "my",
    "Khmer": "km",
    "Tibetan": "bo",
    "Thaana": "dv",
    "Ethiopic": "am ti",
    "Hangul": "ko",
    "Han": "zh yue ja",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Latin": "en es fr it pt de nl ca gl ro pl cs sk sl hr hu fi sv da no nb nn is et lv lt sq tr "
    "vi id ms fil sw eu ga cy mt af",
}
# Words that are common in one language and are hardly ever written in the others of these.
_COMMON = {
    "en": "the and of to is are was were you that this with have it we they what not be from for",
    "es": "el los las y que es está son del una por para con pero muy hay más yo ella nosotros",
    "fr": "le les des et est sont une du pour avec dans vous nous je il elle pas ce cette très",
    "it": "il gli di che è sono della una per con non molto anche questo io lei noi più nel",
    "pt": "os as não é são uma para com mas muito mais eu ele você nós também está do da em",
    "de": "der die das und ist sind nicht ein eine mit für auf ich wir sie auch zu den dem",
    "nl": "de het een en is zijn niet met voor op ik wij ook dat van naar maar heeft",
}
# Words above that another of these languages has as well, though less often, or in names.
_ALSO = {
    "en": "las son as do da no van de en die un la le les du des non per",
    "es": "de en",
    "fr": "de en son non mais es",
    "it": "de in os as",
    "pt": "de en",
    "de": "es was in",
    "nl": "we was",
}
_TWICE = {"Han", "Hiragana", "Katakana", "Hangul"}


def is_other(text: str, wanted: str, others: Iterable[str]) -> bool:
    """Whether ``text`` is plainly in one of the languages ``others`` and not in ``wanted`` (codes).

    Languages that this module does not tell apart from ``wanted`` are never found.
    """
    return any(_is_rather(text, other, wanted) for other in others if other != wanted)


def _is_rather(text: str, other: str, wanted: str) -> bool:
    there, here = _scripts(other), _scripts(wanted)
    if not there or not here:
        return False
    if there.isdisjoint(here):
        found = _letters(text, there)
        all_ = found + _letters(text, here)
        return found >= LEAST_LETTERS and found > MOST_OF_ALL * all_
    said = [word.strip(".,;:!?¡¿\"'«»“”()").lower() for word in words(text)]
    theirs = _common(other) - _common(wanted) - frozenset(_ALSO.get(wanted, "").split())
    ours = _common(wanted) - _common(other)
    found = [word for word in said if word in theirs]
    return (
        len(said) >= LEAST_WORDS
        and len(set(found)) >= LEAST_COMMON  # a repeated word may be a name
        and len(found) >= LEAST_SHARE * len(said)
        and not any(word in ours for word in said)
    )


def _letters(text: str, scripts: Iterable[str]) -> int:
    return sum(len(_pattern(s).findall(text)) * (2 if s in _TWICE else 1) for s in scripts)


@cache
def _pattern(script: str) -> regex.Pattern[str]:
    return regex.compile(rf"\p{{Script={script}}}")


@cache
def _scripts(code: str) -> frozenset[str]:
    return frozenset(script for script, codes in _SCRIPTS.items() if code in codes.split())


@cache
def _common(code: str) -> frozenset[str]:
    return frozenset(_COMMON.get(code, "").split())
