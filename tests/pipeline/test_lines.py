"""Subtitles of all scripts: what a line holds, where it breaks, which way it runs."""

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.models.words import columns, spaced_words
from dragoman.pipeline.formats import FORMATS
from dragoman.pipeline.lines import Passage, least
from dragoman.pipeline.subtitles import cues
from dragoman.stages.messages import Caption, Text

SPOKEN = {
    "ja": "皆さん、おはようございます。今日は「同時通訳」の歴史と、まだ解決されていない問題について"
    "お話しします。コンピューターは、人間の通訳者のように聞きながら訳せるでしょうか?",
    "zh": "大家早上好,欢迎参加这次会议。今天我们要谈谈“同声传译”的历史,"
    "以及那些我们至今还没有解决的问题。我们从哪里开始呢?",
    "th": "สวัสดีตอนเช้าทุกท่าน ยินดีต้อนรับสู่การประชุมครั้งนี้ "
    "วันนี้เราจะพูดถึงประวัติของการแปลพร้อมกัน และปัญหาที่เรายังแก้ไม่ได้จริงๆ",
    "ko": "여러분 안녕하세요, 이번 회의에 오신 것을 환영합니다. "
    "오늘은 동시통역의 역사에 대해 이야기하겠습니다.",
    "ar": "صباح الخير جميعًا ومرحبًا بكم في هذا المؤتمر. "
    "سنتحدث اليوم عن تاريخ الترجمة الفورية، وعن المشكلات التي لم نحلها بعد.",
    "he": "בוקר טוב לכולם וברוכים הבאים לכנס הזה. "
    "היום נדבר על ההיסטוריה של התרגום הסימולטני, ועל הבעיות שעדיין לא פתרנו.",
    "hi": "सभी को सुप्रभात और इस सम्मेलन में आपका स्वागत है। आज हम साथ-साथ अनुवाद के "
    "इतिहास के बारे में बात करेंगे, और उन समस्याओं के बारे में जो अभी तक हल नहीं हुई हैं।",
}
MOST = {"ja": 26, "zh": 32, "ko": 32, "th": 35}
NEVER_FIRST = set("、。,.!?」』”ーっゃゅょァィゥッャュョ々ะาำๆฯ।،")
NEVER_LAST = set("「『“เแโใไ")


def shown(text, code, seconds=14):
    caption = Caption("final", 0, 0, seconds * 16_000, code, "en", Text(text), Text("Well."))
    return cues([caption])


@pytest.mark.parametrize("code", SPOKEN)
def test_lines_keep_to_their_languages_width_and_tear_nothing(code):
    found = [line for cue in shown(SPOKEN[code], code) for line in cue.lines]
    assert len(found) > 2
    for line in found:
        assert columns(line) <= MOST.get(code, 42)
        assert line[0] not in NEVER_FIRST and line[-1] not in NEVER_LAST
        assert not unicodedata.category(line[0]).startswith("M")
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", SPOKEN[code])


def test_japanese_breaks_at_its_sentences_and_before_words():
    assert [cue.lines for cue in shown(SPOKEN["ja"], "ja")] == [
        ("皆さん、", "おはようございます。"),
        ("今日は「同時通訳」の歴史", "と、まだ解決されていない"),  # full, so no better break fits
        ("問題についてお話しします。", "コンピューターは、"),
        ("人間の通訳者のように聞き", "ながら訳せるでしょうか?"),
    ]
    assert [cue.lines for cue in shown("私は昨日、東京の図書館で本を読みました。", "ja")] == [
        ("私は昨日、",),
        ("東京の図書館で", "本を読みました。"),
    ]


def test_both_languages_keep_to_their_own_width():
    english = (
        "Good morning everyone. Today I will talk about the history of simultaneous interpreting "
        "and about problems that nobody has solved. Can computers translate while they listen?"
    )
    caption = Caption("final", 0, 0, 14 * 16_000, "ja", "en", Text(SPOKEN["ja"]), Text(english))
    found = cues([caption], "transcript-above")
    assert all(len(cue.lines) == 2 for cue in found)
    assert all(
        columns(above) <= 26 and columns(below) <= 42 for above, below in (c.lines for c in found)
    )
    assert "".join(above for above, _ in (cue.lines for cue in found)) == SPOKEN["ja"]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("مرحبا بكم", "ar", "مرحبا بكم"),
        ("GPU أسرع", "ar", "\u200fGPU أسرع"),
        ("«100» درجة", "ar", "«100» درجة"),
        ("2024!", "he", "\u200f2024!"),
        ("2024!", "es", "2024!"),
        ("שלום means peace", "en", "\u200eשלום means peace"),
        ("", "ar", ""),
    ],
)
def test_a_line_runs_the_way_of_its_language(text, code, line):
    assert Passage.of(text, code).line == line


def test_one_line_forms_put_no_spaces_into_japanese():
    written = FORMATS["txt"](shown(SPOKEN["ja"], "ja"))
    assert written.replace("\n", "") == SPOKEN["ja"]


@given(
    st.text(st.sampled_from("今日はー、。「」 กาเ่ី្កa bé.?"), max_size=60),
    st.sampled_from(["ja", "th", "es"]),
    st.integers(1, 3),
)
def test_a_division_is_whole_and_within_reach(text, code, lines):
    passage = Passage.of(text, code)
    reach = passage.reach(lines)
    cost, parts = passage.divide(least(reach) + 1, reach)
    assert [word for part in parts for word in part.words] == spaced_words(text)
    assert cost < float("inf") or not passage
    for part in parts:
        assert least(part.reach(1)) <= lines or len(part.words) == 1
        assert len(part.lines) <= max(1, lines)
    assert sum(map(len, (one.words for one in passage.sentences()))) == len(passage.words)


def test_a_long_text_is_divided_in_time():
    found = shown(SPOKEN["zh"] * 6, "zh", 28)
    assert all(len(cue.lines) <= 2 for cue in found)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(found))
