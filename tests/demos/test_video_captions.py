"""`dragoman captions --file` of a video: captions name their frames."""

import json
import threading

from dragoman.demos import captions
from dragoman.demos.browser_video import Video
from dragoman.demos.captions import CaptionsOptions
from dragoman.stages.messages import SessionOptions
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import illustrated, looking, tone
from tests.pipeline.media_files import write_tracks
from tests.pipeline.videos import slide, write
from tests.waiting import eventually


def frames(monkeypatch, tmp_path, media):
    chain = in_process(illustrated(), look=looking())
    monkeypatch.setattr(captions, "start", lambda request: chain)
    out = tmp_path / "out"
    assert captions.run(CaptionsOptions(file=media, output_dir=out, pace="fast", as_json=True)) == 0
    form = json.loads((out / f"{media.stem}.json").read_text(encoding="utf-8"))
    return [segment["frames"] for segment in form["segments"]], len(chain)


def test_a_video_goes_through_the_lane(monkeypatch, tmp_path, capsys):
    """Segments begin every 0.8 s; the slide changes at 1.5 s."""
    media = tmp_path / "talk.mp4"
    write(media, [(0, slide(1)), (1.5, slide(5))], 2.5, sound=tone(15))
    found, links = frames(monkeypatch, tmp_path, media)
    first, second = {"time": 0.0, "index": 0}, {"time": 1.5, "index": 15}
    assert found[:3] == [[first], [first], [second]] and links == 3
    assert '"frames": [{"time": 1.5, "index": 15}]' in capsys.readouterr().out


def test_sound_alone_does_not(monkeypatch, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "talk.wav", tone(12), 16_000)
    found, links = frames(monkeypatch, tmp_path, tmp_path / "talk.wav")
    assert found == [[]] * 3 and links == 2


def test_the_sound_track_in_the_language_spoken_is_heard(tmp_path, caplog):
    media = write_tracks(tmp_path / "film.mkv", ("eng", tone(30)), ("spa", tone(10)))
    for language, chunks, number in (("es", 10, 2), ("en", 30, 1)):
        source = captions.open_source(
            CaptionsOptions(file=media, language=language), on_screen=False
        )
        assert sum(map(len, source.pieces)) == len(tone(chunks))
        assert caplog.messages.pop().endswith(f"(eng, spa): number {number} is heard")
        caplog.clear()


def test_a_page_hears_it_too(tmp_path):
    media = write_tracks(tmp_path / "film.mkv", ("eng", tone(30)), ("spa", tone(10)))
    chain = in_process(illustrated())
    video = Video(chain, media, SessionOptions(language="es"), threading.Semaphore())
    eventually(lambda: video.run.done)
    chain.stop()
    assert video.problem == "" and len(video.captions()) == 2
    assert video.warnings == ["film.mkv has 2 sound tracks (eng, spa): number 2 is heard"]
