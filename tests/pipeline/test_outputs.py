"""Subtitles leave out what the model is too unsure of, and say so; the document holds all."""

from dataclasses import replace

import pytest

from dragoman.errors import InputError
from dragoman.pipeline.documents import asked, document
from dragoman.pipeline.outputs import NAME_BYTES, confident, guarded, planned, presented
from dragoman.stages.messages import Caption, SessionOptions, Text


@pytest.mark.parametrize("letter", ["x", "ñ"])
def test_a_name_that_is_too_long_for_outputs_is_refused_before_the_work(letter):
    most = (NAME_BYTES - len(".es-en.srt")) // len(letter.encode())
    assert len(planned(letter * most, SessionOptions(), ["srt", "json"])) == 4
    with pytest.raises(InputError, match=r"(xxx|ñññ).*more than 240 bytes.*a shorter name"):
        planned(letter * (most + 1), SessionOptions(), ["srt"])


def final(segment, confidences=()):
    text = Text("uno dos", "", confidences)
    return Caption("final", segment, 0, 16_000, "es", "en", text, text)


CAPTIONS = [final(0, (0.9, 0.8)), final(1, (0.5, 0.2)), final(2)]


def test_segments_under_the_threshold_are_counted():
    kept, said = confident(CAPTIONS, SessionOptions(min_confidence=0.4), "nano")
    assert [caption.segment for caption in kept] == [0, 2], "unknown confidence is no reason"
    assert said.startswith("1 of 3 segments") and "0.4" in said


def test_zero_leaves_out_nothing():
    assert confident(CAPTIONS, SessionOptions(min_confidence=0.0), "nano") == (CAPTIONS, "")


def test_guarded_answers_are_counted_and_told():
    refused = replace(final(3), transcript=Text(), translation=Text(), guards=("refusal",))
    looped = replace(final(4), guards=("repetition", "wrong_language"))
    told = guarded([*CAPTIONS, refused, looped])
    assert told.startswith("in 2 of 5 segments the model's answer was not what was asked for")
    assert "(refusal 1, repetition 1, wrong language 1)" in told
    kept, said = presented([*CAPTIONS, looped], SessionOptions(min_confidence=0.4), "nano")
    assert len(kept) == 3 and len(said) == 2 and said[1].startswith("in 1 of 4 segments")
    assert guarded(CAPTIONS) == ""


def test_the_document_holds_every_segment_and_its_confidences():
    options = SessionOptions(min_confidence=0.4)
    form = document("talk.wav", "nano", options, 3.0, CAPTIONS, [])
    assert [segment["transcript_confidence"] for segment in form["segments"]] == [
        [0.9, 0.8],
        [0.5, 0.2],
        [],
    ]
    assert form["options"]["min_confidence"] == 0.4
    assert "min_confidence" not in asked(SessionOptions())
