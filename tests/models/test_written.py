"""Languages are told apart where letters or common words do so, and doubt is a no."""

from itertools import permutations

import pytest

from dragoman.models.languages import LANGUAGES
from dragoman.models.written import _COMMON, _SCRIPTS, is_other

SAID = {
    "en": "The train to Madrid leaves tomorrow and we have to be there at nine.",
    "es": "El tren a Madrid sale mañana y los viajeros tienen que estar allí a las nueve.",
    "fr": "Le train pour Madrid part demain et nous devons être dans la gare à neuf heures.",
    "it": "Il treno per Madrid parte domani e non abbiamo più tempo, ma questo è il biglietto.",
    "pt": "O trem para Madri parte amanhã e nós não temos mais tempo, mas está tudo bem.",
    "de": "Der Zug nach Madrid fährt morgen und wir müssen auch die Fahrkarten kaufen.",
    "nl": "De trein naar Madrid vertrekt morgen en wij zijn er ook niet op tijd.",
    "ru": "Поезд в Мадрид отправляется завтра.",
    "ja": "マドリード行きの電車は明日出発します。",
    "zh": "去马德里的火车明天出发。",
    "ar": "القطار إلى مدريد يغادر غدًا.",
    "hi": "मैड्रिड की ट्रेन कल जाती है।",
    "th": "รถไฟไปมาดริดออกพรุ่งนี้",
    "he": "הרכבת למדריד יוצאת מחר.",
    "ko": "마드리드행 기차는 내일 떠납니다.",
}
SAME_SCRIPT = {frozenset(("ja", "zh"))}


@pytest.mark.parametrize("code", SAID)
def test_a_sentence_is_never_taken_for_another_language(code):
    assert not is_other(SAID[code], code, SAID)


@pytest.mark.parametrize(("wanted", "found"), permutations(SAID, 2))
def test_a_sentence_in_another_language_is_noticed(wanted, found):
    expected = frozenset((wanted, found)) not in SAME_SCRIPT
    assert is_other(SAID[found], wanted, [found]) is expected


@pytest.mark.parametrize(
    ("text", "wanted", "other"),
    [
        ("", "es", "en"),
        ("Madrid.", "es", "en"),
        ("The and.", "es", "en"),  # too few words
        ("Escuchamos a The Who y a The Clash en la radio de los padres.", "es", "en"),  # names
        ("Il a dit « buenos días » et il est parti.", "fr", "es"),
        ("GPU, CPU や API を使います。", "ja", "en"),
        ("На сцене играет группа The Who.", "ru", "en"),
        ("No sé.", "es", "it"),
        ("Jedna věta, kterou nikdo nepozná.", "cs", "en"),
        ("Anything at all that was said here", "xx", "en"),
        ("My son, your son and his son.", "en", "es"),
        ("Las Vegas, Los Angeles, San Diego.", "en", "es"),
        ("Do as I do, as I say.", "en", "pt"),
        ("Non, non, non, non !", "fr", "it"),
        ("Mais non, mais non !", "fr", "pt"),
        ("Son père, son fils, son ami.", "fr", "es"),
        ("À force d'en parler, de route en route.", "fr", "nl"),
        ("Es regnet, es schneit.", "de", "es"),
        ("Was hast du, was willst du?", "de", "en"),
        ("We gaan nu, we moeten.", "nl", "en"),
        ("Van Gogh, Van Dyck.", "en", "nl"),
        ("Casa de Pedro de Madrid.", "es", "nl"),
    ],
)
def test_doubt_is_a_no(text, wanted, other):
    assert not is_other(text, wanted, [other])


def test_the_tables_hold_known_languages():
    codes = {code for line in _SCRIPTS.values() for code in line.split()} | set(_COMMON)
    assert codes <= set(LANGUAGES)
