"""The grammar: agreement, prefixes, splits."""

import random
import re
from collections import Counter, defaultdict

import pytest

from training.grammar import (
    Chunk,
    Forms,
    Grammar,
    Sentence,
    Template,
    grammar,
    sample,
    split,
    split_of,
)

DRAWS = 12_000


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    rng = random.Random(11)
    return [sample(rng) for _ in range(DRAWS)]


def test_orthography(sentences):
    for sentence in sentences:
        for text in (sentence.spanish, sentence.english):
            assert re.fullmatch(r"¿?[A-ZÁÉÍÓÚ][\w',¿ ]*[.?]", text), text
            assert "  " not in text and " ," not in text and " ." not in text, text
        assert ("¿" in sentence.spanish) == sentence.spanish.endswith("?"), sentence.spanish
        assert sentence.spanish.endswith("?") == sentence.english.endswith("?"), sentence.spanish


def test_length_and_vocabulary(sentences):
    lengths = Counter(len(sentence.spanish.split()) for sentence in sentences)
    assert min(lengths) >= 3 and max(lengths) <= 15
    words = {w.strip("¿?.,").lower() for s in sentences for w in s.spanish.split()}
    assert 350 <= len(words) <= 650


def test_agreement(sentences):
    """Articles, adjectives and verbs fit their nouns, for words whose form is plain to see."""
    wrong = re.compile(
        r"\b(el (mesa|casa|silla|carta|reunión|clase|estación)|la (coche|libro|informe|museo|tren)"
        r"|un (casa|mesa|carta)|una (coche|libro|informe)|(casa|mesa) (rojo|negro|nuevo)"
        r"|(coche|libro) (roja|negra|nueva|larga)|(zapatos|llaves) (rojo|roja|nuevo|nueva)"
        r"|llaves \w+os|a el|de el|gusta (los|las)|gustan (el|la)"
        r"|(el|un) \w+ (blanca|vieja|pequeña)|(la|una) \w+ (blanco|viejo|pequeño))\b"
        r"|^(Mis padres|Los niños) (está|es|tiene|va|come)\b"
        r"|^(Mi hermana|Ana|Ella) (están|son|tienen|van)\b"
        r"|^(Mi hermana|Ana|Ella) está (muy )?\w+o\b"
    )
    english = re.compile(
        r"\b(a [aeio]\w+|an [^aeiou]\w+|these (car|book|house)|(?<!and )I (is|are|has|wants))\b"
        r"|^(He|She|Ana|My sister) (have|are|want|buy|go|do)\b"
        r"|^(They|We|My parents) (has|is|wants|am|buys|does)\b"
    )
    for sentence in sentences:
        assert not wrong.search(sentence.spanish), sentence.spanish
        assert not english.search(sentence.english), sentence.english


def test_one_translation_for_one_text(sentences):
    translations = defaultdict(set)
    for sentence in sentences:
        translations[sentence.spanish].add(sentence.english)
    assert [t for t in translations.values() if len(t) > 1] == []


def test_english_prefixes_only_grow_and_end_at_the_whole(sentences):
    for sentence in sentences[:4_000]:
        words = len(sentence.spanish.split())
        prefixes = [sentence.english_prefix(n) for n in range(words + 1)]
        assert prefixes[0] == "" and prefixes[-1] == sentence.english
        assert all(prefix != sentence.english for prefix in prefixes[:-1]), sentence.spanish
        for before, after in zip(prefixes, prefixes[1:], strict=False):
            assert (after + " ").startswith(before + " ") or before == "", (before, after)


def test_english_prefix_waits_for_its_source():
    sentence = Sentence(
        {
            "es": (Chunk("¿A qué hora", (0,)), Chunk("sale", (1,)), Chunk("el tren?", (2,))),
            "en": (
                Chunk("What time", (0,)),
                Chunk("does", (1,)),
                Chunk("the train", (2,)),
                Chunk("leave?", (1,)),
            ),
        }
    )
    assert [sentence.english_prefix(n) for n in range(7)] == [
        "", "", "", "What time", "What time does", "What time does",
        "What time does the train leave?",
    ]  # fmt: skip


def test_english_is_mostly_said_along_the_way(sentences):
    """Half-way through the Spanish, some English can be said for nearly every sentence."""
    early = sum(bool(s.english_prefix(-(-len(s.spanish.split()) * 2 // 3))) for s in sentences)
    assert early / len(sentences) > 0.95


def test_spanish_prefix(sentences):
    sentence = next(s for s in sentences if len(s.spanish.split()) > 5)
    words = sentence.spanish.split()
    assert sentence.spanish_prefix(3) == " ".join(words[:3]).rstrip(",")
    assert sentence.spanish_prefix(len(words)) == sentence.spanish
    assert not sentence.spanish_prefix(len(words) - 1).endswith((".", "?"))


def test_split_is_stable_and_of_the_right_size(sentences):
    assert split_of("El vuelo a Roma sale el lunes a las cinco.") == split_of(
        "El vuelo a Roma sale el lunes a las cinco."
    )
    # Written down once: a change would move trained sentences into the test set.
    assert split_of("Muchas gracias a todos por escuchar.") == "test"
    assert split_of("Hoy vamos a hablar de los resultados.") == "train"
    counts = Counter(split(sentence) for sentence in sentences)
    assert 0.94 < counts["train"] / DRAWS < 0.98
    assert 0.01 < counts["dev"] / DRAWS < 0.03 and 0.01 < counts["test"] / DRAWS < 0.03


def test_millions_of_sentences():
    """Draws of one pattern hardly ever collide, so it has far more than a million fillings."""
    bundled = grammar()
    template = next(
        t for t in bundled.templates if "{use.inf}" in t.texts["es"] and "{when}" in t.texts["es"]
    )
    rng = random.Random(3)
    drawn = [bundled.fill(template, rng).spanish for _ in range(2_000)]
    # Birthday bound: with N fillings, about draws² / 2N pairs collide.
    assert len(drawn) - len(set(drawn)) <= 20


def test_same_seed_same_sentences():
    first = [sample(random.Random(5)).spanish for _ in range(3)]
    assert first == [sample(random.Random(5)).spanish for _ in range(3)]


def test_misaligned_template_is_refused():
    entry = {"es": Forms({"text": "uno"}), "en": Forms({"text": "one"})}
    with pytest.raises(ValueError, match="before its source"):
        Grammar(
            [Template({"es": "hay | {n}", "en": "{n} | there is"})],
            {"n": [entry]},
            {"es": str, "en": str},
        )
    with pytest.raises(ValueError, match="unknown categories"):
        Grammar([Template({"es": "{x}", "en": "{x}"})], {"n": [entry]}, {"es": str, "en": str})
