"""Batches of videos: captions name their frames, a model with eyes sees them."""

import json
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysubs2
import pytest

from dragoman.demos import captions
from dragoman.demos.score import word_error_rate
from dragoman.pipeline import batch as batch_module
from dragoman.pipeline.batch_file import Advanced
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.pool import QUEUED
from dragoman.pipeline.recipes import Recipe, look_recipe, recipes
from dragoman.spec import BATCH_SIZE, ModelSpec
from tests.pipeline import media_files
from tests.pipeline.batches import batch, outputs, records, run, sound, workers
from tests.pipeline.chains import in_process, pool_of
from tests.pipeline.fake_stages import Looking, brightness, illustrated, looking, picture, tone
from tests.pipeline.videos import garble, slide, write

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "samples" / "talk.mp4"
HAS_NANO = (ROOT / "models" / "nano" / "model.safetensors").exists()
SLIDES = [(0, slide(1)), (1.5, slide(5)), (2.6, slide(2))]


pytestmark = pytest.mark.usefixtures("with_ray")


@pytest.fixture(scope="module")
def pool(with_ray):
    """Workers that see."""
    with workers(illustrated(), looking()) as made:
        yield made


def video(path: Path, chunks: int = 23) -> Path:
    """A segment begins every 0.8 s; the slide changes twice."""
    return write(path, SLIDES, chunks * 0.16, sound=tone(chunks))


def films(paths, out=None, look=None, stages=None, **options):
    return batch(paths, out, stages or illustrated(), look or looking(), **options)


def form(folder: Path, name: str = "talk") -> dict:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def frames(folder: Path, name: str = "talk") -> list[list[tuple[float, int]]]:
    segments = form(folder, name)["segments"]
    return [[(f["time"], f["index"]) for f in event["frames"]] for event in segments]


def test_every_segment_names_the_frames_that_live_captions_name(pool, tmp_path, monkeypatch):
    stages = (recipes(ModelSpec("nano"))[0], *illustrated()[1:])
    monkeypatch.setattr(captions, "start", lambda _: in_process(stages, look=looking()))
    live = tmp_path / "live"
    request = captions.CaptionsOptions(file=CLIP, output_dir=live, pace="fast", as_json=True)
    assert captions.run(request) == 0
    expected = [event["frames"] for event in form(live)["segments"]]
    assert run(films([CLIP], tmp_path, stages=stages), pool)["talk.mp4"].status == "done"
    found = [event["frames"] for event in form(tmp_path)["segments"]]
    assert found == expected and len(found) == 8
    assert all(found) and len({str(named) for named in found}) == 8


def test_what_is_named_is_what_was_looked_at(pool, tmp_path):
    media = video(tmp_path / "talk.mp4")
    shown = {p.frame.index: f"{brightness(p)}" for p in read_frames(media)}
    assert run(films([media], tmp_path), pool)["talk.mp4"].warnings == ()
    assert frames(tmp_path) == [[(0, 0)], [(0, 0)], [(1.5, 15)], [(1.5, 15)], [(2.6, 26)]]
    assert [event["size"] for event in form(tmp_path)["segments"]] == [
        " ".join(shown[index] for _, index in named) for named in frames(tmp_path)
    ]


def test_a_blind_model_is_told_of_frames_and_sent_no_pixels(tmp_path):
    made = batch([video(tmp_path / "talk.mp4")], tmp_path, illustrated())
    assert made.look is None and list(made.prepare()) == []
    for speech in made._segments(made._files[0]):
        assert speech.pictures and all(shown.pixels is None for shown in speech.pictures)
    made.close()
    blind = pool_of(illustrated()[1:], workers=1)
    run(batch([tmp_path], tmp_path, illustrated()), blind)
    blind.stop()
    assert frames(tmp_path) == [[(0, 0)], [(0, 0)], [(1.5, 15)], [(1.5, 15)], [(2.6, 26)]]
    assert {event["size"] for event in form(tmp_path)["segments"]} == {"None"}


@dataclass
class MakingInTheOpen:
    """Makes a stage, and leaves a file that tells of it."""

    folder: Path

    def __call__(self):
        (self.folder / str(os.getpid())).touch()
        return Looking()


def test_sound_alone_never_makes_the_lane_and_a_video_makes_it_once_a_worker(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    look = Recipe("look", MakingInTheOpen(made))
    workers = pool_of(illustrated()[1:], workers=2, look=look)
    sound(tmp_path / "a.wav", 23)
    assert run(films([tmp_path / "a.wav"], look=look), workers)["a.wav"].status == "done"
    assert list(made.iterdir()) == [] and frames(tmp_path, "a") == [[]] * 5
    for name in "bc":
        run(films([video(tmp_path / f"{name}.mp4")], look=look), workers)
    assert {int(path.name) for path in made.iterdir()} == set(workers.pids())
    workers.stop()


def test_eyes_that_cannot_be_loaded_fail_the_videos_alone(tmp_path):
    look = looking(ModuleNotFoundError("no timm"))
    workers = pool_of(illustrated()[1:], workers=1, look=look)
    sound(tmp_path / "a.wav", 12)
    video(tmp_path / "talk.mp4")
    results = run(films([tmp_path], look=look), workers)
    workers.stop()
    assert results["a.wav"].status == "done"
    bad = results["talk.mp4"]
    assert bad.status == "failed" and not bad.bad_input
    assert "stage 'look': ModuleNotFoundError: no timm" in bad.reason


def test_cues_keep_to_the_shot_changes_that_the_document_names(pool, tmp_path):
    ends = {}
    for name, at in (("plain", 9.0), ("cut", 2.8)):
        pages = [
            (0, np.full((90, 160, 3), 60, np.uint8)),
            (at, np.full((90, 160, 3), 200, np.uint8)),
        ]
        path = write(tmp_path / f"{name}.mp4", pages, 4, sound=tone(18))
        assert run(films([path], formats=("ass", "json")), pool)[path.name].status == "done"
        assert form(tmp_path, name)["shot_changes"] == ([] if name == "plain" else [2.8])
        ends[name] = [event.end for event in pysubs2.load(str(tmp_path / f"{name}.es.ass"))]
    assert ends["plain"][-1] == 3_060 and ends["cut"][-1] == 3_300
    assert ends["plain"][:-1] == ends["cut"][:-1]


@pytest.mark.parametrize("from_s", [0.0, 2.0])
def test_a_broken_video_track_costs_a_warning_and_no_caption(pool, tmp_path, from_s):
    garble(video(tmp_path / "talk.mp4"), from_s)
    result = run(films([tmp_path]), pool)["talk.mp4"]
    assert (result.status, result.segments) == ("done", 5)
    (warning,) = result.warnings
    assert warning.startswith("talk.mp4: ")
    assert warning.endswith(" damaged packets of video were left out")
    assert form(tmp_path)["warnings"] == [warning]
    assert all(event["transcript"] for event in form(tmp_path)["segments"])
    named = {frame for segment in frames(tmp_path) for frame in segment}
    assert named >= {(0, 0), (1.5, 15)} if from_s else not named
    assert all(time < from_s for time, _ in named)
    whole = outputs(tmp_path)
    run(films([tmp_path], overwrite=True), pool)
    assert outputs(tmp_path) == whole


def test_pictures_that_fail_in_any_other_way_are_a_warning_too(pool, tmp_path, monkeypatch):
    def failing(path, shots):
        yield picture(0.0)
        raise MemoryError("a picture of 900 megapixels")

    monkeypatch.setattr(batch_module, "read_frames", failing)
    result = run(films([video(tmp_path / "talk.mp4")]), pool)["talk.mp4"]
    assert result.status == "done" and frames(tmp_path) == [[(0, 0)]] * 5
    assert "MemoryError: a picture of 900 megapixels" in result.warnings[0]


def test_whatever_moment_a_run_ends_frames_are_as_if_it_had_not(pool, tmp_path):
    """Abandons a run after each of its events; the journal names frames and holds no pixels."""
    media = video(tmp_path / "talk.mp4")
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(films([media], whole), pool)
    for _ in range(9):
        made = films([media], out)
        list(made.prepare())
        if not made.to_do:
            break
        for event in made.run(pool):
            if isinstance(event, Advanced) and event.worked_s:
                break
        made.close()
        while pool.busy:
            pool.collect()
        finished = [record for record in records(out) if record["kind"] == "segment"]
        for record in finished:
            assert set(record["caption"]["frames"][0]) == {"time", "index"}
            assert len(json.dumps(record)) < 1_000
    made.close()
    assert outputs(out) == outputs(whole) and len(outputs(whole)) == 7
    assert len({tuple(named) for named in frames(out)}) == 3


def test_pixels_are_kept_for_the_segments_that_wait_and_no_longer(pool, tmp_path, monkeypatch):
    made, alive = [], []

    def slides(path, shots):
        for half_second in range(90):
            shown = picture(half_second / 2)
            made.append(weakref.ref(shown.pixels))
            alive.append(sum(pixels() is not None for pixels in made))
            yield shown

    monkeypatch.setattr(batch_module, "read_frames", slides)
    assert run(films([video(tmp_path / "talk.mp4", 300)]), pool)["talk.mp4"].segments == 60
    # Two for each segment that a worker has and one that is cut; eight that the segmenter
    # remembers; a few that are read ahead.
    most = len(pool) * QUEUED * BATCH_SIZE
    assert len(alive) == 90 and 8 <= max(alive) <= 2 * (most + 1) + 8 + 5 < 90


def test_a_model_with_a_vision_tower_sees(seeing_folder, tmp_path):
    """The same sound with other slides, and seen by nobody: other words, at the same times."""
    spec = ModelSpec(str(seeing_folder), threads=1)
    stages, look = recipes(spec), look_recipe(spec)
    assert batch([], spec=spec, stages=stages, look=look).look is look
    speech = media_files.speech()
    write(tmp_path / "one.mp4", [(0, 255 - slide(3)), (4, slide(6))], 8, sound=speech)
    write(tmp_path / "two.mp4", [(0, 255 - slide(5)), (4, 255 - slide(2))], 8, sound=speech)
    workers = pool_of(stages[1:], workers=1, look=look)
    seen = run(batch([tmp_path], tmp_path, stages, look, spec=spec), workers)
    # Without eyes the words hang on the sound alone.
    blind = run(batch([tmp_path], tmp_path / "blind", stages, spec=spec), workers)
    workers.stop()
    results = [*seen.values(), *blind.values()]
    assert [(result.status, result.reason) for result in results] == [("done", "")] * 4
    folders = [(tmp_path, "one"), (tmp_path, "two"), (tmp_path / "blind", "one")]
    spans = [[(e["start"], e["end"]) for e in form(*each)["segments"]] for each in folders]
    words = [[e["transcript"] for e in form(*each)["segments"]] for each in folders]
    assert spans[0] == spans[1] == spans[2] and len(spans[0]) == 2
    assert frames(*folders[0]) == frames(*folders[1]) == frames(*folders[2])
    assert words[0] != words[1] != words[2] != words[0]
    assert words[2] == [e["transcript"] for e in form(tmp_path / "blind", "two")["segments"]]


@pytest.mark.skipif(not HAS_NANO, reason="the bundled model is not there")
def test_the_bundled_clip_has_the_right_words_and_the_slide_of_each_sentence(tmp_path):
    said = CLIP.with_name("talk.es.txt").read_text(encoding="utf-8")
    workers = pool_of(recipes(ModelSpec("nano", threads=1))[1:], workers=1)
    made = batch([CLIP], tmp_path, recipes(ModelSpec("nano", threads=1)))
    assert run(made, workers)["talk.mp4"].status == "done"
    workers.stop()
    segments = form(tmp_path)["segments"]
    heard = " ".join(event["transcript"] for event in segments)
    assert word_error_rate(said, heard) <= 0.2
    assert all(event["translation"] for event in segments)
    slides = [shown.frame.index for shown in read_frames(CLIP)]
    assert [named[-1][1] for named in frames(tmp_path)] == slides
