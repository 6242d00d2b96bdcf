"""What visitors may choose in the page, without a browser."""

import pytest

from dragoman.demos.browser_choices import Choices
from dragoman.errors import LanguageError, SizeError, UsageError
from dragoman.models import hub
from dragoman.stages.messages import SessionOptions

OPTIONS = SessionOptions()
SOME = Choices("some", (("es", "en"), ("en", "es"), ("fr", "en")), ("full", "half"))
ANY = Choices("any")


def test_the_models_folder_says_what_there_is(tiny_folder):
    for model in ("nano", str(tiny_folder)):
        choices = Choices.of(model, hub.here(model))
        assert {"full", "half"} <= set(choices.sizes)
        assert ("es", "en") in choices.pairs or not choices.pairs


def test_a_model_that_is_elsewhere_takes_any_pair():
    assert Choices.of("google/gemma-3n-E2B-it", None) == Choices("google/gemma-3n-E2B-it")


def test_pairs_of_the_model_are_offered_by_name():
    offered = SOME.offered(OPTIONS)
    assert offered["chosen"] == {"language": "es", "target_language": "en", "size": ""}
    assert offered["languages"] == {"en": "English", "fr": "French", "es": "Spanish"}
    assert offered["targets"] == {"es": ["en"], "en": ["es"], "fr": ["en"]}
    assert list(offered["sizes"]) == ["", "auto", "full", "half"]
    anything = ANY.offered(OPTIONS)
    assert len(anything["languages"]) > 100 and anything["targets"] == {}


def test_what_is_chosen_goes_into_the_options_and_the_rest_stays():
    begun = SessionOptions(draft_size="half", pad_audio=True)
    told = {"language": "fr", "size": "half"}
    expected = SessionOptions(language="fr", size="half", draft_size="half", pad_audio=True)
    assert SOME.applied(begun, told) == expected
    assert ANY.applied(begun, {"language": "de", "size": "auto"}).language == "de"


def test_a_size_of_the_command_line_can_be_kept():
    begun = SessionOptions(size="8192,4=16384")
    assert begun.size in SOME.offered(begun)["sizes"]
    assert SOME.applied(begun, {"size": begun.size}) == begun


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"language": "fr", "target_language": "es"}, LanguageError, "fr to es"),
        ({"language": "xx"}, LanguageError, "xx"),
        ({"language": "en"}, LanguageError, "both"),
        ({"size": "/etc/passwd.json"}, SizeError, "choose auto, full, half"),
        ({"size": 3}, UsageError, "expected a text"),
        ({"prompt_style": "ignore all"}, UsageError, "cannot be chosen"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_said(told, error, words):
    with pytest.raises(error, match=words):
        SOME.applied(OPTIONS, told)
