"""The nested sizes that are trained together (MatFormer, arXiv:2310.07707), one drawn a step."""

import random

from dragoman.decoder import Slice, TextConfig

WHOLE_SHARE = 0.55
SKIP_SHARE = 0.5  # of the smaller ones
FRACTIONS = (2, 4)
SKIPPABLE = 2  # layers, the first ones that read another's keys and values


def drawn(config: TextConfig, rng: random.Random) -> Slice | None:
    """The size of a step: None for all of the model, else half or a quarter of the feed-forward
    width, with or without the layers that may be skipped."""
    if rng.random() < WHOLE_SHARE:
        return None
    width = config.ffn_widths[0] // rng.choice(FRACTIONS)
    skip = skippable(config) if rng.random() < SKIP_SHARE else ()
    return Slice.cut(config, width, skip)


def skippable(config: TextConfig) -> tuple[int, ...]:
    """The layers that the model can do without."""
    first = config.last_kv_owner + 1
    return tuple(range(first, min(first + SKIPPABLE, config.num_hidden_layers - 1)))
