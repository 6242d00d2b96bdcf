"""Sizes by name: the published slices of Gemma 3n, slices of any model, and how people write them.

A size is a `decoder.slices.Slice`; here it gets its name. `parse` reads what stands behind
`--size`: a name, the path of a JSON file, or a list of FFN widths by layer:

    8192                        this width in every layer
    8192,4=16384                but another one in layer 4
    8192,4=16384,20-24=skip     and without layers 20 to 24
    20-24=skip                  all widths as they are

Layers are numbered as in the loaded model; what is said later wins. The JSON file has the columns
of the published table: {"ffn": 8192, or a list with one width for each layer that is left,
"skip": [20, 21, 22, 23, 24]}.

Unusual: a name says what runs, not what it is cut from, so E2B is a part of E4B and all of E2B.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dragoman.decoder import Slice, TextConfig
from dragoman.decoder.slices import runs
from dragoman.errors import SizeError

E4B = TextConfig()
UNIT = 2048  # in which published FFN widths are counted


@dataclass(frozen=True)
class Published:
    """A slice of E4B.

    units: the FFN width of each layer that is left, in UNITs, written in fives;
    skip: the layers left out; effective_billions: parameters by the publisher's count;
    mmlu: percent, of the pretrained model.
    """

    units: str
    effective_billions: float
    mmlu: float
    skip: tuple[int, ...] = ()

    @property
    def size(self) -> Slice:
        """The slice of E4B."""
        widths = [int(unit) * UNIT for unit in self.units.replace(" ", "")]
        return Slice.cut(E4B, widths, self.skip)


# https://huggingface.co/datasets/google/gemma3n-slicing-configs, which the MatFormer Lab reads.
# "layer" and "block" say whether layers or whole blocks of five were searched. The one that is
# called E3.79B there and has 3.74 B keeps its name.
_FOUR, _EIGHT = "44444", "88888"
PUBLISHED = {
    "E4B": Published(" ".join([_EIGHT] * 7), 3.98, 62.3),
    "E3.79B-layer": Published("44448 88888 88888 88888 88888 88888 88888", 3.79, 63.4),
    "E3.79B-block": Published("44444 88888 88888 88888 88888 88888 88888", 3.74, 62.0),
    "E3.59B-layer": Published("44448 88888 88888 88888 88888 88888 44448", 3.59, 63.4),
    "E3.49B-block": Published("44444 88888 88888 88888 88888 88888 44444", 3.49, 61.4),
    "E3.39B-layer": Published("44448 44448 88888 88888 88888 88888 44448", 3.39, 63.0),
    "E3.24B-block": Published("44444 44444 88888 88888 88888 88888 44444", 3.24, 60.7),
    "E3.18B-layer": Published("44448 44448 88888 88888 88888 44448 44448", 3.18, 61.8),
    "E2.98B-layer": Published("44444 44444 44444 88888 88888 44444 88888", 2.98, 59.5),
    "E2.98B-block": Published("44444 44444 88888 88888 88888 44444 44444", 2.98, 59.5),
    "E2.73B-block": Published("44444 44444 44444 88888 88888 44444 44444", 2.73, 57.1),
    "E2.69B-layer": Published("44448 44448 44448 44448 88888 44444 44444", 2.69, 57.7),
    "E2.54B-layer": Published("44448 44444 44444 44444 88888 44444 44444", 2.54, 55.4),
    "E2.49B-block": Published("44444 44444 44444 44444 88888 44444 44444", 2.49, 54.5),
    "E1.96B-layer": Published(
        "44448 44444 44444 44444 44444 44444", 1.96, 53.4, skip=(20, 21, 22, 23, 24)
    ),
    "E2B": Published(" ".join([_FOUR] * 6), 1.91, 50.9, skip=(20, 21, 22, 23, 24)),
}

# All of it, the published size nearest to the middle, and the smallest.
LADDER = ("E4B", "E2.98B-layer", "E2B")

_ITEM = re.compile(r"(?:(?P<first>\d+)(?:-(?P<last>\d+))?=)?(?P<value>\d+|skip)", re.ASCII)


@lru_cache(maxsize=64)
def sizes(config: TextConfig) -> Mapping[str, Slice]:
    """The named sizes of a model: published ones from large to small, then `full` and `half` (the
    FFN widths of all layers)."""
    half = Slice.cut(config, [max(1, width // 2) for width in config.ffn_widths])
    return {**_published(config), "full": Slice.whole(config), "half": half}


def parse(text: str, config: TextConfig) -> Slice:
    """The size that `text` says, of the model of `config`; raises SizeError with the choices."""
    text = text.strip()
    named = {name.lower(): size for name, size in sizes(config).items()}
    if text.lower() in named:
        return named[text.lower()]
    try:
        if text.lower().endswith(".json"):
            return _from_file(Path(text).expanduser(), config)
        items = [_ITEM.fullmatch(item.strip()) for item in text.split(",")]
        if all(items):
            return _from_items([item.groupdict() for item in items if item], config)
    except ValueError as error:
        raise SizeError(f"size {text!r}: {error}") from None
    raise SizeError(_unknown(text, config))


def ladder(config: TextConfig) -> tuple[Slice, ...]:
    """Sizes to change between while running, from all of the model down."""
    named = sizes(config)
    steps = [named[step] for step in LADDER if step in named]
    return tuple(steps) if len(steps) > 1 else (named["full"], named["half"])


def name(size: Slice, config: TextConfig) -> str:
    """What `parse` reads as this size: its name, or the shortest list."""
    for known, other in sizes(config).items():
        if other == size:
            return known
    common = Counter(size.widths).most_common(1)[0][0]
    values = {
        i: str(width) for i, width in zip(size.layers, size.widths, strict=True) if width != common
    }
    skipped = set(range(config.num_hidden_layers)) - set(size.layers)
    values |= dict.fromkeys(skipped, "skip")
    items = [
        (r.start, f"{r.start}={value}" if len(r) == 1 else f"{r[0]}-{r[-1]}={value}")
        for value in set(values.values())
        for r in runs(sorted(i for i in values if values[i] == value))
    ]
    return ",".join([str(common), *(item for _, item in sorted(items))])


def _published(config: TextConfig) -> dict[str, Slice]:
    """The published sizes that the model of `config` has: all, if it is E4B, or the one it is."""
    slices = {known: published.size for known, published in PUBLISHED.items()}
    if _layers(config) == _layers(E4B):
        return slices
    return {
        known: Slice.whole(config)
        for known, size in slices.items()
        if _layers(size.config(E4B)) == _layers(config)
    }


def _layers(config: TextConfig) -> tuple:
    """What the published sizes are about."""
    return config.layer_kinds, config.num_kv_shared_layers, config.ffn_widths


def _from_items(items: list[dict[str, str | None]], config: TextConfig) -> Slice:
    """The size of a list such as `8192,4=16384,20-24=skip`; raises ValueError."""
    values: dict[int, int | None] = dict(enumerate(config.ffn_widths))
    for item in items:
        first, last, value = item["first"], item["last"], item["value"]
        start = 0 if first is None else int(first)
        stop = config.num_hidden_layers if first is None else int(last or first) + 1
        if value is None or (first is None and value == "skip") or start >= stop:
            raise ValueError("a list says WIDTH, LAYER=WIDTH, or FIRST-LAST=skip")
        if stop > len(values):
            raise ValueError(f"there is no layer {stop - 1}: the model's are 0-{len(values) - 1}")
        values |= dict.fromkeys(range(start, stop), None if value == "skip" else int(value))
    skip = [i for i, value in values.items() if value is None]
    return Slice.cut(config, [value for value in values.values() if value is not None], skip)


def _from_file(path: Path, config: TextConfig) -> Slice:
    """The size in a JSON file; raises ValueError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"the file is not JSON ({error})") from None
    if not isinstance(found, dict) or set(found) - {"ffn", "skip"} or not _whole_numbers(found):
        raise ValueError(
            'the file must hold {"ffn": a width or a list of them, "skip": a list of layers}'
        )
    return Slice.cut(config, found.get("ffn"), found.get("skip", ()))


def _whole_numbers(found: dict[str, Any]) -> bool:
    ffn, skip = found.get("ffn", 0), found.get("skip", [])
    numbers = [
        *(ffn if isinstance(ffn, list) else [ffn]),
        *(skip if isinstance(skip, list) else "?"),
    ]
    return all(type(number) is int for number in numbers)


def _unknown(text: str, config: TextConfig) -> str:
    known = ", ".join(sizes(config))
    if text.lower() in map(str.lower, PUBLISHED):
        return f"this model has no size {text!r}, which is cut from E4B: choose {known}"
    return (
        f"unknown size {text!r}: choose {known}, or give FFN widths by layer, "
        "such as 8192,4=16384,20-24=skip"
    )
