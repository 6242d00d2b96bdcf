"""Sessions with pictures: the lane is made for the first one, and others do not notice it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dragoman.errors import PipelineError
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.recipes import look_recipe
from dragoman.pipeline.session import Session, run
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions, VideoFrame
from tests.pipeline.chains import in_process, on_ray
from tests.pipeline.fake_stages import POISON, bare, bursts, illustrated, looking, picture, tone
from tests.pipeline.videos import slide, write
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.usefixtures("with_ray")
ROOT = Path(__file__).resolve().parents[2]
POISONED = round(255 * POISON)


@pytest.fixture(scope="module", params=[in_process, on_ray])
def chain(request):
    made = request.param(illustrated(), look=looking())
    yield made
    made.stop()


def captions_of(chain, chunks: float = 12, frames=None, **options):
    return bare(run(chain, [tone(chunks)], pace="fast", frames=frames, **options))


def shown(captions) -> dict[int, list[float]]:
    return {c.segment: [frame.time for frame in c.frames] for c in captions}


@pytest.mark.parametrize("kind", [in_process, on_ray])
def test_the_lane_is_made_with_the_first_picture_of_any_session(kind):
    """Pictures at 0 s and 0.9 s; segments begin every 0.8 s."""
    chain = kind(illustrated(), look=looking())
    sound = captions_of(chain)
    assert len(chain) == 2, "sound alone makes no lane"
    assert captions_of(chain, frames=[]) == sound
    assert captions_of(chain, frames=[picture(60.0)]) == sound  # after the sound's end
    assert len(chain) == 2

    seen = captions_of(chain, frames=[picture(0.0, 10), picture(0.9, 20)])
    assert len(chain) == 3
    assert shown(seen) == {0: [0.0], 1: [0.0, 0.9], 2: [0.9]}
    assert {c.segment: c.size for c in seen} == {0: "10.0", 1: "10.0 20.0", 2: "20.0"}

    assert captions_of(chain, frames=[picture(0.0, 30)])[0].size == "30.0"
    assert captions_of(chain) == sound
    assert len(chain) == 3 and chain.sessions() == []
    chain.stop()


def test_a_session_turns_into_the_lane_with_its_own_first_picture(chain):
    captions = captions_of(chain, 20, [picture(1.7, 50), picture(2.0, 60)])
    assert shown(captions) == {0: [], 1: [], 2: [1.7], 3: [2.0]}
    assert [c.size for c in captions if c.kind == "final"] == ["", "", "50.0", "60.0"]


def test_local_and_graph_give_the_same_events():
    pictures = [picture(t, 10 + int(10 * t)) for t in (0.0, 0.5, 0.9, 1.3, 2.9, 3.0)]
    found = []
    for kind in (in_process, on_ray):
        chain = kind(illustrated(), look=looking())
        found.append(captions_of(chain, 23.4, iter(pictures)))
        chain.stop()
    assert found[0] == found[1]
    assert len({c.frames for c in found[0]}) >= 4


def test_without_a_stage_that_looks_pictures_are_only_named():
    chain = in_process(illustrated())
    captions = captions_of(chain, frames=[picture(0.0)])
    assert len(chain) == 2
    assert {c.frames for c in captions} == {(VideoFrame(0.0, 0),)}
    chain.stop()


def test_sessions_with_and_without_pictures_side_by_side(chain):
    alone = {
        n: captions_of(chain, n, [picture(0.0, n)] if n % 2 else None, session_name=f"s{n}")
        for n in range(8, 14)
    }
    together = {}

    def listen(n):
        frames = [picture(0.0, n)] if n % 2 else None
        together[n] = captions_of(chain, n, frames, session_name=f"s{n}")

    threads = [threading.Thread(target=listen, args=(n,)) for n in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert together == alone
    assert len(chain) == 3 and chain.sessions() == []


def test_a_failing_picture_fails_its_session_alone(chain):
    with pytest.raises(PipelineError, match="poison after 2 pictures") as raised:
        captions_of(chain, 30, [picture(0.0), picture(1.0, POISONED)], session_name="bad")
    assert (raised.value.stage, raised.value.kind) == ("look", "ValueError")
    assert captions_of(chain, frames=[picture(0.0, 10)])[-1].size == "10.0"
    assert chain.sessions() == []


@pytest.mark.parametrize("kind", [in_process, on_ray])
def test_eyes_that_cannot_be_loaded_are_an_error_of_sessions_with_pictures_only(kind):
    chain = kind(illustrated(), look=looking(ModuleNotFoundError("no timm")))
    with pytest.raises(PipelineError, match="no timm") as raised:
        captions_of(chain, frames=[picture(0.0)])
    assert raised.value.stage == "look"
    assert len(captions_of(chain)) == len(captions_of(chain))
    assert chain.sessions() == []
    chain.stop()


def test_leaving_early_forgets_the_session_in_the_lane_too(chain):
    session = Session(chain, [tone(1)] * 200, pace="fast", frames=[picture(0.0)])
    for _ in session:
        break
    eventually(lambda: chain.sessions() == [])
    chain.open(session.name, SessionOptions())  # which is refused while it is open
    chain.drop(session.name)


def test_pictures_out_of_order_fail_the_session(chain):
    with pytest.raises(ValueError, match="in the order of their times"):
        captions_of(chain, frames=[picture(1.0), picture(0.5)])


def test_who_needs_no_eyes_is_known_without_torch(tiny_folder, seeing_folder, tmp_path):
    assert look_recipe(ModelSpec(str(tiny_folder))) is None
    recipe = look_recipe(ModelSpec(str(seeing_folder), "cuda"))
    assert recipe is not None and recipe.name == "look" and recipe.gpus == 0.2
    assert look_recipe(ModelSpec(str(tmp_path / "on-another-machine"))) is not None


def test_a_video_through_the_real_stages(seeing_folder, tmp_path, monkeypatch):
    """The model sees: its words differ; its frames are those of the track; Ray changes nothing."""
    slides = [(0, slide(1)), (3.5, slide(5))]
    video = write(tmp_path / "talk.mp4", slides, 7, sound=bursts())
    options = SessionOptions(max_answer_tokens=8, update_chunks=6)

    def captions(chain, frames):
        return bare(run(chain, [bursts()], options, "fast", frames=frames))

    here = start(ModelSpec(str(seeing_folder), threads=1), ray=False)
    blind = captions(here, None)
    assert len(here) == 2
    seen = captions(here, read_frames(video))
    assert len(here) == 3
    here.stop()
    finals = [c for c in seen if c.kind == "final"]
    assert [c.frames for c in finals] == [(VideoFrame(0.0, 0),), (VideoFrame(3.5, 35),)]
    assert [c.transcript for c in seen] != [c.transcript for c in blind]

    there = start(ModelSpec(str(seeing_folder), threads=1))
    assert captions(there, read_frames(video)) == seen
    assert len(there) == 3
    there.stop()
