"""Speech comes from espeak-ng where it is installed; a buzz with moving formants stands in for it
in the tests that need only something voiced."""

import io
import shutil
import subprocess
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile
from scipy.signal import lfilter, resample_poly

from dragoman.stages.messages import CHUNK_SAMPLES, Chunk, SessionOptions, Speech
from dragoman.stages.segment import FRAME_SAMPLES, SegmentStage

RATE = 16_000
SENTENCES = (
    "Buenos días.",
    "Sí.",
    "¿Dónde está la estación?",
    "No.",
    "Fui a casa de mi hermana ayer por la tarde.",
    "Siete.",
    "Hola.",
)
needs_espeak = pytest.mark.skipif(
    not shutil.which("espeak-ng"), reason="espeak-ng is not installed"
)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def noise(seconds: float, dbfs: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = 10 ** (dbfs / 20)
    return (rng.standard_normal(round(seconds * RATE)) * level).astype(np.float32)


@cache
def say(text: str, words_per_minute: int = 160) -> np.ndarray:
    """Spoken Spanish, from its first audible sample to its last."""
    command = ["espeak-ng", "-v", "es", "-s", str(words_per_minute), "--stdout", text]
    wav = bytearray(subprocess.run(command, capture_output=True, check=True).stdout)
    wav[4:8] = (len(wav) - 8).to_bytes(4, "little")  # a pipe's header does not know the length
    wav[40:44] = (len(wav) - 44).to_bytes(4, "little")
    rate, samples = wavfile.read(io.BytesIO(wav))
    assert rate == 22_050
    speech = resample_poly(samples / 32768, 320, 441).astype(np.float32)
    audible = np.flatnonzero(np.abs(speech) > 0.003)
    return speech[audible[0] : audible[-1] + 1]


@cache
def buzz(seconds: float, seed: int = 0) -> np.ndarray:
    """Something a voice detector takes for speech: pulses at 120 Hz through changing formants."""
    rng = np.random.default_rng(seed)
    pulses = np.zeros(round(seconds * RATE))
    pulses[::133] = 1.0
    out = []
    for part in np.array_split(pulses, max(1, round(seconds / 0.15))):
        for formant in rng.uniform((300, 900, 2300), (800, 2000, 2900)):
            pole = 0.97 * np.exp(2j * np.pi * formant / RATE)
            part = lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], part)
        out.append(part / np.abs(part).max() * rng.uniform(0.1, 0.4))
    return np.concatenate(out).astype(np.float32)


def run(samples: np.ndarray, sizes=(CHUNK_SAMPLES,), **options) -> list[Speech]:
    """Feeds ``samples`` in chunks of ``sizes``, the last one again and again."""
    stage = SegmentStage()
    state = stage.init_state(SessionOptions(**options))
    out, at, sizes = [], 0, list(sizes)
    while at < len(samples):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces, state = stage.step(Chunk(at, samples[at : at + size]), state)
        out += pieces
        at += size
    return out + stage.flush(state)


def spans(pieces: list[Speech]) -> list[tuple[int, int]]:
    """Start and end of each segment; checks the order and the marks of its pieces."""
    out: list[list[int]] = []
    inside = False
    for piece in pieces:
        assert piece.opens != inside
        if piece.opens:
            out.append([piece.start, piece.end])
        assert piece.segment == len(out) - 1
        assert piece.start == (out[-1][0] if piece.opens else out[-1][1])
        out[-1][1] = piece.end
        inside = not piece.closes
    assert not inside
    assert all(a[1] <= b[0] for a, b in zip(out, out[1:], strict=False))
    return [(start, end) for start, end in out]


def check_samples(pieces: list[Speech], samples: np.ndarray) -> None:
    for piece in pieces:
        np.testing.assert_array_equal(piece.samples, samples[piece.start : piece.end])


def dialogue(level_dbfs: float = 0.0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The sentences with pauses of 0.8 s, and where each begins and ends."""
    parts, where, at = [silence(1)], [], RATE
    for sentence in SENTENCES:
        speech = say(sentence) * np.float32(10 ** (level_dbfs / 20))
        where.append((at, at + len(speech)))
        parts += [speech, silence(0.8)]
        at += len(speech) + round(0.8 * RATE)
    return np.concatenate([*parts, silence(1)]), where


@needs_espeak
@pytest.mark.parametrize("level_dbfs", [0, -20])
@pytest.mark.parametrize("noise_dbfs", [-200, -60, -50])
def test_each_utterance_is_a_segment_with_its_first_and_last_word(level_dbfs, noise_dbfs):
    samples, where = dialogue(level_dbfs)
    samples = samples + noise(len(samples) / RATE, noise_dbfs)
    pieces = run(samples)
    found = spans(pieces)
    assert len(found) == len(where)
    for (start, end), (onset, offset) in zip(found, where, strict=True):
        assert onset - 0.6 * RATE <= start <= onset
        assert offset + 0.3 * RATE <= end <= offset + 0.8 * RATE
    check_samples(pieces, samples)


@needs_espeak
def test_a_file_that_starts_and_ends_with_speech_is_kept_whole():
    speech = say("Buenos días a todos.")
    (span,) = spans(run(speech))
    assert span == (0, len(speech))


@needs_espeak
def test_a_pause_shorter_than_the_endpoint_does_not_close():
    samples = np.concatenate([say("Buenos días."), silence(0.4), say("Buenas noches."), silence(2)])
    assert len(spans(run(samples))) == 1
    assert len(spans(run(samples, endpoint_ms=300))) == 2


@pytest.mark.parametrize(
    "samples",
    [
        silence(10),
        noise(10, -60),
        noise(10, -50),
        noise(10, -40),
        noise(10, -30),
        silence(10) + np.float32(0.2),  # a constant offset
        (np.cumsum(noise(10, -60)) % 0.02 - 0.01).astype(np.float32),  # rumble
    ],
    ids=["silence", "-60", "-50", "-40", "-30", "offset", "rumble"],
)
def test_silence_and_steady_noise_open_nothing(samples):
    assert run(samples) == []


@pytest.mark.parametrize("background_dbfs", [-200, -50])
@pytest.mark.parametrize("click_ms", [1, 5, 20, 50, 80])
def test_a_click_opens_nothing(click_ms, background_dbfs):
    samples = noise(6, background_dbfs)
    for seed, at in enumerate((1.0, 2.503, 4.211)):
        click = noise(click_ms / 1000, -12, seed)
        samples[round(at * RATE) :][: len(click)] += click
    assert run(samples) == []


def test_the_buzz_opens_a_segment():
    """What the click and noise tests show is not that nothing ever opens."""
    samples = np.concatenate([silence(1), buzz(0.4), silence(1)])
    ((start, end),) = spans(run(samples))
    assert start <= RATE
    assert end >= 1.4 * RATE + 0.3 * RATE


def test_clicks_after_speech_do_not_hold_the_segment_open():
    samples = np.concatenate([silence(1), buzz(1.0), silence(8)])
    for at in np.arange(2.2, 9, 0.4):
        samples[round(at * RATE) :][:80] = 0.5
    ((_, end),) = spans(run(samples))
    assert end <= 3.0 * RATE


@pytest.mark.parametrize("before", [silence(2), noise(5, -75)], ids=["silence", "quiet room"])
@pytest.mark.parametrize("dbfs", [-45, -30, -12])
def test_noise_that_sets_in_opens_nothing(before, dbfs):
    samples = np.concatenate([buzz(3.0), before, noise(30, dbfs)])
    assert len(spans(run(samples))) == 1


@pytest.mark.parametrize("shape", ["hum", "hiss"])
def test_steady_sound_behind_speech_does_not_hold_the_segment_open(shape):
    time_s = np.arange(12 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * hz * time_s) * 4 / hz for hz in range(100, 1_000, 100))
    background = np.float32(hum) if shape == "hum" else noise(12, -26)
    found = spans(run(np.concatenate([silence(1), 2 * buzz(3.0), silence(8)]) + background))
    assert found[0][0] <= RATE
    assert 4.3 * RATE <= found[-1][1] <= 5.6 * RATE


@needs_espeak
def test_speech_in_noise_that_the_detector_takes_for_speech_is_parted_and_kept():
    samples, where = dialogue()
    said = np.concatenate([samples[start:end] for start, end in where])
    samples = samples + noise(len(samples) / RATE, 20 * np.log10(said.std()) - 6)
    found = spans(run(samples))
    assert len(found) > 3  # without regard to steadiness: one
    for onset, offset in where:
        assert any(start <= onset and offset <= end for start, end in found)


@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=40).map(lambda s: [*s, 2_000]))
@settings(max_examples=25, deadline=None)
def test_borders_do_not_depend_on_the_chunks(sizes):
    parts = [silence(0.7), buzz(0.9), silence(0.9), buzz(4.5, 1), silence(0.8), buzz(0.3, 2)]
    samples = np.concatenate(parts) + noise(sum(map(len, parts)) / RATE, -60)
    pieces = run(samples, sizes, max_segment_ms=2_000)
    whole = spans(run(samples, [len(samples)], max_segment_ms=2_000))
    assert len(whole) > 3
    assert spans(pieces) == whole
    check_samples(pieces, samples)


@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=40).map(lambda s: [*s, 777]))
@settings(max_examples=15, deadline=None)
def test_borders_in_small_dips_do_not_depend_on_the_chunks(sizes):
    parts = [silence(0.5)]
    for seed, dip in enumerate((0.45, 0.4, 0.35, 0.45, 0.4)):
        parts += [buzz(6.5, seed), silence(dip)]
    samples = np.concatenate(parts) + noise(sum(map(len, parts)) / RATE, -60)
    found = spans(run(samples, sizes))
    assert len(found) > 2 and found == spans(run(samples, [len(samples)]))


def glued(pause_s: float) -> tuple[np.ndarray, list[int]]:
    """Sentences with so little silence between them; and where each ends."""
    parts, ends = [silence(0.5)], []
    for number in range(16):
        parts += [say(SENTENCES[4], 150 + 2 * number), silence(pause_s)]
        ends.append(sum(map(len, parts)) - len(parts[-1]))
    return np.concatenate([*parts, silence(1)]), ends


@needs_espeak
@pytest.mark.parametrize("pause_s", [0.2, 0.4])
def test_people_who_speak_on_are_parted_between_their_sentences(pause_s):
    samples, ends = glued(pause_s)
    samples = samples + noise(len(samples) / RATE, -60)
    pieces = run(samples)
    found = spans(pieces)
    lengths = [(end - start) / RATE for start, end in found]
    assert max(lengths) < 16
    for _, end in found[:-1]:  # no border inside a sentence
        assert min(abs(end - one) for one in ends) < (pause_s + 0.1) * RATE


@needs_espeak
def test_a_dip_loses_no_sample():
    samples, _ = glued(0.2)
    pieces = run(samples + noise(len(samples) / RATE, -60))
    found = spans(pieces)
    assert len(found) > 3
    assert all(end == start for (_, end), (start, _) in pairwise(found))


def test_a_click_after_a_dip_opens_nothing():
    click = np.zeros(160, np.float32)
    click[::2], click[1::2] = 0.5, -0.5
    samples = np.concatenate([buzz(16), silence(0.25), click, silence(2)])
    assert len(spans(run(samples + noise(len(samples) / RATE, -60)))) == 1


@pytest.mark.parametrize("endpoint_ms", [300, 1_000])
def test_a_short_limit_holds_with_a_long_endpoint(endpoint_ms):
    parts = [buzz(1.9, 1), silence(0.6), buzz(2.5, 2), silence(0.9), buzz(4.0, 3), silence(2)]
    samples = np.concatenate(parts) + noise(sum(map(len, parts)) / RATE, -60)
    found = spans(run(samples, max_segment_ms=2_000, endpoint_ms=endpoint_ms))
    assert len(found) > 2 and all(end - start <= 2 * RATE for start, end in found)


def unbroken(seconds: float) -> np.ndarray:
    """Speech without a pause, softer in the middle of every syllable-sized stretch."""
    samples = buzz(seconds)
    wave = 0.6 + 0.4 * np.cos(np.arange(len(samples)) / RATE * 2 * np.pi / 0.37)
    return (samples * wave).astype(np.float32)


@pytest.mark.parametrize("chunk", [CHUNK_SAMPLES, 777])
def test_long_speech_is_cut_below_the_limit_with_every_sample_once(chunk):
    samples = unbroken(75)
    pieces = run(samples, [chunk])
    found = spans(pieces)
    assert len(found) == 3
    assert all(end - start <= 28 * RATE for start, end in found)
    assert all(end - start >= 27 * RATE for start, end in found[:-1])
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)


@needs_espeak
def test_long_real_speech_is_cut_below_the_limit():
    speech = say("la casa de mi hermana mayor y la mesa del comedor " * 30, 150)
    samples = speech[: 75 * RATE]
    assert len(samples) == 75 * RATE
    pieces = run(samples)
    found = spans(pieces)
    assert all(end - start <= 28 * RATE for start, end in found)
    assert 3 <= len(found) <= 4
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)


@pytest.mark.parametrize("dip_s", [27.3, 27.5, 27.9])
def test_the_cut_lies_in_the_quietest_place(dip_s):
    samples = buzz(40).copy()
    dip = slice(round(dip_s * RATE) - 640, round(dip_s * RATE) + 640)
    samples[dip] *= 0.05
    (_, cut), (start, _) = spans(run(samples))
    assert cut == start
    assert abs(cut - dip_s * RATE) <= 320


def test_speech_that_ends_at_the_limit_leaves_no_segment_of_silence():
    samples = np.concatenate([buzz(27.8), silence(3), buzz(1.0, 1), silence(2)])
    pieces = run(samples)
    found = spans(pieces)
    assert len(found) == 2
    assert 27.8 * RATE <= found[0][1] <= 28 * RATE
    assert 30.3 * RATE <= found[1][0] <= 30.8 * RATE


def test_speech_that_pauses_at_the_limit_goes_on_from_the_cut():
    samples = np.concatenate([buzz(27.7), silence(0.5), buzz(2.0, 1), silence(1)])
    found = spans(run(samples, pre_roll_ms=0))
    assert len(found) == 2
    assert 27.7 * RATE < found[0][1] == found[1][0] <= 28 * RATE


def test_a_constant_offset_changes_nothing():
    samples = np.concatenate([silence(1), buzz(1.0), silence(1), buzz(0.5, 1), silence(1)])
    assert spans(run(samples + np.float32(0.05))) == spans(run(samples))


def test_speech_goes_on_while_it_is_spoken():
    """One piece a chunk, at most a frame behind, until the limit is near."""
    samples = np.concatenate([silence(1.04), buzz(20)])
    stage = SegmentStage()
    state = stage.init_state(SessionOptions())
    for at in range(0, 20 * RATE, CHUNK_SAMPLES):
        pieces, state = stage.step(Chunk(at, samples[at : at + CHUNK_SAMPLES]), state)
        assert len(pieces) <= 1
        if at > 2 * RATE:
            assert at + CHUNK_SAMPLES - pieces[0].end < FRAME_SAMPLES


def test_that_a_chunk_is_late_is_passed_on():
    samples = np.concatenate([silence(0.96), buzz(2)])
    stage = SegmentStage()
    state = stage.init_state(SessionOptions())
    seen = set()
    for number, at in enumerate(range(0, len(samples), CHUNK_SAMPLES)):
        chunk = Chunk(at, samples[at : at + CHUNK_SAMPLES], late=number % 2 == 1)
        pieces, state = stage.step(chunk, state)
        assert all(piece.late == chunk.late for piece in pieces)
        seen |= {piece.late for piece in pieces}
    assert seen == {True, False}


def test_a_stream_may_begin_anywhere_but_has_no_gaps():
    samples = np.concatenate([silence(1), buzz(1), silence(1)])
    stage = SegmentStage()
    state = stage.init_state(SessionOptions())
    pieces, state = stage.step(Chunk(1_000_001, samples), state)
    assert 1_000_001 < pieces[0].start <= 1_000_001 + RATE
    with pytest.raises(ValueError, match=f"at sample {1_000_001 + len(samples)}, got one at 7"):
        stage.step(Chunk(7, samples), state)


def test_no_pre_roll_reaches_into_the_last_segment():
    samples = np.concatenate([buzz(1.0), silence(0.62), buzz(1.0, 1), silence(1)])
    found = spans(run(samples, endpoint_ms=500, pre_roll_ms=1_000))
    assert len(found) == 2
    assert found[0][1] == found[1][0]


@pytest.mark.parametrize(
    "options",
    [
        {"vad_aggressiveness": 4},
        {"pre_roll_ms": -1},
        {"pre_roll_ms": 5_000},
        {"endpoint_ms": 100},
        {"max_segment_ms": 1_000},
    ],
)
def test_options_that_cannot_be_kept_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SegmentStage().init_state(SessionOptions(**options))


def test_state_is_bounded_over_a_long_session():
    loop = np.concatenate([buzz(3.0), silence(1.5), buzz(29, 1), silence(1)])
    loop += noise(len(loop) / RATE, -55)
    loop = loop[: len(loop) // CHUNK_SAMPLES * CHUNK_SAMPLES]
    stage = SegmentStage()
    state = stage.init_state(SessionOptions())
    largest, segments, at = 0, 0, 0
    for _ in range(10):
        for first in range(0, len(loop), CHUNK_SAMPLES):
            chunk = Chunk(at, loop[first : first + CHUNK_SAMPLES])
            pieces, state = stage.step(chunk, state)
            segments += sum(piece.opens for piece in pieces)
            held = len(state.frames) * FRAME_SAMPLES + len(state.rest)
            assert all(frame.samples.base is None for frame in state.frames)
            largest = max(largest, held)
            at += len(chunk.samples)
    assert segments == 30
    assert largest <= 1.2 * RATE
