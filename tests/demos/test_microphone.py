"""`dragoman captions` of a microphone: real processes, real PortAudio, sound played into it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman import errors
from dragoman.demos.listening import hearing
from dragoman.demos.score import word_error_rate
from dragoman.demos.terminal import meter
from dragoman.pipeline.microphone import Level
from tests.demos.virtual_microphone import (
    ROOT,
    VirtualMicrophone,
    unavailable,
    virtual_microphone,
)
from tests.pipeline.batches import as_saved, without_words
from tests.waiting import PATIENCE_S

TALK_S = 8.0  # the first two sentences
SENTENCES = 2
SPANS_S = [(0.4, 4.5), (4.5, 8.2)]  # of the segments in the file
NANO = ROOT / "models/nano/model.safetensors"
WITHOUT_A_MODEL = """
    import sys
    from dragoman.demos import captions, cli
    from tests.pipeline.chains import in_process
    from tests.pipeline.fake_stages import fakes
    captions.start = lambda request: in_process(fakes())
    sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def stereo():
    with virtual_microphone(44_100, 2) as microphone:
        yield microphone


@pytest.fixture
def spoken(tmp_path):
    """The first two sentences of the bundled recording, in a file of their own."""
    with wave.open(str(ROOT / "samples/talk.wav")) as talk:
        frames = talk.readframes(round(TALK_S * talk.getframerate()))
        parameters = talk.getparams()
    with wave.open(str(tmp_path / "spoken.wav"), "wb") as file:
        file.setparams(parameters)
        file.writeframes(frames)
    return tmp_path / "spoken.wav"


@dataclass(frozen=True)
class Captions:
    """`dragoman captions` running in ``folder``; what it prints goes to files there."""

    process: subprocess.Popen
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "stderr").read_text()

    def wait_until(self, reached: Callable[["Captions"], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not reached(self):
            assert self.process.poll() is None and time.monotonic() < until, self.err
            time.sleep(0.1)

    def listening(self) -> bool:
        return "listening to" in self.err

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


def start(
    env: dict[str, str], folder: Path, *args: str, program=("-m", "dragoman.demos.cli")
) -> Captions:
    folder.mkdir(exist_ok=True)
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        command = [sys.executable, *program, "captions", *args]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=err)
    return Captions(process, folder)


def without_a_model(microphone: VirtualMicrophone, folder: Path, *args: str) -> Captions:
    program = ("-c", textwrap.dedent(WITHOUT_A_MODEL))
    return start(microphone.env, folder, *args, program=program)


def run(env: dict[str, str], folder: Path, *args: str) -> tuple[int, str, str]:
    """Runs to the end: code, stdout, stderr."""
    session = start(env, folder, *args)
    return session.end(), session.out, session.err


def saved(folder: Path) -> list[dict]:
    """The segments of the one session that was saved in ``folder``."""
    (path,) = folder.glob("captions-????????-??????.json")
    assert {other.name.removeprefix(path.stem) for other in folder.glob("captions-*")} == {
        ".json", ".es.srt", ".es.vtt", ".en.srt", ".en.vtt"
    }  # fmt: skip
    return without_words(json.loads(path.read_text())["segments"])


def finals(out: str) -> list[dict]:
    whole = [line for line in out.splitlines(keepends=True) if line.endswith("\n")]
    return [event for event in map(json.loads, whole) if event["kind"] == "final"]


def test_what_is_said_is_captioned_and_ctrl_c_saves_it(stereo, spoken, tmp_path, request):
    """The whole command; with the bundled model it has to hear the words, too."""
    model = "nano" if NANO.is_file() else str(request.getfixturevalue("tiny_folder"))
    folder = tmp_path / "here"
    session = start(stereo.env, folder, "--json", "--no-ray", "--model", model)
    session.wait_until(Captions.listening)
    stereo.play(spoken)
    session.process.send_signal(signal.SIGINT)
    assert session.end() == errors.INTERRUPTED, session.err
    out, err = session.out, session.err
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert saved(folder) == list(map(as_saved, finals(out))) and "saved captions-" in err
    assert len(finals(out)) == SENTENCES
    delay = finals(out)[0]["start"] - SPANS_S[0][0]
    for event, (start_s, end_s) in zip(finals(out), SPANS_S, strict=True):
        assert event["start"] - delay == pytest.approx(start_s, abs=0.4)
        assert event["end"] - delay == pytest.approx(end_s, abs=0.6)
    if NANO.is_file():
        lines = (ROOT / "samples/talk.es.txt").read_text(encoding="utf-8").splitlines()
        heard = " ".join(event["transcript"]["committed"] for event in finals(out))
        assert word_error_rate(" ".join(lines[:SENTENCES]), heard) <= 0.15


def test_a_session_of_fixed_length_hints_that_nothing_is_heard(stereo, tmp_path):
    session = without_a_model(stereo, tmp_path, "--json", "--duration", "6", "-o", "deep/er")
    assert session.end() == errors.OK, session.err
    out, err = session.out, session.err
    assert [event["start"] for event in finals(out)] == [round(0.8 * n, 2) for n in range(8)]
    assert finals(out)[-1]["end"] == 6.0
    assert saved(tmp_path / "deep/er") == list(map(as_saved, finals(out)))
    assert err.count("nothing heard for 5 s: muted?") == 1 and "default" in err


def test_one_that_vanishes_keeps_what_was_said(tmp_path):
    with virtual_microphone(48_000, 1) as microphone:
        session = without_a_model(microphone, tmp_path, "--json")
        session.wait_until(lambda session: len(finals(session.out)) == 2)
        microphone.unplug()
        assert session.end() == errors.NO_INPUT, session.err
    kept = finals(session.out)
    assert len(kept) >= 3 and saved(tmp_path) == list(map(as_saved, kept))
    assert "'default' went away" in session.err.splitlines()[-1]
    assert "Traceback" not in session.err


TONE_SCRIPT = """
    import sys
    from dataclasses import replace
    import numpy as np
    from dragoman.pipeline.devices import choose, devices
    from dragoman.pipeline.microphone import Microphone
    rate, channels = map(int, sys.argv[1:3])
    device = replace(choose("default", devices()), rate_hz=rate, channels=channels)
    microphone = Microphone(device, 6.0)
    print("listening to it", file=sys.stderr, flush=True)
    np.save(sys.argv[3], np.concatenate(list(microphone)))
    microphone.close()
    assert microphone.level.ever_heard and not microphone.lost_frames
"""


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 2), (48_000, 2), (16_000, 1)])
def test_sound_keeps_its_pitch_and_length_and_its_channels_are_mixed(
    rate_hz, channels, stereo, tmp_path
):
    """A tone, left three times as loud as right, through the device opened at ``rate_hz``."""
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(6 * 44_100) / 44_100)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes((32767 * np.stack([3 * tone, tone], axis=1)).astype("<i2").tobytes())
    program = ("-c", textwrap.dedent(TONE_SCRIPT), str(rate_hz), str(channels), "heard.npy")
    session = start(stereo.env, tmp_path, program=program)
    session.wait_until(Captions.listening)
    stereo.play(tmp_path / "tone.wav")
    assert session.end() == 0, session.err
    heard = np.load(tmp_path / "heard.npy")
    assert abs(len(heard) - 96_000) <= 32
    windows = heard[: len(heard) // 4000 * 4000].reshape(-1, 4000)
    spectrum = np.abs(np.fft.rfft(windows * np.hanning(4000))) / 1000
    loudest = spectrum[spectrum.max(axis=1) > 0.1]  # the player may begin late or end early
    assert len(loudest) >= 4
    assert np.median(loudest.argmax(axis=1)) * 4 == 440
    assert np.median(loudest.max(axis=1)) == pytest.approx(0.4, abs=0.01)


def test_devices_are_listed_for_people_and_for_programs(stereo, tmp_path):
    code, for_people, err = run(stereo.env, tmp_path, "--list-devices")
    assert (code, err) == (errors.OK, "")
    code, for_programs, err = run(stereo.env, tmp_path, "--list-devices", "--json")
    assert (code, err) == (errors.OK, "")
    listed = json.loads(for_programs)
    (default,) = [device for device in listed if device["default"]]
    assert default["name"] == "default" and default["rate_hz"] == 44_100
    assert set(default) == {"index", "name", "api", "channels", "rate_hz", "default"}
    (marked,) = [line for line in for_people.splitlines()[:-1] if line.startswith("*")]
    assert marked.split()[:3] == ["*", str(default["index"]), "default"]
    assert f"{default['channels']} channels" in marked and "44100 Hz" in marked


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--microphone", "Yeti"], errors.NO_INPUT, "no microphone is called 'Yeti'"),
        (["--microphone", "99"], errors.NO_INPUT, "there is no microphone 99"),
        (["--microphone", "u"], errors.NO_INPUT, "microphones are called 'u'"),
        (["--pace", "fast"], errors.USAGE, "--pace fast is for a file"),
        (["--file", "talk.wav", "--duration", "3"], errors.USAGE, "--duration"),
    ],
)
def test_mistakes_are_explained(args, code, message, stereo, tmp_path):
    got, out, err = run(stereo.env, tmp_path, *args)
    assert (got, out) == (code, "")
    assert message in err and len(err.splitlines()) == 1


def test_one_that_cannot_be_opened_is_explained(tmp_path):
    """The sound server is there, the microphone behind its default source is not."""
    with virtual_microphone() as microphone:
        microphone.control("unload-module", "module-null-sink")
        code, out, err = run(microphone.env, tmp_path)
    assert (code, out) == (errors.NO_INPUT, "")
    assert "'default' could not be opened" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), (errors.NO_INPUT, "")),
        (("--microphone", "Yeti"), (errors.NO_INPUT, "")),
        (("--list-devices",), (errors.OK, "")),
        (("--list-devices", "--json"), (errors.OK, "[]\n")),
    ],
)
def test_where_there_is_none_that_is_said(args, expected, tmp_path):
    env = {**os.environ, "PULSE_SERVER": f"unix:{tmp_path}/none", "PYTHONPATH": str(ROOT)}
    code, out, err = run(env, tmp_path, *args)
    if code == errors.NO_DEPENDENCY:
        unavailable(err)
    if "no microphone was found" not in err and Path("/proc/asound/cards").is_file():
        pytest.skip("this machine has a microphone of its own")
    assert (code, out) == expected
    assert "no microphone was found" in err and len(err.splitlines()) == 1


def test_a_missing_portaudio_is_named(tmp_path):
    script = """
        import ctypes.util, sys
        ctypes.util.find_library = lambda name: None
        from dragoman.demos import cli
        sys.exit(cli.main(["captions"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (errors.NO_DEPENDENCY, "")
    assert "libportaudio2" in done.stderr and len(done.stderr.splitlines()) == 1


class Hearing:
    """A microphone as the status line sees it."""

    def __init__(self, amplitude: float, seconds: float, lost_s: float = 0.0) -> None:
        self.level, self.lost_s, self.lost_frames = Level(16_000), lost_s, round(lost_s * 16_000)
        self.level.take(np.full(round(seconds * 16_000), amplitude, np.float32))


def status(microphone: Any) -> list[str]:
    return list(hearing(microphone))


def test_the_status_shows_the_level_silence_and_losses():
    assert status(Hearing(0.063, 6)) == ["▮▮▮▮▮▮▯▯▯▯ -24 dB"]
    silent = status(Hearing(0.0, 6, lost_s=1.5))
    assert silent == ["▯▯▯▯▯▯▯▯▯▯ -90 dB", "nothing heard for 6 s: muted? wrong microphone?",
                      "1.5 s lost"]  # fmt: skip
    assert status(Hearing(0.0, 4)) == ["▯▯▯▯▯▯▯▯▯▯ -90 dB"]
    assert meter(0.0) == "▮" * 10 + "   0 dB" and meter(3.0).startswith("▮" * 10 + " ")
