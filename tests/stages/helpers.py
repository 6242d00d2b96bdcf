"""What the tests of several stages share."""

from collections.abc import Sequence
from typing import Any

from dragoman.stages.messages import SessionOptions


def together(
    stage: Any, streams: Sequence[Sequence[Any]], options: Sequence[SessionOptions]
) -> list[list[Any]]:
    """What comes out for each stream, where all step at the same time as long as they last."""
    states = [stage.init_state(each) for each in options]
    out: list[list[Any]] = [[] for _ in streams]
    for turn in range(max(map(len, streams))):
        moving = [n for n, stream in enumerate(streams) if turn < len(stream)]
        results = stage.step_batch([streams[n][turn] for n in moving], [states[n] for n in moving])
        for n, result in zip(moving, results, strict=True):
            assert not isinstance(result, Exception)
            out[n] += result[0]
            states[n] = result[1]
    return out
