"""One way to time things: contenders take turns, and medians over the rounds count.

Unusual: who begins changes with every round, so that what drifts on a machine (temperature, what
else runs) hits all alike. What a contender needs anew for each round is prepared outside the clock.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Contender:
    """``work`` is timed; it is given what ``prepare`` returns.

    ``work`` may return a clock reading (of `clock`) at which it counts as done: what it does after
    that is not timed.
    """

    work: Callable[[Any], float | None]
    prepare: Callable[[], Any] = lambda: None


def clock() -> float:
    """Seconds on a monotonic clock, once the accelerator (if any) has done what it was given."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def alternate(
    contenders: Mapping[str, Contender], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every contender in every round, after ``warm_up`` rounds that do not count.

    Raises ValueError without rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    names, spent = list(contenders), {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds = _once(contenders[name])
            if number >= warm_up:
                spent[name].append(seconds)
    return spent


def medians(spent: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each contender."""
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def _once(contender: Contender) -> float:
    given = contender.prepare()
    begun = clock()
    ended = contender.work(given)
    return (clock() if ended is None else ended) - begun
