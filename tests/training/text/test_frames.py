"""Slots, agreement, and what is refused."""

import pytest

from training.text.frames import parse
from training.text.tables import Entry, Filler, Row, TableError

LAMP = Filler(
    "object",
    "object:1",
    (
        Entry("lamp", "", "lamps"),
        Entry("lámpara", "f", "lámparas"),
        Entry("lampe", "f", "lampes"),
        Entry("lampada", "f", "lampade"),
        Entry("abajur", "m", "abajures"),
    ),
)
HOOK = Filler(
    "object",
    "object:2",
    (
        Entry("hook", "", "hooks"),
        Entry("gancho", "m", "ganchos"),
        Entry("crochet", "m", "crochets"),
        Entry("gancio", "m", "ganci"),
        Entry("gancho", "m", "ganchos"),
    ),
)
OLD = Filler(
    "adj",
    "adj:1",
    (
        Entry("old", feminine="old"),
        Entry("viejo", feminine="vieja"),
        Entry("vieux", feminine="vieille"),
        Entry("vecchio", feminine="vecchia"),
        Entry("velho", feminine="velha"),
    ),
)
MILK = Filler("drink", "drink:1", (Entry("milk"), *[Entry("leche", "f")] * 4))


def row(*cells: str) -> Row:
    return Row("home", cells if len(cells) == 5 else cells * 5, "home.tsv:2")


def test_slots_and_agreement_follow_the_noun_of_each_language():
    frame = parse(
        row(
            "where is {object:the}? it is {adj@object}.",
            "¿dónde está {object:the}? es {adj@object}, [roto/rota@object].",
            "où est {object:the}? [il/elle@object] est {adj@object}.",
            "dov'è {object:the}? è {adj@object}.",
            "cadê {object:the}? [ele/ela@object] é {adj@object}.",
        )
    )
    assert frame.slots == {"adj": "adj", "object": "object"}
    assert frame.fill({"object": LAMP, "adj": OLD}) == {
        "en": "Where is the lamp? It is old.",
        "es": "¿Dónde está la lámpara? Es vieja, rota.",
        "fr": "Où est la lampe? Elle est vieille.",
        "it": "Dov'è la lampada? È vecchia.",
        "pt": "Cadê o abajur? Ele é velho.",
    }


def test_an_english_adjective_stands_before_its_noun():
    frame = parse(row("We saw {object:a} {adj@object} today."))
    filled = frame.fill({"object": LAMP, "adj": OLD})
    assert filled["en"] == "We saw an old lamp today."
    assert filled["es"] == "We saw una lámpara vieja today."
    assert filled["fr"] == "We saw une lampe vieille today."


def test_two_draws_of_one_category():
    frame = parse(row("{object:the} and {object#2:thes}."))
    filled = frame.fill({"object": LAMP, "object#2": HOOK})
    assert filled["es"] == "La lámpara and los ganchos."
    assert filled["pt"] == "O abajur and os ganchos."


def test_an_uncountable_noun_takes_no_counted_form():
    assert not parse(row("some {drink:some}.")).takes("drink", MILK)
    assert not parse(row("{drink:a}.")).takes("drink", MILK)
    assert parse(row("{drink:the}.")).takes("drink", MILK)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["no slot."], "slots"),
        (["{object:thine}."], "form"),
        (["{object:the} [a/b@person]."], "agreement"),
        (["{object:the."], "cannot read"),
        (["{object}.", "{object}.", "{person}.", "{object}.", "{object}."], "in fr the slots"),
    ],
)
def test_faulty_frames_are_refused(cells, message):
    with pytest.raises(TableError, match=message):
        parse(row(*cells))
