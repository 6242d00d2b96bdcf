"""Articles, contractions and elision in each language."""

import pytest

from training.text.nouns import NOUN_FORMS, attach, phrase
from training.text.tables import LANGUAGES, Entry

CASES = {
    "en": [
        (Entry("car", plural="cars"), "a", "a car"),
        (Entry("apple", plural="apples"), "a", "an apple"),
        (Entry("hour", plural="hours"), "a", "an hour"),
        (Entry("university", plural="universities"), "a", "a university"),
        (Entry("umbrella", plural="umbrellas"), "a", "an umbrella"),
        (Entry("uncle", plural="uncles"), "a", "an uncle"),
        (Entry("car", plural="cars"), "thes", "the cars"),
        (Entry("car", plural="cars"), "of", "of the car"),
    ],
    "es": [
        (Entry("coche", "m", "coches"), "of", "del coche"),
        (Entry("coche", "m", "coches"), "to", "al coche"),
        (Entry("casa", "f", "casas"), "of", "de la casa"),
        (Entry("agua", "fa", "aguas"), "the", "el agua"),
        (Entry("agua", "fa", "aguas"), "of", "del agua"),
        (Entry("agua", "fa", "aguas"), "this", "esta agua"),
        (Entry("agua", "fa", "aguas"), "thes", "las aguas"),
        (Entry("coche", "m", "coches"), "some", "unos coches"),
    ],
    "fr": [
        (Entry("voiture", "f", "voitures"), "of", "de la voiture"),
        (Entry("train", "m", "trains"), "of", "du train"),
        (Entry("train", "m", "trains"), "to", "au train"),
        (Entry("école", "f", "écoles"), "to", "à l'école"),
        (Entry("école", "f", "écoles"), "my", "mon école"),
        (Entry("hôtel", "m", "hôtels"), "this", "cet hôtel"),
        (Entry("*hibou", "m", "*hiboux"), "the", "le *hibou"),
        (Entry("yaourt", "m", "yaourts"), "the", "le yaourt"),
        (Entry("train", "m", "trains"), "some", "des trains"),
    ],
    "it": [
        (Entry("macchina", "f", "macchine"), "of", "della macchina"),
        (Entry("zaino", "m", "zaini"), "the", "lo zaino"),
        (Entry("specchio", "m", "specchi"), "in", "nello specchio"),
        (Entry("albero", "m", "alberi"), "on", "sull'albero"),
        (Entry("albero", "m", "alberi"), "thes", "gli alberi"),
        (Entry("albero", "m", "alberi"), "a", "un albero"),
        (Entry("ora", "f", "ore"), "a", "un'ora"),
        (Entry("zaino", "m", "zaini"), "some", "degli zaini"),
        (Entry("treno", "m", "treni"), "with", "con il treno"),
        (Entry("treno", "m", "treni"), "my", "il mio treno"),
    ],
    "pt": [
        (Entry("carro", "m", "carros"), "in", "no carro"),
        (Entry("casa", "f", "casas"), "to", "à casa"),
        (Entry("carro", "m", "carros"), "from", "do carro"),
        (Entry("carro", "m", "carros"), "my", "meu carro"),
        (Entry("casa", "f", "casas"), "some", "algumas casas"),
    ],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases(language):
    said = [phrase(language, noun, form) for noun, form, _ in CASES[language]]
    assert said == [expected for _, _, expected in CASES[language]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_form_is_known(language):
    noun = Entry("mare", "m", "mari")
    assert all(phrase(language, noun, form).endswith(("mare", "mari")) for form in NOUN_FORMS)
    with pytest.raises(KeyError):
        phrase(language, noun, "thy")


def test_a_noun_without_plural_is_never_put_into_it():
    with pytest.raises(KeyError, match="no plural"):
        phrase("es", Entry("historia", "f"), "thes")


def test_italian_relatives_stand_without_article_but_for_some():
    assert phrase("it", Entry("madre", "f", "madri"), "my", relative=True) == "mia madre"
    assert phrase("it", Entry("papà", "m", "papà"), "my", relative=True) == "il mio papà"
    assert phrase("it", Entry("amica", "f", "amiche"), "my") == "la mia amica"


@pytest.mark.parametrize(
    ("language", "before", "text", "noun", "expected"),
    [
        ("fr", "Je viens de ", "Athènes", False, "Je viens d'Athènes"),
        ("fr", "Je viens de ", "Rome", False, "Je viens de Rome"),
        ("fr", "Le cri du ", "aigle", True, "Le cri de l'aigle"),
        ("fr", "La plume de la ", "oie", True, "La plume de l'oie"),
        ("fr", "Ce ", "hôtel", True, "Cet hôtel"),
        ("fr", "Ce ", "*hibou", True, "Ce *hibou"),
        ("fr", "Fais-le ", "aujourd'hui", False, "Fais-le aujourd'hui"),
        ("fr", "Je le ", "attends", False, "Je le attends"),
        ("it", "Vado a ", "Amsterdam", False, "Vado ad Amsterdam"),
        ("it", "Vado a ", "Istanbul", False, "Vado a Istanbul"),
        ("it", "Un ", "zaino", True, "Uno zaino"),
        ("it", "Il colore del ", "specchio", True, "Il colore dello specchio"),
        ("it", "Il colore della ", "auto", True, "Il colore dell'auto"),
        ("es", "Ana y ", "Irene", False, "Ana e Irene"),
        ("es", "Ana y ", "hielo", False, "Ana y hielo"),
        ("es", "Uno o ", "ocho", False, "Uno u ocho"),
        ("en", "I see ", "apples", True, "I see apples"),
        ("pt", "Vejo ", "árvores", True, "Vejo árvores"),
    ],
)
def test_the_word_before_gives_way(language, before, text, noun, expected):
    assert attach(language, before, text, noun) == expected
