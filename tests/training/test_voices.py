"""The voices: timing, determinism, and that held-out voices are really others."""

import random

import numpy as np
import pytest

from training.voices import (
    DEV_VOICES,
    HELD_OUT_VOICES,
    LANGUAGES,
    RATE_WPM,
    TRAIN_VARIANTS,
    SpeechSynthesisError,
    Synthesizer,
    Utterance,
    Voice,
    train_voice,
)

TEXT = "Perdón, ¿dónde está la estación de Madrid?"


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return Synthesizer()


def spectrum(utterance: Utterance) -> np.ndarray:
    """Long-term spectrum in dB, in 32 bands, mean removed: the colour of a voice."""
    samples = utterance.samples[: len(utterance.samples) // 512 * 512].reshape(-1, 512)
    power = (np.abs(np.fft.rfft(samples * np.hanning(512), axis=1)) ** 2).mean(0)[1:257]
    bands = 10 * np.log10(power.reshape(32, 8).sum(1) + 1)
    return bands - bands.mean()


def test_lists_are_disjoint_and_large():
    held_out = {voice.variant for voice in HELD_OUT_VOICES}
    dev = {voice.variant for voice in DEV_VOICES}
    assert len(TRAIN_VARIANTS) == len(set(TRAIN_VARIANTS)) >= 30
    assert len(held_out) >= 6
    assert (
        not held_out & set(TRAIN_VARIANTS) and not dev & set(TRAIN_VARIANTS) and not held_out & dev
    )


def test_held_out_voices_are_no_copies_of_training_voices(synthesizer):
    trained = {
        name: spectrum(synthesizer.speak(TEXT, Voice(name, "es", name, 160)))
        for name in TRAIN_VARIANTS
    }
    same = spectrum(synthesizer.speak(TEXT, Voice("john", "es", "john", 160)))
    assert np.abs(same - trained["john"]).mean() == 0
    for name in {voice.variant for voice in HELD_OUT_VOICES}:
        heard = spectrum(synthesizer.speak(TEXT, Voice(name, "es", name, 160)))
        nearest = min(trained, key=lambda other: float(np.abs(heard - trained[other]).mean()))
        assert np.abs(heard - trained[nearest]).mean() > 1.5, (name, nearest)


def test_every_voice_speaks(synthesizer):
    voices = [Voice(v, language, v, 160) for v in TRAIN_VARIANTS for language in LANGUAGES]
    for voice in (*voices, *HELD_OUT_VOICES, *DEV_VOICES):
        utterance = synthesizer.speak("Buenos días.", voice)
        assert utterance.samples.dtype == np.int16
        assert 0.4 < len(utterance.samples) / 16_000 < 2.5, voice
        assert np.abs(utterance.samples.astype(np.int32)).max() > 3_000, voice


def test_timings_cover_the_audio_in_order(synthesizer):
    rng = random.Random(2)
    for _ in range(30):
        utterance = synthesizer.speak(TEXT, train_voice(rng))
        starts, ends = utterance.word_starts_samples, utterance.word_ends_samples
        assert len(starts) == len(ends) == len(TEXT.split())
        assert ends[:-1] == starts[1:] and ends[-1] == len(utterance.samples)
        assert all(end - start >= 160 for start, end in zip(starts, ends, strict=True))


def test_words_start_where_the_sound_does(synthesizer):
    """After the pause of a comma the next word begins, to within a frame or two."""
    rng = random.Random(4)
    for _ in range(20):
        utterance = synthesizer.speak("Hola, mañana llueve.", train_voice(rng))
        start = utterance.word_starts_samples[1]
        loud = np.abs(utterance.samples.astype(np.int32))
        assert loud[start - 800 : start - 400].max() < 0.05 * loud.max()
        assert loud[start : start + 1_600].max() > 0.1 * loud.max()


def test_same_text_and_voice_same_samples(synthesizer):
    voice = Voice("breathy", "es", "f5", 150)
    first = synthesizer.speak(TEXT, voice)
    synthesizer.speak("Algo muy distinto.", Voice("other", "es-419", "grandma", 190))
    again = Synthesizer().speak(TEXT, voice)
    assert np.array_equal(first.samples, again.samples)
    assert first.word_ends_samples == again.word_ends_samples


def test_rate_pitch_and_accent_are_heard(synthesizer):
    slow = synthesizer.speak(TEXT, Voice("a", "es", "m1", RATE_WPM[0]))
    fast = synthesizer.speak(TEXT, Voice("a", "es", "m1", RATE_WPM[1]))
    assert len(slow.samples) > 1.3 * len(fast.samples)
    high = synthesizer.speak(TEXT, Voice("a", "es", "m1", RATE_WPM[1], pitch=70))
    american = synthesizer.speak(TEXT, Voice("a", "es-419", "m1", RATE_WPM[1]))
    assert not np.array_equal(high.samples[:8_000], fast.samples[:8_000])
    assert not np.array_equal(american.samples[:8_000], fast.samples[:8_000])


def test_errors_name_the_remedy(synthesizer):
    with pytest.raises(SpeechSynthesisError, match="apt-get install"):
        Synthesizer("libespeak-nowhere.so")
    with pytest.raises(SpeechSynthesisError, match="no espeak-ng voice"):
        synthesizer.speak("Hola.", Voice("x", "es-nowhere", "", 160))
    with pytest.raises(SpeechSynthesisError, match="at least one word"):
        synthesizer.speak("  ", Voice("x", "es", "", 160))


def test_a_last_word_spoken_as_one_with_the_word_before_has_a_time(synthesizer):
    spoken = synthesizer.speak("Il est grossier avec tout le monde.", Voice("", "fr", "f2", 150))
    starts, ends = spoken.word_starts_samples, spoken.word_ends_samples
    assert starts[5] < starts[6] < ends[6] == len(spoken.samples)
