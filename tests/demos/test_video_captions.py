"""`dragoman captions --file` of a video: captions name their frames."""

import json

from demos import captions
from demos.captions import Request
from pipeline.local import Local
from tests.pipeline.fake_stages import illustrated, looking, tone
from tests.pipeline.videos import slide, write


def frames(monkeypatch, tmp_path, media):
    chain = Local.start(stages=illustrated(), look=looking())
    monkeypatch.setattr(captions, "start", lambda request: chain)
    out = tmp_path / "out"
    assert captions.run(Request(file=media, output_dir=out, pace="fast", as_json=True)) == 0
    form = json.loads((out / f"{media.stem}.json").read_text(encoding="utf-8"))
    return [segment["frames"] for segment in form["segments"]], len(chain)


def test_a_video_goes_through_the_lane(monkeypatch, tmp_path, capsys):
    """Segments begin every 0.8 s; the slide changes at 1.5 s."""
    media = tmp_path / "talk.mp4"
    write(media, [(0, slide(1)), (1.5, slide(5))], 2.5, sound=tone(15))
    found, links = frames(monkeypatch, tmp_path, media)
    first, second = {"time": 0.0, "index": 0}, {"time": 1.5, "index": 15}
    assert found[:3] == [[first], [first], [second]] and links == 4
    assert '"frames": [{"time": 1.5, "index": 15}]' in capsys.readouterr().out


def test_sound_alone_does_not(monkeypatch, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "talk.wav", tone(12), 16_000)
    found, links = frames(monkeypatch, tmp_path, tmp_path / "talk.wav")
    assert found == [[]] * 3 and links == 3
