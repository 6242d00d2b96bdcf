"""Pictures in the prompt: their place, their reach, and the words that follow from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.messages import CHUNK_SAMPLES, Picture, SessionOptions, SoftTokens, VideoFrame
from dragoman.stages.translate import TranslateStage
from tests import nano_like
from tests.stages.segments import paced

OPTIONS = SessionOptions(update_chunks=1, max_answer_tokens=16)


@pytest.fixture(scope="module")
def stage(tiny_folder) -> TranslateStage:
    return TranslateStage.load(str(tiny_folder))


def picture(index: int, seed: int | None = None) -> Picture:
    """A picture that was looked at; with a seed of None one that was not."""
    frame = VideoFrame(2.0 * index, 50 * index)
    if seed is None:
        return Picture(frame)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(257, 32, generator=generator)
    return Picture(frame, None, tokens[:256], tokens[256:])


def segment(number: int, *pictures: Picture, chunks: int = 6, seed: int = 0) -> list[SoftTokens]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 32, generator=generator) + 0.4 * torch.randn(
        chunks, 32, generator=generator
    )
    return [
        SoftTokens(
            number,
            (k + 1) * CHUNK_SAMPLES,
            tokens[k : k + 1],
            opens=k == 0,
            closes=k == chunks - 1,
            pictures=pictures if k == 0 else (),
        )
        for k in range(chunks)
    ]


def run(stage, items, options=OPTIONS):
    state, captions, states = stage.init_state(options), [], []
    for item in paced(items, options):
        out, state = stage.step(item, state)
        captions += out
        states.append(replace(state))
    return captions, states


def texts(captions):
    return [(c.kind, c.end, c.transcript, c.translation) for c in captions]


def test_ids_and_embeddings_before_the_audio_are_these(stage, monkeypatch):
    """What enters the cache, in order, compared with a list that is written out."""
    entered = []
    answer = type(stage.model).answer

    def spy(self, embeddings, ids, cache, wanted):
        entered.append((ids[0].tolist(), embeddings[0].clone()))
        return answer(self, embeddings, ids, cache, wanted)

    monkeypatch.setattr(type(stage.model), "answer", spy)
    one, two = picture(1, seed=1), picture(2, seed=2)
    run(stage, segment(0, one, two), replace(OPTIONS, update_chunks=9))
    encode = stage.tokenizer.encode
    two_lines, four_lines = encode("\n\n"), encode("\n\n\n\n")
    words = encode(
        "user\nTranscribe the following speech segment in Spanish, then translate it into English:"
    )
    head = [2, 4, *words, *two_lines, 6]
    assert entered.pop(0)[0] == [*head[:-1], 7]  # the prompt without pictures, for all segments
    ids, embeddings = entered[0]
    assert ids == [
        *[*head, *[449] * 256, 448],
        *[*four_lines, 6, *[449] * 256, 448],
        *[*four_lines, 7],
    ]
    assert entered[1][0][:7] == [457] * 6 + [448 + 8]  # the audio comes after
    first, second = len(head), len(head) + 257 + len(four_lines) + 1
    for start, shown in ((first, one), (second, two)):
        assert shown.tokens is not None and shown.end is not None
        assert torch.equal(embeddings[start : start + 256], shown.tokens)
        assert torch.equal(embeddings[start + 256 : start + 257], shown.end)
    text = [i for i, token in enumerate(ids) if token < nano_like.TEXT_VOCAB]
    plain = stage.model.embed(torch.tensor([ids]))[0]
    assert torch.equal(embeddings[text], plain[text])


def test_the_answer_equals_decoding_without_a_cache(stage, tiny_folder):
    checkpoint = Checkpoint.open(str(tiny_folder))
    model, tokenizer = checkpoint.language_model(), checkpoint.tokenizer
    shown = picture(1, seed=5)
    assert shown.tokens is not None and shown.end is not None
    items = segment(0, shown)
    _, states = run(stage, items, replace(OPTIONS, update_chunks=10_000))
    prompt = prompts.build(tokenizer, "es", "en", images=1)
    soft = torch.cat([item.tokens for item in items])
    ids = [*prompt.before, *[tokenizer.special("<audio_soft_token>")] * len(soft), *prompt.after]
    hard = checkpoint.embedder("audio").hard(torch.tensor([prompt.after[0]]))
    image, audio = prompt.before.index(449), len(prompt.before)
    found, answer = states[-1].transcript.ids, []
    while len(answer) < len(found):
        row = torch.tensor([[*ids, *answer]])
        embeddings = model.embed(row)
        embeddings[0, image : image + 257] = torch.cat([shown.tokens, shown.end])
        embeddings[0, audio : audio + len(soft) + 1] = torch.cat([soft, hard])
        answer.append(int(model(embeddings, row)[0, -1, : nano_like.TEXT_VOCAB].argmax()))
    assert found == answer and len(set(found)) > 2


def test_a_picture_changes_the_prompt_of_its_own_segment_only(stage):
    shown, other = picture(1, seed=1), picture(1, seed=2)
    first, second, third = segment(0, seed=1), segment(1, seed=2), segment(2, seed=3)

    def with_picture(*pictures):
        middle = [replace(second[0], pictures=pictures), *second[1:]]
        captions, states = run(stage, [*first, *middle, *third])
        return [texts(c for c in captions if c.segment == n) for n in range(3)], states

    plain, states = with_picture()
    seen, seen_states = with_picture(shown)
    strange, _ = with_picture(other)
    named, _ = with_picture(picture(1))
    assert plain[0] == seen[0] == strange[0] and plain[2] == seen[2] == strange[2]
    assert plain[1] != seen[1] != strange[1] != plain[1], "the model sees"
    assert named == plain
    heard = [[s.heard for s in each] for each in (states, seen_states)]
    added = [b - a for a, b in zip(*heard, strict=True)]
    assert added[:6] == added[12:] == [0] * 6
    assert set(added[6:12]) == {256 + 2 + len(stage.tokenizer.encode("\n\n\n\n"))}


def test_captions_name_their_frames_seen_or_not(stage):
    items = [
        *segment(0, picture(1), picture(2)),
        *segment(1, picture(2, seed=1)),
        *segment(2),
    ]
    captions, _ = run(stage, items)
    named = {c.segment: c.frames for c in captions}
    early, newest = VideoFrame(2.0, 50), VideoFrame(4.0, 100)
    assert named == {0: (early, newest), 1: (newest,), 2: ()}
    assert all(c.frames == named[c.segment] for c in captions)
    first = next(c for c in captions if c.segment == 0)
    assert first.to_event()["frames"] == [{"time": 2.0, "index": 50}, {"time": 4.0, "index": 100}]


def test_pictures_of_another_tower_are_refused(stage):
    wrong = replace(picture(1, seed=1), tokens=torch.zeros(200, 32))
    with pytest.raises(ValueError, match="200 soft tokens, expected 256"):
        run(stage, segment(0, wrong))
