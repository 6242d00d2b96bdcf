"""What a page keeps of its recordings, and what the Inside tab shows of it, without a browser."""

import base64
import io
import wave

import numpy as np
import pytest
from PIL import Image

from dragoman.demos import browser_inside, browser_recorded
from dragoman.demos.browser_history import SEGMENTS, History
from dragoman.demos.browser_recorded import Recorded
from dragoman.server.streams import Transcript
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, SessionOptions, Text

SECOND = SAMPLE_RATE_HZ
TONE_HZ = 1_000


@pytest.fixture
def recorded(tmp_path):
    kept = Recorded(tmp_path / "sound.pcm", lambda size: True)
    yield kept
    kept.close()


def caption(kind, end, said, written="", *, committed=0, segment=0, sure=()) -> Caption:
    """A caption from 1 s on, of which so many words are committed."""
    words = said.split()
    head = " ".join(words[:committed])
    tail = said[len(head) :]
    transcript = Text(head, tail, tuple(sure))
    return Caption(kind, segment, SECOND, end, "es", "en", transcript, Text(written))


def history() -> History:
    return History(Transcript(), lambda: None)


def voice(seconds: float) -> np.ndarray:
    """A harmonic sound whose loudness moves, float32 [S]."""
    at = np.arange(round(seconds * SECOND)) / SECOND
    tones = sum(np.sin(2 * np.pi * f * at) / n for n, f in enumerate((TONE_HZ, 2_000, 3_000), 1))
    return (0.2 * (1 + np.sin(2 * np.pi * 4 * at)) * tones).astype(np.float32)


def read_wav(wav) -> np.ndarray:
    size, parts = wav
    data = b"".join(parts)
    assert len(data) == size
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SECOND)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_sound_lies_at_its_place_and_what_was_not_heard_is_silence(recorded):
    assert len(read_wav(recorded.wav())) == 0
    pieces = [np.full(100, 0.5, np.float32), np.full(50, -0.5, np.float32)]
    assert len(list(recorded.heard(pieces, 1_000))) == 2
    list(recorded.heard([np.ones(10, np.float32)], 200))  # another recording, still finishing
    sound = read_wav(recorded.wav())
    assert len(sound) == 1_150
    assert (sound[:200] == 0).all() and (sound[200:210] == 32_767).all()
    assert (sound[210:1_000] == 0).all() and (sound[1_000:1_100] == 16_383).all()
    assert (read_wav(recorded.wav(1_100, 1_120)) == -16_383).all()
    assert np.allclose(recorded.read(1_000, 1_002), 0.5, atol=1e-4)


def test_sound_is_forgotten_while_it_is_heard_and_read(recorded, tmp_path):
    hearing = recorded.heard(iter([np.ones(10, np.float32)] * 3), 0)
    next(hearing)
    size, parts = recorded.wav()
    next(parts)
    recorded.close()
    assert list(tmp_path.iterdir()) == []
    assert len(list(hearing)) == 2  # captions go on, the sound does not
    assert b"".join(parts) == bytes(20) and size == 64
    assert list(tmp_path.iterdir()) == [] and len(recorded.read(0, 10)) == 0


@pytest.mark.parametrize("bound", ["time", "disk"])
def test_sound_has_a_bound(tmp_path, monkeypatch, bound):
    monkeypatch.setattr(browser_recorded, "MOST_SAMPLES", 25 if bound == "time" else 10**9)
    room = iter([True, True] + [False] * 5)
    kept = Recorded(tmp_path / "sound.pcm", lambda size: bound == "time" or next(room))
    assert len(list(kept.heard([np.ones(10, np.float32)] * 5, 0))) == 5
    assert kept.samples == 20 and kept.full
    assert len(read_wav(kept.wav(10, 30))) == 10 and len(read_wav(kept.wav(30, 40))) == 0
    kept.close()


def test_segments_are_numbered_through_and_the_last_are_kept_with_all_updates():
    viewers, rung = Transcript(), []
    kept = History(viewers, lambda: rung.append(1))
    for number in range(SEGMENTS + 2):
        kept.note(1, caption("partial", 2 * SECOND, "uno", segment=number), 2.0)
        kept.note(1, caption("final", 2 * SECOND, "uno", segment=number, committed=1), 2.5)
    kept.note(2, caption("partial", 2 * SECOND, "dos", segment=0), 3.0)
    assert len(rung) == 2 * (SEGMENTS + 2) + 1
    assert [c.segment for c in kept.finished()] == list(range(3, SEGMENTS + 2))
    assert [u.at_s for u in kept.updates(SEGMENTS + 1)] == [2.0, 2.5] and kept.updates(0) == []
    place, seen = viewers.after(0)
    assert [c.segment for c in seen] == list(range(SEGMENTS + 3))
    kept.close()
    kept.note(2, caption("final", 2 * SECOND, "dos", segment=0), 3.5)  # of a session that was left
    assert viewers.after(0) == (place, []) and kept.finished() == []


def test_viewers_of_two_pages_are_never_told_each_others_captions():
    """An event is made once for all who watch one session: its name has to be that session's."""
    names = set()
    for _ in range(2):
        viewers = Transcript()
        History(viewers, lambda: None).note(1, caption("partial", 2 * SECOND, "uno"), 2.0)
        ((told,),) = [viewers.after(0)[1]]
        names.add((told.session, told.segment, told.seq))
    assert len(names) == 2


def test_words_have_the_times_at_which_they_stayed(recorded):
    kept = history()
    sound = np.concatenate([np.zeros(SECOND, np.float32), voice(2)])
    list(recorded.heard([sound], 0))
    kept.note(1, caption("partial", round(1.8 * SECOND), "uno tres", "one", sure=(0.9, 0.2)), 1.9)
    kept.note(1, caption("partial", round(2.4 * SECOND), "uno dos", "one", committed=1), 2.5)
    end, sure = 3 * SECOND, (0.91, 0.44)
    kept.note(1, caption("final", end, "uno dos", "one two", committed=2, sure=sure), 3.2)
    shown = browser_inside.segment(kept.updates(0), recorded, SessionOptions())
    assert (shown["start"], shown["end"], shown["tokens"]) == (1.0, 3.0, 13)
    assert shown["updates"] == [1.9, 2.5, 3.2]
    spoken, written = shown["lanes"]
    assert [(w["text"], w["shown"], w["committed"], w["sure"]) for w in spoken["words"]] == [
        ("uno", 1.9, 2.5, 0.91),
        ("dos", 2.5, 3.2, 0.44),
    ]
    for word in spoken["words"]:
        begin, stop = word["spoken"]
        assert 1.0 <= begin < stop <= 3.0
    assert [(w["text"], w["shown"], w["spoken"]) for w in written["words"]] == [
        ("one", 1.9, None),
        ("two", 3.2, None),
    ]
    assert browser_inside.listed(kept.finished()) == [
        {"number": 0, "start": 1.0, "text": "uno dos"}
    ]


def test_the_picture_is_that_of_the_sound(recorded):
    kept = history()
    quiet = np.zeros(SECOND, np.float32)
    list(recorded.heard([np.concatenate([quiet, quiet, voice(1), quiet])], 0))
    kept.note(1, caption("final", 4 * SECOND, "uno", committed=1), 4.0)
    shown = browser_inside.segment(kept.updates(0), recorded, SessionOptions())
    loud = [high for _, high in shown["peaks"]]
    third = len(loud) // 3
    assert max(loud[:third]) == 0 and max(loud[third : 2 * third]) > 20
    assert all(begin >= 1.8 and end <= 3.3 for begin, end in shown["voice"]) and shown["voice"]
    kind, _, data = shown["mel"].partition(",")
    assert kind == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).sum(axis=2)[::-1]
    assert picture.shape[0] == browser_inside.BANDS
    during = picture[:, picture.shape[1] // 2].astype(int)
    lowest, highest = (2_595 * np.log10(1 + hz / 700) for hz in (125, 7_600))
    band = np.linspace(lowest, highest, browser_inside.BANDS + 2)[1:-1]
    brightest = 700 * (10 ** (band[during.argmax()] / 2_595) - 1)
    assert brightest == pytest.approx(TONE_HZ, rel=0.1)
    assert during.max() > 2 * picture[:, 5].max()
