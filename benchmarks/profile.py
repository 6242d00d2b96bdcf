"""Where the time of a piece of work goes, by operation.

Printed beside the figures, so that a target that is not met says what stands in its way.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity

SHOWN = 8
# The profiler complains of an accelerator that is not there, where torch could use one.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def shares(work: Callable[[], Any], most: int = SHOWN) -> list[tuple[str, float, int]]:
    """The operations that took the most time of their own: name, share of the whole, calls.

    Runs ``work`` once to warm up and once under the profiler.
    """
    work()
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        work()
    events = [event for event in found.key_averages() if _counts(event)]
    spent = {event.key: (_own(event), event.count) for event in events}
    whole = sum(own for own, _ in spent.values()) or 1.0
    largest = sorted(spent.items(), key=lambda item: -item[1][0])[:most]
    return [(name, round(own / whole, 3), count) for name, (own, count) in largest]


def _counts(event: Any) -> bool:
    """On a GPU kernels count, not the operations that start them, which would count them again."""
    return not torch.cuda.is_available() or event.device_type.name == "CUDA"


def _own(event: Any) -> float:
    """Microseconds in the operation itself, where it ran."""
    if torch.cuda.is_available():
        return event.self_device_time_total
    return event.self_cpu_time_total
