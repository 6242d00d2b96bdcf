from __future__ import annotations

import numpy as np
import pytest
import torch

from dragoman.encoders.vision import prepare
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.contract import StageHost
from dragoman.stages.look import LookStage
from dragoman.stages.messages import Picture, SessionOptions, Speech, VideoFrame
from tests import seeing

OPTIONS = SessionOptions()


@pytest.fixture(scope="module")
def stage(seeing_folder) -> LookStage:
    return LookStage.load(str(seeing_folder))


def picture(index: int, colour: int = 200) -> Picture:
    pixels = np.full((72, 128, 3), 230, np.uint8)
    pixels[20:40, 10 : 20 + 9 * index] = (colour, 10, 10)
    pixels.flags.writeable = False  # as it comes from another process
    return Picture(VideoFrame(float(index), 25 * index), pixels)


def speech(*pictures: Picture, opens: bool = True) -> Speech:
    return Speech(3, 160, np.ones(5, np.float32), opens, pictures=pictures)


def test_a_picture_becomes_256_soft_tokens(stage, seeing_folder):
    shown = picture(4)
    (out,), _ = stage.step(speech(shown), stage.init_state(OPTIONS))
    (seen,) = out.pictures
    assert seen.frame == shown.frame and seen.pixels is None
    assert seen.tokens.shape == (256, 32) and seen.tokens.dtype == torch.float32
    assert (out.segment, out.start, out.opens, len(out.samples)) == (3, 160, True, 5)

    checkpoint = Checkpoint.open(str(seeing_folder))
    embedder = checkpoint.embedder("vision")
    tower = checkpoint.vision_tower()
    assert tower is not None and shown.pixels is not None
    pixels = prepare(torch.from_numpy(shown.pixels.copy()), seeing.RESOLUTION)[None]
    expected = embedder.soft(tower(pixels))[0]
    torch.testing.assert_close(seen.tokens, expected, atol=1e-5, rtol=0)
    end = torch.tensor([checkpoint.tokenizer.special("<end_of_image>")])
    torch.testing.assert_close(seen.end, embedder.hard(end), atol=1e-6, rtol=0)


def test_a_picture_that_segments_share_is_looked_at_once(stage, monkeypatch):
    looked = []
    monkeypatch.setattr(stage, "look", lambda pixels: looked.append(1) or torch.zeros(256, 32))
    host = StageHost(stage)
    host.open("a", OPTIONS)
    host.open("b", OPTIONS)
    host.step("a", 0, [speech(picture(1), picture(2))])
    host.step("a", 1, [speech(opens=False), speech(picture(2)), speech(picture(2), picture(3))])
    assert len(looked) == 3
    host.step("b", 0, [speech(picture(2, colour=90))])  # another session's frame of that number
    assert len(looked) == 4


def test_speech_without_pictures_passes_as_it_is(stage):
    piece = speech()
    assert stage.step(piece, stage.init_state(OPTIONS))[0] == [piece]


def test_without_a_tower_pictures_are_only_named(tiny_folder):
    blind = LookStage.load(str(tiny_folder))
    assert blind.look(torch.zeros(4, 4, 3, dtype=torch.uint8)) is None
    (out,), _ = blind.step(speech(picture(1)), blind.init_state(OPTIONS))
    assert out.pictures == (Picture(VideoFrame(1.0, 25)),)


def test_what_is_no_picture_is_an_error(stage):
    wrong = Picture(VideoFrame(0.0, 0), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected a picture"):
        stage.step(speech(wrong), stage.init_state(OPTIONS))
