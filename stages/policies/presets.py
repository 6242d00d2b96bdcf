"""How soon captions come, and how sure they are then: named settings of a session.

A preset is a commit policy, how often a hypothesis is made anew, and how much silence ends a
segment. Chosen from curves measured by `python -m evaluation.curves` (docs/decisions.md, 119).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from dragoman.errors import UsageError

Latency = Literal["low", "balanced", "quality"]
BALANCED: Latency = "balanced"
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "low": {"commit_policy": "local-agreement", "update_chunks": 1, "endpoint_ms": 400},
        BALANCED: {"commit_policy": "local-agreement", "update_chunks": 2, "endpoint_ms": 560},
        "quality": {"commit_policy": "align-att:5", "update_chunks": 2, "endpoint_ms": 560},
    }
)


def preset(name: str) -> Mapping[str, Any]:
    """The fields of SessionOptions that a preset sets; raises UsageError for another name."""
    if name not in PRESETS:
        raise UsageError(f"no latency {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
