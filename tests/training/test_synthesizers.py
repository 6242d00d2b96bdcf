"""Estimated word times, against the exact ones of espeak-ng."""

import random

import numpy as np
import pytest

from training.synthesizers import Espeak, estimate_words, open_synthesizer, timed
from training.text import Texts
from training.voices import ACCENTS, HELD_OUT_VOICES


@pytest.mark.parametrize("language", sorted(ACCENTS))
def test_every_accent_speaks_and_the_estimate_is_near(language):
    espeak, rng, texts = Espeak(), random.Random(1), Texts()
    errors = []
    for split in ("train", "dev", "test") * 8:
        text = texts.draw(rng, "dev").texts[language]
        spoken = espeak.speak(text, espeak.draw(rng, language, split))
        starts, ends = estimate_words(text, spoken.samples)
        assert all(a < b for a, b in zip(starts, ends, strict=True))
        errors += [abs(a - b) for a, b in zip(starts, spoken.word_starts_samples, strict=True)]
    assert np.mean(errors) < 0.1 * 16_000


def test_held_out_voices_are_held_out_in_every_language():
    espeak, rng = Espeak(), random.Random(2)
    kept = {voice.variant for voice in HELD_OUT_VOICES}
    for language in ACCENTS:
        assert {espeak.draw(rng, language, "test").variant for _ in range(60)} == kept
        assert not kept & {espeak.draw(rng, language, "train").variant for _ in range(200)}


def test_silence_is_cut_from_the_ends_and_skipped_within():
    tone = (8_000 * np.sin(np.arange(16_000) * 0.2)).astype(np.int16)
    silence = np.zeros(8_000, np.int16)
    spoken = timed("no no", np.concatenate([silence, tone, silence, silence, tone, silence]))
    assert abs(len(spoken.samples) - 49_920) <= 320
    assert spoken.word_starts_samples[0] <= 1_120
    assert abs(spoken.word_ends_samples[0] - 16_960) <= 480  # before the pause
    assert abs(spoken.word_starts_samples[1] - 32_960) <= 480  # after it
    with pytest.raises(ValueError, match="silence"):
        timed("one", silence)


def test_unknown_synthesizer():
    with pytest.raises(KeyError, match="expected one of"):
        open_synthesizer("parrot")
