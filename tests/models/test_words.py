"""Words of every script: what is counted, what is never torn, how wide it is."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.models.words import (
    begins_word,
    columns,
    normalized,
    one_line,
    spaced_words,
    words,
)

# What may stand on a line of its own, parted by bars; all but Hindi and Arabic write no spaces.
SENTENCES = {
    "ja": "今|日|は|「東|京|タ|ワー」|で|GPU|の|話|を|し|よ|う。|3|時|で|す|か?",
    "zh": "他|说:|“你|好,|世|界。”|增|长|12.5%|了!",
    "th": "ไป|เที่|ย|ว|ทะ|เล|กำ|ลั|ง|ดี|จ|ริ|งๆ |ใช่|ไห|ม",
    "lo": "ຂ້|ອ|ຍ|ໄປ|ຕະ|ຫຼາ|ດ",
    "km": "ខ្ញុំ|ស្រ|ឡា|ញ់|ភា|សា|ខ្មែ|រ។",
    "my": "ကျွန်|တော် |မြန်|မာ|စ|ကား |ပြော|တတ်|တယ်။",
    "hi": "अंतर्राष्ट्रीय |सम्मेलन |में |आपका |स्वागत |है।",
    "ar": "أهلاً |وسهلاً |بكم |في |المؤتمر، |يا |أصدقاء!",
    "he": "שָׁלוֹם |לכולם, |וברוכים |הבאים |לצה״ל.",
    "es": "¿Por |dónde |«empezamos»? |Dall'orbita, |a |las |3.",
}
WRITTEN = st.text(
    st.sampled_from("aé e\u0301 1.,?¿「」。ー々今日っカ่ี เกา្កម်န\n\u3000가ب👩\u200d"), max_size=30
)


@pytest.mark.parametrize("code", SENTENCES)
def test_words_end_where_a_line_may(code):
    expected = SENTENCES[code].split("|")
    text = "".join(expected)
    assert spaced_words(text) == expected
    assert words(text) == [word.rstrip() for word in expected]


@given(WRITTEN)
def test_nothing_is_lost_and_no_mark_leaves_its_letter(text):
    assert "".join(words(text)) == "".join(text.split())
    found = spaced_words(text)
    assert "".join(found) == " ".join(text.split())
    for before, word in pairwise(found):
        assert not (before[-1].isalpha() and unicodedata.category(word[0]).startswith("M"))


def test_case_punctuation_and_symbols_are_not_compared():
    assert normalized("¿Qué, tal?  ¡Bien—gracias! 3 €") == "qué tal bien gracias 3"
    assert normalized("Que\u0301") == "que\u0301", "an accent of its own belongs to its letter"


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("「東京」のGPU、100%!", "東 京 の gpu 100"),
        ("ที่นี่ ดี", "ที่ นี่ ดี"),
        ("ខ្មែរ", "ខ្មែ រ"),
        ("अंतर्राष्ट्रीय हिन्दी।", "अंतर्राष्ट्रीय हिन्दी"),
        ("إِنَّ السَّلامَ، مُهِمّ", "إِنَّ السَّلامَ مُهِمّ"),
    ],
)
def test_letters_of_scripts_without_spaces_are_compared_singly(text, compared):
    assert normalized(text) == compared


def test_a_token_may_begin_a_word_behind_a_letter():
    for text in ("東京", "か", "ก", "เ", "မ", "ខ"):
        assert begins_word(text), text
    for text in ("ー", "ょ", "々", "า", "ๆ", "่", "န်", "်", "GPU", "가", "س", "हि", "、", ""):
        assert not begins_word(text), text


@pytest.mark.parametrize(
    ("text", "wide"),
    [
        ("Buenos días", 11),
        ("東京の GPU。", 12),
        ("ที่นี่", 2),
        ("हिन्दी", 2),
        ("한국", 4),
        ("\u200fمرحبا", 5),
        ("e\u0301", 1),
        ("", 0),
    ],
)
def test_marks_take_no_room_and_wide_letters_twice_as_much(text, wide):
    assert columns(text) == wide


def test_lines_are_joined_as_their_script_is_written():
    assert one_line(["今日は、", "「東京」です"]) == "今日は、「東京」です"
    assert one_line(["Hola,", "", "mundo"]) == "Hola, mundo"
    assert one_line(["Hola.", "こんにちは。"]) == "Hola. こんにちは。"
