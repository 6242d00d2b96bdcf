"""Segments of random soft tokens, and what the translate stage makes of them."""

from dataclasses import replace

import torch
from hypothesis import strategies as st

from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, SoftTokens
from dragoman.stages.policies.updates import Updates
from dragoman.stages.translate import TranslateStage

OPTIONS = SessionOptions(update_chunks=1, max_answer_tokens=16)
BRIEF = replace(OPTIONS, max_answer_tokens=8)  # where many segments are decoded
NEVER_EARLY = replace(OPTIONS, update_chunks=10_000)
SEEDS = (2, 7, 10, 14)
PIECES = st.lists(st.integers(0, 3), min_size=2, max_size=7)


def paced(items: list[SoftTokens], options: SessionOptions) -> list[SoftTokens]:
    """``items`` with the updates that the encode stage would decide on, unless they are late."""
    updates, waiting, out = Updates.of(options), 0, []
    for item in items:
        waiting = (0 if item.opens else waiting) + len(item.tokens)
        update = updates.due(waiting, item.late, item.closes)
        waiting = 0 if update else waiting
        out.append(replace(item, update=update))
    return out


def segment(pieces: list[int], seed: int = 0, updates: list[bool] | None = None):
    """A segment of the given numbers of soft tokens, which stay alike as those of speech do."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 32, generator=generator) + 0.4 * torch.randn(
        sum(pieces), 32, generator=generator
    )
    items, heard = [], 0
    for i, count in enumerate(pieces):
        items.append(
            SoftTokens(
                segment=1,
                start=0,
                end=(heard + count) * CHUNK_SAMPLES,
                tokens=tokens[heard : heard + count],
                opens=i == 0,
                closes=i == len(pieces) - 1,
                late=not updates[i] if updates else False,
            )
        )
        heard += count
    return items


def run(stage: TranslateStage, items: list[SoftTokens], options: SessionOptions = OPTIONS):
    """All captions, and the state after each item."""
    state, captions, states = stage.init_state(options), [], []
    for item in paced(items, options):
        out, state = stage.step(item, state)
        captions += out
        states.append(replace(state))  # texts are replaced by an update, not changed
    assert stage.flush(state) == []
    return captions, states


def texts(captions: list[Caption]) -> list[tuple]:
    return [(c.kind, c.end, c.transcript, c.translation) for c in captions]
