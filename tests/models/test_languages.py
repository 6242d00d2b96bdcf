"""The one table of languages: each can be said in several ways, and wrong ones are explained."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import LanguageError
from dragoman.models.languages import LANGUAGES, find


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("es", "es"), ("ES", "es"), ("spa", "es"), ("es-MX", "es"), ("pt_BR", "pt"),
        ("Spanish", "es"), (" ja ", "ja"), ("ger", "de"), ("deu", "de"), ("zh-Hant", "zh"),
        ("norwegian bokmål", "nb"), ("Español", "es"), ("spanisch", "es"), ("日本語", "ja"),
        ("norsk", "no"), ("fil", "fil"), ("tgl", "fil"),
    ],
)  # fmt: skip
def test_a_language_is_found_by_code_tag_and_name(said, code):
    assert find(said).code == code


@pytest.mark.parametrize("said", ["xx", "klingon", "", "e", "-", "spaniish"])
def test_an_unknown_language_is_refused_with_a_choice(said):
    with pytest.raises(LanguageError, match=r"unknown language .*choose"):
        find(said)


@pytest.mark.parametrize("said", ["esp", "Spaniish", "espanol"])
def test_the_nearest_are_named(said):
    with pytest.raises(LanguageError, match=r"choose .*es \(Spanish\)"):
        find(said)


@pytest.mark.parametrize(
    ("said", "code"),
    [("Brazilian Portuguese", "pt"), ("Simplified Chinese", "zh"), ("अंग्रेज़ी", "en"), ("英文", "en")],
)
def test_names_of_variants_and_in_other_languages_are_found(said, code):
    assert find(said).code == code


@given(st.text(max_size=12))
def test_whatever_is_said_is_found_or_refused(said):
    with contextlib.suppress(LanguageError):
        assert find(said) in LANGUAGES.values()


def test_codes_tags_and_names_are_unique_and_well_formed():
    ways = [{one.code, *map(str.lower, one.names), *one.tags} for one in LANGUAGES.values()]
    said = [way for each in ways for way in each]
    assert len(said) == len(set(said))
    assert all(2 <= len(one.code) <= 3 and one.code.islower() for one in LANGUAGES.values())
    assert all(len(tag) == 3 for one in LANGUAGES.values() for tag in one.tags)
    assert len(LANGUAGES) > 100
    assert all(one.names[0] == one.name for one in LANGUAGES.values())


def test_scripts_without_spaces_and_from_right_to_left_are_marked():
    assert {one.code for one in LANGUAGES.values() if not one.spaced} >= {"ja", "zh", "th", "km"}
    assert {one.code for one in LANGUAGES.values() if one.right_to_left} >= {"ar", "he", "fa", "ur"}
