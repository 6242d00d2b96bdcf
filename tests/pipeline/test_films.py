"""Subtitles in films: as tracks and in the picture, shown by decoding the film again."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.subtitles.subtitle import AssSubtitle

from dragoman.errors import DependencyError, InputError
from dragoman.pipeline.burning import burn, find_font
from dragoman.pipeline.formats import Cue
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.muxing import Track, mux, suffix_of
from tests.pipeline import media_files
from tests.pipeline.test_clock import film

CUES = [Cue(500, 2_000, ("Hola & <i>", "40")), Cue(2_100, 4_000, ("日本: ñ",))]
OTHER = [Cue(510, 2_000, ("Hello.",))]
ODD_NAMES = ["it's.mp4", "a: b.mkv", "[c], d.webm", "100%d.mp4", '日本 "q".mkv']


def made(folder: Path, name: str) -> Path:
    return media_files.write(folder / name, media_files.speech(), *_form(name))


def _form(name: str) -> tuple:
    return media_files.GOOD[f"film{Path(name).suffix}"]


def shown(path: Path, track: int) -> list[tuple[int, int, str]]:
    """The cues of a track of subtitles, decoded by FFmpeg, without marks of direction."""
    out = []
    with av.open(f"file:{path}") as container:
        stream = container.streams.subtitles[track]
        for packet in container.demux(stream):
            for cue in packet.decode() if packet.size else []:
                assert isinstance(cue, AssSubtitle) and packet.time_base and packet.pts is not None
                text = cue.dialogue.decode().replace("\\N", "\n").replace("\u200e", "")
                start = round(float(packet.pts * packet.time_base) * 1_000)
                out.append(
                    (start, round(float((packet.duration or 0) * packet.time_base) * 1_000), text)
                )
    return out


@pytest.mark.parametrize("name", ODD_NAMES)
def test_tracks_play_in_every_container(tmp_path, name):
    source, target = made(tmp_path, name), tmp_path / f"out {name}"
    mux(source, [Track(CUES, "es", "Spanish"), Track(OTHER, "en", "English", True)], target)
    assert shown(target, 0) == [(500, 1_500, "Hola & <i>\n40"), (2_100, 1_900, "日本: ñ")]
    assert shown(target, 1) == [(510, 1_490, "Hello.")]
    with av.open(f"file:{target}") as container:
        spanish, english = container.streams.subtitles
        assert (spanish.language, english.language) == ("spa", "eng")
        assert english.disposition & Disposition.default
        assert not spanish.disposition & Disposition.default
        assert "Spanish" in spanish.metadata.values()


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.webm"])
def test_picture_and_sound_are_copied_as_they_are(tmp_path, name):
    source, target = made(tmp_path, name), tmp_path / f"out {name}"
    mux(source, [Track(CUES, "es", "Spanish", True)], target)
    for kind in ("video", "audio"):
        assert _packets(source, kind) == _packets(target, kind)


def _packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = container.streams.get(**{kind: 0})
        return [bytes(packet) for packet in container.demux(*stream) if packet.size]


def test_other_containers_become_matroska_and_keep_the_players_clock(tmp_path):
    source = film(tmp_path / "hour.ts", "mp2", 3_602, 3_600)
    assert suffix_of(source) == ".mkv" and suffix_of(Path("A.MP4")) == ".mp4"
    mux(source, [Track(CUES, "es", "Spanish")], tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        begin = (container.start_time or 0) // 1_000
    assert [start - begin for start, _, _ in shown(tmp_path / "out.mkv", 0)] == [500, 2_100]


def test_tracks_of_before_stay_and_are_no_longer_the_default(tmp_path):
    source = made(tmp_path, "film.mkv")
    mux(source, [Track(OTHER, "en", "English", True)], tmp_path / "one.mkv")
    mux(tmp_path / "one.mkv", [Track(CUES, "es", "Spanish", True)], tmp_path / "two.mkv")
    assert shown(tmp_path / "two.mkv", 0) == shown(tmp_path / "one.mkv", 0)
    with av.open(str(tmp_path / "two.mkv")) as container:
        found = [bool(s.disposition & Disposition.default) for s in container.streams.subtitles]
    assert found == [False, True]


def test_what_is_no_film_is_an_input_error(tmp_path):
    (tmp_path / "bad.mp4").write_text("no film")
    with pytest.raises(InputError, match="not a media file"):
        mux(tmp_path / "bad.mp4", [], tmp_path / "out.mp4")
    sound = media_files.write(tmp_path / "a.wav", media_files.speech(1), "pcm_s16le")
    with pytest.raises(InputError, match="no picture"):
        burn(sound, OTHER, tmp_path / "out.mkv")


def test_a_full_disk_is_no_fault_of_the_film(tmp_path):
    source, target = made(tmp_path, "film.mkv"), tmp_path / "out.mkv"
    target.symlink_to("/dev/full")
    for write in (lambda: mux(source, [Track(CUES, "es", "Spanish")], target),
                  lambda: burn(source, OTHER, target)):  # fmt: skip
        with pytest.raises(OSError, match="No space left"):
            write()


@pytest.mark.parametrize("name", ["it's [a]: 100%.mp4", "b.webm", "c.mkv"])
def test_burnt_letters_are_in_the_picture_while_their_cue_lasts(tmp_path, name):
    source, target = made(tmp_path, name), tmp_path / f"out {name}"
    burn(source, OTHER, target)
    before, after = _pictures(source), _pictures(target)
    assert len(after) == len(before)
    for (time, old), (same, new) in zip(before, after, strict=True):
        assert same == pytest.approx(time, abs=0.01)
        lower, upper = np.abs(new[32:] - old[32:]), np.abs(new[:32] - old[:32])
        assert (lower.max() > 100) == (0.51 <= time < 2.0)
        assert upper.max() < 30
    heard, said = (np.concatenate(list(read_audio(path))) for path in (target, source))
    np.testing.assert_array_equal(heard, said)


def _pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(f"file:{path}") as container:
        frames = list(container.decode(video=0))
    return [(float(f.time or 0), f.to_ndarray(format="gray").astype(int)) for f in frames]


def test_a_font_has_all_letters_or_is_not_taken():
    assert find_font("Hola, ñ ¿qué? ").is_file()
    with pytest.raises(DependencyError, match="no font on this machine has"):
        find_font("Hola 𒀀")


@pytest.mark.parametrize("damaged", [range(3, 5), range(100)])
def test_a_film_with_damaged_pictures_is_burnt_unless_all_of_them_are(tmp_path, damaged):
    source, target = made(tmp_path, "film.mkv"), tmp_path / "out.mkv"
    broken = _with_damage(source, tmp_path / "broken.mkv", damaged)
    if len(damaged) == 100:
        with pytest.raises(InputError, match="nothing of its picture can be decoded"):
            burn(broken, OTHER, target)
        return
    burn(broken, OTHER, target)
    assert 0.5 * len(_pictures(source)) < len(_pictures(target)) < len(_pictures(source))
    assert _packets(target, "audio") == _packets(source, "audio")


def _with_damage(film: Path, target: Path, damaged: range) -> Path:
    """``film`` with pictures of which those of these numbers cannot be decoded."""
    with av.open(str(film)) as source, av.open(str(target), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        pictures = 0
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                if pictures in damaged:
                    packet.update(b"\xff" * packet.size)
                pictures += 1
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
    return target


def test_letters_that_must_be_joined_need_who_joins_them(tmp_path, monkeypatch):
    source = made(tmp_path, "film.mkv")
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "fribidi")
    for text in ("مرحبا", "שלום", "नमस्ते"):
        with pytest.raises(DependencyError, match="libfribidi0"):
            burn(source, [Cue(0, 1_000, (text,))], tmp_path / "out.mkv")
    burn(source, [Cue(0, 1_000, ("¿Qué?",))], tmp_path / "out.mkv")
