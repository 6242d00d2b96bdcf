"""Word times: near the truth where a synthesizer tells it; by updates in live sessions."""

import random

import numpy as np
import pytest

from dragoman.models.words import words
from dragoman.pipeline.documents import document
from dragoman.pipeline.word_times import Heard, spoken, timed
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, SessionOptions, Speech, Text
from tests.pipeline.fake_stages import tone
from training.synthesizers import Espeak

START = 80_000
BEFORE = 4_800  # of a segment: what is kept before the voice
SENTENCES = (
    "Buenas tardes, me llamo Marta y vivo en Valencia.",
    "El tren sale el jueves. Cuesta cuarenta euros, más o menos.",
    "Perdón, ¿dónde está la estación de Madrid?",
)


def segment(samples: np.ndarray) -> Speech:
    return Speech(0, START, samples.astype(np.float32), True, True)


def caption(end: int, text: str, final: bool = False, segment: int = 0) -> Caption:
    said = Text(text, confidences=(0.5,) * len(words(text)))
    return Caption("final" if final else "partial", segment, 1_000, end, "es", "en", said, Text())


def errors_s() -> np.ndarray:
    """How far the beginnings of words are from the truth, of each sentence in several voices."""
    synthesizer, rng, out = Espeak(), random.Random(0), []
    for text in SENTENCES * 4:
        uttered = synthesizer.speak(text, synthesizer.draw(rng, "es", "test"))
        quiet = np.random.default_rng(0).standard_normal(len(uttered.samples) + 12_800) * 1e-4
        quiet[BEFORE : BEFORE + len(uttered.samples)] += uttered.samples / 32_768
        found = np.array(spoken(text, segment(quiet)))[:, 0]
        out.append(found - START - BEFORE - uttered.word_starts_samples)
    return np.abs(np.concatenate(out)) / SAMPLE_RATE_HZ


def test_words_are_found_where_a_synthesizer_spoke_them():
    found = errors_s()
    assert len(found) > 80
    assert found.mean() < 0.06
    assert np.quantile(found, 0.95) < 0.15


def test_a_pause_belongs_to_no_word():
    samples = np.concatenate([tone(5), np.zeros(8_000), tone(5)])
    samples[::2] *= -1
    one, other = spoken("uno dos", segment(samples))
    assert one == (START, START + 12_800) and other == (START + 20_800, START + 33_600)


def test_a_click_before_the_voice_belongs_to_no_word():
    samples = np.concatenate([np.zeros(4_800), tone(5)])
    samples[480:640] = 0.5
    samples[::2] *= -1
    one, _ = spoken("uno dos", segment(samples))
    assert one[0] == START + 4_800, "where a document says that the segment begins"


def test_two_words_beside_a_pause_both_have_time():
    samples = np.concatenate([tone(5), np.zeros(8_000), tone(5)])
    spans = spoken("tardecitas y o mananitas", segment(samples))
    assert all(begin < end for begin, end in spans), spans
    assert [end for _, end in spans][:-1] <= [begin for begin, _ in spans][1:]


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(9), np.zeros(16_000), tone(3)])
@pytest.mark.parametrize("text", ["", "uno", "uno dos tres", "你好。", "\u200e"])
def test_sound_without_speech_gives_every_word_a_place(samples, text):
    found = spoken(text, segment(samples))
    assert len(found) == len(words(text))
    assert all(START <= begin <= end <= START + len(samples) for begin, end in found)
    assert found == sorted(found)


def test_a_word_ends_with_the_update_since_which_it_stayed():
    heard = Heard()
    for end, text in ((3_000, "el sol"), (6_000, "el tren"), (9_000, "El tren, sale")):
        assert heard.note(caption(end, text)).transcript.spans == ()
    final = heard.note(caption(12_000, "El tren sale hoy.", final=True))
    spans = final.transcript.spans
    assert [end for _, end in spans] == [3_000, 6_000, 9_000, 12_000]
    assert [start for start, _ in spans] == [1_000, 3_000, 6_000, 9_000]
    new = heard.note(caption(20_000, "uno dos", final=True, segment=1))
    assert new.transcript.spans == ((1_000, 10_500), (10_500, 20_000)), "shared by their lengths"


def test_the_document_has_the_words_with_times_and_confidences():
    final = timed(caption(16_000, "uno dos", final=True), [(1_600, 8_000), (8_000, 16_000)])
    captions = [final, caption(16_000, "tres", final=True)]
    form = document("a.wav", "nano", SessionOptions(), 1.0, captions, [])
    assert [one["words"] for one in form["segments"]] == [
        [
            {"word": "uno", "start": 0.1, "end": 0.5, "confidence": 0.5},
            {"word": "dos", "start": 0.5, "end": 1.0, "confidence": 0.5},
        ],
        [],
    ]
