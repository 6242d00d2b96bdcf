"""The microphone's own parts, with a PortAudio that the test plays; real ones: tests/demos."""

from types import SimpleNamespace

import numpy as np
import pytest

from dragoman.errors import InputError
from dragoman.pipeline import microphone as module
from dragoman.pipeline.devices import Device, choose
from dragoman.pipeline.microphone import Level, Microphone
from dragoman.pipeline.resampling import Resampler

DEVICES = [
    Device(0, "HDA Intel: ALC257 (hw:0,0)", "ALSA", 2, 48_000, False),
    Device(3, "USB Audio: Yeti (hw:2,0)", "ALSA", 1, 44_100, False),
    Device(4, "USB Audio: Webcam (hw:3,0)", "ALSA", 1, 16_000, False),
    Device(7, "default", "ALSA", 32, 44_100, True),
    Device(9, "Webcam", "OSS", 1, 16_000, False),
]


class PortAudioError(Exception):
    pass


class FakePortAudio:
    """Streams that are fed by hand; ``refuses`` maps a channel count to PortAudio's error."""

    PortAudioError = PortAudioError

    class CallbackStop(Exception):  # noqa: N818 - sounddevice's name
        pass

    def __init__(self, refuses=None):
        self.refuses = refuses or {}
        self.opened = []

    def InputStream(self, **options):  # noqa: N802 - sounddevice's name
        self.opened.append(options["channels"])
        if options["channels"] in self.refuses:
            raise PortAudioError(*self.refuses[options["channels"]])
        self.options = options
        return SimpleNamespace(start=lambda: None, close=lambda ignore_errors: None)

    def hear(self, block, overflow=False):
        status = SimpleNamespace(input_overflow=overflow)
        try:
            self.options["callback"](block, len(block), None, status)
        except self.CallbackStop:
            self.end()

    def end(self):
        self.options["finished_callback"]()


@pytest.fixture
def portaudio(monkeypatch):
    def use(**options):
        fake = FakePortAudio(**options)
        monkeypatch.setattr(module, "sounddevice", lambda: fake)
        return fake

    return use


def device(rate_hz=16_000, channels=1):
    return Device(0, "Yeti", "ALSA", channels, rate_hz, True)


def test_a_microphone_is_chosen_by_number_name_or_default():
    assert choose(None, DEVICES).index == 7
    assert choose("3", DEVICES).index == 3
    assert choose("yeti", DEVICES).index == 3
    assert choose("webcam", DEVICES).index == 9, "a whole name goes before a part of one"
    assert choose("DEFAULT", DEVICES).index == 7


@pytest.mark.parametrize(
    ("wanted", "found", "message"),
    [
        (None, [], "no microphone was found.*captions FILE"),
        (None, DEVICES[:2], "no microphone is the default one.*0 'HDA.*3 'USB"),
        ("8", DEVICES, "there is no microphone 8: choose .* 9 'Webcam'"),
        ("rode", DEVICES, "no microphone is called 'rode': .*0 'HDA"),
        ("usb", DEVICES, r"2 microphones are called 'usb': .*one of 3 'USB[^']*', 4 'USB[^']*'$"),
    ],
)
def test_a_choice_that_is_not_clear_is_explained(wanted, found, message):
    with pytest.raises(InputError, match=message):
        choose(wanted, found)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_blocks_of_any_length_make_one_stream(rate_hz):
    time_s = np.arange(2 * rate_hz) / rate_hz
    x = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    whole = Resampler(rate_hz)
    expected = np.concatenate([whole.step(x), whole.flush()])
    cuts = np.cumsum(np.random.default_rng(1).integers(0, rate_hz // 10, 60))
    cut = Resampler(rate_hz)
    pieces = [cut.step(part) for part in np.split(x, cuts[cuts < len(x)])]
    assert np.array_equal(np.concatenate([*pieces, cut.flush()]), expected)
    assert abs(len(expected) - 32_000) <= 32
    middle = np.arange(8_000, 24_000) / 16_000
    basis = np.stack([np.sin(2 * np.pi * 440 * middle), np.cos(2 * np.pi * 440 * middle)], axis=1)
    heard = expected[8_000:24_000]
    fit, *_ = np.linalg.lstsq(basis, heard, rcond=None)
    assert np.hypot(*fit) == pytest.approx(0.5, abs=0.005)
    assert np.abs(heard - basis @ fit).max() < 0.005


def test_channels_are_mixed_and_stop_gives_out_what_was_heard(portaudio):
    fake = portaudio()
    microphone = Microphone(device(channels=4))
    assert fake.opened == [4]
    for _ in range(10):
        fake.hear(np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (160, 1)))
    microphone.stop()
    fake.hear(np.full((160, 4), 0.25, np.float32))
    heard = np.concatenate(list(microphone))
    assert len(heard) == 1760 and np.allclose(heard, 0.25)


def test_what_is_no_sample_does_no_harm(portaudio):
    fake = portaudio()
    microphone = Microphone(device())
    fake.hear(np.array([[np.nan], [np.inf], [-7.0], [0.5]], np.float32))
    microphone.stop()
    assert np.concatenate(list(microphone)).tolist() == [0.0, 1.0, -1.0, 0.5]


def test_the_duration_is_kept_to_the_sample(portaudio):
    fake = portaudio()
    microphone = Microphone(device(), duration_s=0.1)
    for _ in range(3):
        fake.hear(np.full((700, 1), 0.1, np.float32))
    assert sum(map(len, microphone)) == 1600


def test_a_full_queue_loses_sound_counts_it_and_keeps_the_times_right(portaudio, monkeypatch):
    monkeypatch.setattr(module, "WAITING_S", 1.0)
    fake = portaudio()
    microphone = Microphone(device())
    for _ in range(25):  # 2.5 s, of which 1.5 s find no room
        fake.hear(np.full((1600, 1), 0.5, np.float32))
    assert microphone.lost_s == 1.5
    pieces = iter(microphone)
    heard = [next(pieces) for _ in range(10)]
    fake.hear(np.full((1600, 1), 0.25, np.float32), overflow=True)
    microphone.stop()
    heard = np.concatenate([*heard, *pieces])
    silent = np.flatnonzero(heard == 0)
    assert len(heard) == 16_000 + 24_000 + 1600
    assert (silent[0], silent[-1]) == (16_000, 39_999) and np.allclose(heard[40_000:], 0.25)
    assert microphone.lost_s == 1.5 and microphone.overflows == 1


def test_a_microphone_that_goes_away_is_an_error_after_its_last_sound(portaudio):
    fake = portaudio()
    microphone = Microphone(device())
    fake.hear(np.full((1600, 1), 0.5, np.float32))
    fake.end()
    heard = []
    with pytest.raises(InputError, match="'Yeti' went away, 0.1 s after the start"):
        for piece in microphone:
            heard.append(piece)
    assert sum(map(len, heard)) == 1600


def test_a_microphone_that_gives_nothing_is_an_error(portaudio, monkeypatch):
    monkeypatch.setattr(module, "STALLED_S", 0.2)
    portaudio()
    with pytest.raises(InputError, match="'Yeti' has given no sound"):
        list(Microphone(device()))


def test_of_a_sound_server_two_channels_are_taken(portaudio):
    fake = portaudio()
    Microphone(device(channels=32))
    assert fake.opened == [2]
    fake = portaudio(refuses={2: ("Invalid number of channels", -9998)})
    Microphone(device(channels=16))
    assert fake.opened == [2, 16]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (("Device unavailable", -9985), "'Yeti' is in use by another program.*--list-devices"),
        (("Unanticipated host error", -9999), r"could not be opened \(Unanticipated.*--list-dev"),
        (("Invalid number of channels", -9998), r"could not be opened \(Invalid number"),
    ],
)
def test_what_cannot_be_opened_is_explained(error, message, portaudio):
    portaudio(refuses={1: error})
    with pytest.raises(InputError, match=message):
        Microphone(device())


def test_the_level_follows_at_once_and_falls_slowly():
    level = Level(16_000)
    assert level.dbfs == -90 and not level.ever_heard
    level.take(np.zeros(32_000, np.float32))
    assert level.dbfs == -90 and level.quiet_s == 2.0
    level.take(np.full(160, 0.1, np.float32))
    assert level.dbfs == pytest.approx(-20) and level.quiet_s == 0 and level.ever_heard
    level.take(np.zeros(1600, np.float32))
    assert level.dbfs == pytest.approx(-24)
    level.take(np.full(160_000, 1e-4, np.float32))
    assert level.dbfs == pytest.approx(-80, abs=0.1) and level.quiet_s == pytest.approx(10.1)
