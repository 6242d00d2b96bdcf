"""`dragoman check` on files as people have them."""

import json

import numpy as np
import pysubs2
import pytest

from dragoman import errors
from dragoman.demos import cli
from tests.pipeline import media_files
from tests.pipeline.fake_stages import tone
from tests.pipeline.videos import write

SRT = """1
00:00:01,000 --> 00:00:03,000
<i>Buenos días.</i>

2
00:00:02,900 --> 00:00:03,200
{\\an8}Arriba.
"""
VTT = """WEBVTT - the title

NOTE a remark --> here

STYLE
::cue { color: white }

intro
00:01.000 --> 00:03.000 align:start
<v Ana>a &amp; b

00:03.500 --> 00:03.600
&lt;i&gt; 40
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Sign,Arial,20,&H00FFFFFF

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:09.00,Sign,,0,0,0,,not shown
Dialogue: 0,0:00:01.00,0:00:03.00,Sign,,0,0,0,,{\\i1}Hola,\\Nadiós
Dialogue: 0,0:00:03.00,0:00:03.10,Sign,,0,0,0,,No.
"""
TTML = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="es"><body><div>
<p begin="00:00:01.000" end="00:00:01.400">a &amp; b<br/>c</p>
</div></body></tt>
"""


@pytest.fixture
def check(capsys):
    def run(*args):
        code = cli.main(["check", *map(str, args)])
        return code, *capsys.readouterr()

    return run


def test_a_line_for_each_fault(check, tmp_path):
    path = tmp_path / "talk.es.srt"
    path.write_text(SRT)
    code, out, err = check(path)
    assert code == errors.FAILED and err == ""
    assert out.splitlines() == [
        f"{path}: cue 2: short: got 0.300 s, allowed at least 1.000 s",
        f"{path}: cue 2: speed: got 23.3 characters a second, allowed at most 17",
        f"{path}: cue 2: overlap: got 0.100 s together with cue 1, allowed none",
    ]
    path.write_text(SRT.replace("02,900", "03,100").replace("03,200", "04,200"))
    assert check(path) == (errors.OK, "", "")


@pytest.mark.parametrize(
    ("name", "text"), [("a.srt", SRT), ("a.vtt", VTT), ("a.ass", ASS), ("a.ttml", TTML)]
)
def test_every_format_is_mended_beside_the_file(check, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert check(path)[0] == errors.FAILED
    code, out, err = check(path, "--fix")
    fixed = path.with_stem("a.fixed")
    assert (code, err) == (errors.OK, "") and out.startswith(f"{path}: mended in {fixed}: 0 of ")
    assert path.read_text() == text
    assert check(fixed) == (errors.OK, "", "")
    before, after = (pysubs2.load(str(file), keep_html_tags=True) for file in (path, fixed))
    if name != "a.vtt":
        assert [event.text for event in after] == [event.text for event in before]


def test_a_mended_ttml_file_names_its_language(check, tmp_path):
    for name, language in (("a.ttml", "und"), ("a.es.ttml", "es"), ("a.es-en.ttml", "mul")):
        (tmp_path / name).write_text(TTML)
        check(tmp_path / name, "--fix")
        assert (
            f'xml:lang="{language}"'
            in (tmp_path / name).with_stem(f"{(tmp_path / name).stem}.fixed").read_text()
        )


def test_markup_is_kept_and_not_measured(check, tmp_path):
    for name, text in (("a.srt", SRT), ("a.vtt", VTT), ("a.ass", ASS)):
        (tmp_path / name).write_text(text)
        check(tmp_path / name, "--fix")
    srt = (tmp_path / "a.fixed.srt").read_text()
    assert "<i>Buenos días.</i>" in srt and "{\\an8}Arriba." in srt
    vtt = (tmp_path / "a.fixed.vtt").read_text()
    assert "<v Ana>a &amp; b\n" in vtt and "&lt;i&gt; 40\n" in vtt and "intro" not in vtt
    ass = (tmp_path / "a.fixed.ass").read_text()
    assert "{\\i1}Hola,\\Nadiós" in ass and "Style: Sign" in ass and "Comment: 0" in ass


def test_lines_that_are_broken_anew_stay_text(check, tmp_path):
    long = "a &amp; b &lt;i&gt; " * 6
    (tmp_path / "a.vtt").write_text(f"WEBVTT\n\n00:01.000 --> 00:07.000\n{long}\n")
    assert check(tmp_path / "a.vtt", "--fix")[0] == errors.OK
    written = (tmp_path / "a.fixed.vtt").read_text()
    assert "&lt;i&gt;" in written and "<i>" not in written and written.count("&amp;") == 6


def test_languages_are_known_from_the_name_or_the_option(check, tmp_path):
    text = f"1\n00:00:01,000 --> 00:00:07,000\n{'語' * 14}\n{'x' * 30}\n"
    for name in ("a.ja-en.srt", "a.srt"):
        (tmp_path / name).write_text(text)
    assert "width: got 28 columns in line 1, allowed 26" in check(tmp_path / "a.ja-en.srt")[1]
    assert check(tmp_path / "a.srt")[0] == errors.OK
    assert check(tmp_path / "a.srt", "--language", "ja")[1].count("width") == 2
    code, _, err = check(tmp_path / "a.srt", "--language", "ja-en-es")
    assert code == errors.USAGE and "names 3 languages" in err


@pytest.mark.parametrize("said", ["zh-TW", "zh-Hant", "zh-Hant-TW", "zho", "chi", "zh"])
def test_a_region_or_a_script_is_no_second_language(check, tmp_path, said):
    (tmp_path / f"a.{said}.srt").write_text(f"1\n00:00:01,000 --> 00:00:07,000\n{'語' * 20}\n")
    (tmp_path / "b.srt").write_text((tmp_path / f"a.{said}.srt").read_text())
    assert "got 40 columns in line 1, allowed 32" in check(tmp_path / f"a.{said}.srt")[1]
    assert (
        "got 40 columns in line 1, allowed 32" in check(tmp_path / "b.srt", "--language", said)[1]
    )


def test_a_cue_whose_name_begins_as_a_note_does_is_kept(check, tmp_path):
    notes = "NOTE a --> b\n\nNOTEBOOK\n00:01.000 --> 00:01.500\nHola.\n"
    (tmp_path / "a.vtt").write_text(f"WEBVTT\n\n{notes}")
    assert check(tmp_path / "a.vtt", "--fix")[0] == errors.OK
    assert "Hola." in (tmp_path / "a.fixed.vtt").read_text()


def test_encodings(check, tmp_path):
    good = SRT.partition("\n\n")[0] + "\n"
    (tmp_path / "a.srt").write_bytes(good.encode("latin-1"))
    (tmp_path / "b.srt").write_bytes(good.encode("utf-16"))
    (tmp_path / "c.srt").write_bytes(good.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    out = check(tmp_path / "a.srt")[1]
    assert "encoding: got byte 0xed at 43, so it is taken for cp1252, allowed UTF-8" in out
    assert "encoding: got UTF-16, allowed UTF-8" in check(tmp_path / "b.srt")[1]
    assert check(tmp_path / "c.srt")[0] == errors.OK
    assert check(tmp_path / "a.srt", tmp_path / "b.srt", "--fix")[0] == errors.OK
    for name in "ab":
        assert "Buenos días." in (tmp_path / f"{name}.fixed.srt").read_text(encoding="utf-8")


def test_old_encodings_go_by_the_language(check, tmp_path):
    text = "1\n00:00:01,000 --> 00:00:01,500\nДобрый день.\n"
    for name, args in (("a.ru.srt", ()), ("b.srt", ("--language", "ru"))):
        (tmp_path / name).write_bytes(text.encode("cp1251"))
        assert "taken for cp1251" in check(tmp_path / name, *args)[1]
        assert check(tmp_path / name, *args, "--fix")[0] == errors.OK
        fixed = tmp_path / name.replace(".srt", ".fixed.srt")
        assert "Добрый день." in fixed.read_text(encoding="utf-8")


def test_a_mended_file_is_not_replaced_unasked(check, tmp_path):
    (tmp_path / "a.srt").write_text(SRT)
    (tmp_path / "a.fixed.srt").write_text("mine")
    code, _, err = check(tmp_path / "a.srt", "--fix")
    assert code == errors.FAILED and "give --overwrite" in err
    assert (tmp_path / "a.fixed.srt").read_text() == "mine"
    assert check(tmp_path / "a.srt", "--fix", "--overwrite")[0] == errors.OK


def test_the_shot_changes_of_a_film_are_kept_to(check, tmp_path):
    pages = [(0, np.full((90, 160, 3), 60, np.uint8)), (3, np.full((90, 160, 3), 200, np.uint8))]
    film = write(tmp_path / "talk.mp4", pages, 5)
    path = tmp_path / "talk.es.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:03,100\nBuenos días.\n")
    assert check(path) == (errors.OK, "", "")
    code, out, _ = check(path, "--video", film)
    assert code == errors.FAILED
    assert "cue 1: shot: got an end 0.100 s after the shot change at 3.000 s, allowed" in out
    assert check(path, "--video", film, "--fix")[0] == errors.OK
    fixed = path.with_stem("talk.es.fixed")
    assert "00:00:01,000 --> 00:00:02,910" in fixed.read_text()
    assert check(fixed, "--video", film) == (errors.OK, "", "")
    code, _, err = check(path, "--video", tmp_path / "none.mp4")
    assert code == errors.NO_INPUT and "none.mp4 does not exist" in err
    sound = media_files.write(tmp_path / "talk.wav", tone(3), "pcm_s16le")
    code, _, err = check(path, "--video", sound)
    assert code == errors.NO_INPUT and "talk.wav has no picture" in err


def test_one_json_document(check, tmp_path):
    (tmp_path / "a.srt").write_text(SRT)
    code, out, _ = check(tmp_path / "a.srt", tmp_path / "none.vtt", "--json", "--fix")
    first, second = json.loads(out)
    assert code == errors.NO_INPUT and "cannot be read" in second["problem"]
    assert (first["cues"], first["fixed"], first["left"]) == (2, f"{tmp_path}/a.fixed.srt", [])
    assert first["faults"][0] == {
        "cue": 2, "what": "short", "got": "0.300 s", "allowed": "at least 1.000 s"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.doc", "x", "of a kind that is not read"),
        ("a.srt", "no times at all", "holds no subtitles"),
        ("a.ttml", "<tt", "not a ttml file"),
        ("a.ass", "x", "holds no subtitles"),
    ],
)
def test_what_is_no_subtitle_file_is_an_input_error(check, tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    code, out, err = check(tmp_path / name)
    assert (code, out) == (errors.NO_INPUT, "") and says in err


def test_files_of_silence_are_whole(check, tmp_path):
    (tmp_path / "a.srt").write_text("")
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n")
    assert check(tmp_path / "a.srt", tmp_path / "a.vtt") == (errors.OK, "", "")
    (tmp_path / "b.vtt").write_text("00:01.000 --> 00:03.000\nHola.\n")
    assert "header: got '00:01.000 --> 00:03.' in the first line" in check(tmp_path / "b.vtt")[1]
