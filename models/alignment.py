"""What a model's folder says about where its decoder looks: two optional keys of `config.json`.

`alignment_heads`: the heads, each `[layer, head]`, that look at the sound of the word they write.
`alignment_delay_ms`: how much later than the middle of that sound they look, as a token is written
once all of its word was heard. Both are measured on speech whose word times are known
(`python -m evaluation.align` writes them). Official models have neither: then all heads of the
layers that see everything are asked, and no times of words are told from them.
"""

from collections.abc import Mapping
from typing import Any, cast

from dragoman.errors import CheckpointError

HEADS = "alignment_heads"
DELAY = "alignment_delay_ms"
MOST_DELAY_MS = 2_000
FIND = "`python -m evaluation.align` finds it"


def heads(config: Mapping[str, Any], layers: int, each: int) -> tuple[tuple[int, int], ...]:
    """Of a model's `config.json`, whose ``layers`` have so many heads each; none where it names
    none. Raises CheckpointError where that is no list of heads that there are.
    """
    said = config.get(HEADS, [])
    if not (isinstance(said, list) and all(_is_head(one, layers, each) for one in said)):
        raise CheckpointError(
            f"{HEADS} in config.json is {said!r}, expected a list of [layer, head], layers below "
            f"{layers} and heads below {each}: {FIND}"
        )
    return tuple((layer, head) for layer, head in said)


def delay_ms(config: Mapping[str, Any]) -> int:
    """Of a model's `config.json`; 0 where it names none. Raises CheckpointError."""
    said = config.get(DELAY, 0)
    if not _is_whole(said) or not 0 <= said <= MOST_DELAY_MS:
        raise CheckpointError(
            f"{DELAY} in config.json is {said!r}, expected a whole number from 0 to "
            f"{MOST_DELAY_MS}: {FIND}"
        )
    return said


def _is_head(said: object, layers: int, each: int) -> bool:
    if not isinstance(said, list) or len(said := cast("list[Any]", said)) != 2:
        return False
    return all(_is_whole(n) and 0 <= n < most for n, most in zip(said, (layers, each), strict=True))


def _is_whole(said: object) -> bool:
    return isinstance(said, int) and not isinstance(said, bool)
