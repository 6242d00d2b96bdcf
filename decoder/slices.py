"""MatFormer slices: smaller models inside a loaded one (arXiv:2310.07707).

A slice names the layers that run and the first so many hidden units of each feed-forward. It says
nothing about weights: the model runs it on views of its own, and `Slice.config` describes the
standalone model that computes the same.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from dragoman.decoder.config import TextConfig, kv_sources


@dataclass(frozen=True)
class Slice:
    """The layers of a model that run, from below, and the feed-forward width of each of them.

    Whether a model has such a slice is known only with its configuration (`check`). Raises
    ValueError where no model has.
    """

    layers: tuple[int, ...]
    widths: tuple[int, ...]

    def __post_init__(self):
        if not self.layers or any(a >= b for a, b in pairwise(self.layers)):
            raise ValueError(f"a slice needs at least one layer, in rising order: {self.layers}")
        if len(self.widths) != len(self.layers):
            raise ValueError(
                f"got {len(self.widths)} FFN widths for {len(self.layers)} layers; "
                "give one for each layer that runs, or one for all"
            )

    @classmethod
    def whole(cls, config: TextConfig) -> "Slice":
        """All of the model."""
        return cls(tuple(range(config.num_hidden_layers)), config.ffn_widths)

    @classmethod
    def cut(
        cls,
        config: TextConfig,
        widths: int | Sequence[int] | None = None,
        skip: Collection[int] = (),
    ) -> "Slice":
        """The model without the layers `skip`; widths: one for all, one for each layer that is
        left, or None for the full ones. Raises ValueError where the model has no such slice.
        """
        _check_exist(skip, config)
        layers = tuple(i for i in range(config.num_hidden_layers) if i not in skip)
        if widths is None:
            widths = [config.ffn_widths[i] for i in layers]
        elif isinstance(widths, int):
            widths = [widths] * len(layers)
        size = cls(layers, tuple(widths))
        size.check(config)
        return size

    def check(self, config: TextConfig) -> None:
        """Raises ValueError unless the model of `config` has this slice."""
        _check_exist(self.layers, config)
        for i, width in zip(self.layers, self.widths, strict=True):
            if not 1 <= width <= config.ffn_widths[i]:
                raise ValueError(
                    f"the FFN width of layer {i} must lie in [1, {config.ffn_widths[i]}], "
                    f"got {width}"
                )
        for source, readers in _readers(config, self.layers).items():
            if source not in self.layers:
                raise ValueError(
                    f"layer {source} cannot be skipped: layers {_listed(readers)} read its keys "
                    "and values; keep it, or skip those too"
                )

    def config(self, parent: TextConfig) -> TextConfig:
        """The standalone model that this slice of the model of `parent` is.

        The layers are counted anew, and the KV-shared ones that were skipped are no longer
        counted. Raises ValueError where the parent has no such slice.
        """
        self.check(parent)
        return replace(
            parent,
            num_hidden_layers=len(self.layers),
            num_kv_shared_layers=sum(i > parent.last_kv_owner for i in self.layers),
            layer_types=tuple(parent.layer_kinds[i] for i in self.layers),
            intermediate_size=self.widths,
            activation_sparsity_pattern=tuple(parent.sparsities[i] for i in self.layers),
        )


@dataclass(frozen=True)
class Plan:
    """How a model runs a slice.

    steps: each layer that runs, with its width, or None where all of it acts; owners: those with
        keys and values of their own; the last of them is where positions may be dropped;
    blocks, below, above: runs of neighbouring layers, all of them, those below the last owner, and
        it with those above.
    """

    size: Slice
    steps: tuple[tuple[int, int | None], ...]
    owners: tuple[int, ...]
    blocks: tuple[range, ...]
    below: tuple[range, ...]
    above: tuple[range, ...]


@lru_cache(maxsize=256)
def plan(config: TextConfig, size: Slice | None) -> Plan:
    """The plan for `size`, or for all of the model; raises ValueError where it has no such
    slice."""
    size = size or Slice.whole(config)
    size.check(config)
    steps = tuple(
        (i, None if width == config.ffn_widths[i] else width)
        for i, width in zip(size.layers, size.widths, strict=True)
    )
    owners = tuple(i for i in size.layers if i <= config.last_kv_owner)
    return Plan(
        size=size,
        steps=steps,
        owners=owners,
        blocks=runs(size.layers),
        below=runs(i for i in size.layers if i < owners[-1]),
        above=runs(i for i in size.layers if i >= owners[-1]),
    )


def runs(numbers: Iterable[int]) -> tuple[range, ...]:
    """Rising numbers as ranges without gaps: 0, 1, 2, 5 are 0-2 and 5-5."""
    found: list[range] = []
    for i in numbers:
        if found and found[-1].stop == i:
            found[-1] = range(found[-1].start, i + 1)
        else:
            found.append(range(i, i + 1))
    return tuple(found)


def _readers(config: TextConfig, layers: Collection[int]) -> dict[int, list[int]]:
    """For each layer whose keys and values are read by others of `layers`, those others."""
    readers: dict[int, list[int]] = {}
    for i, source in enumerate(kv_sources(config)):
        if i in layers and source != i:
            readers.setdefault(source, []).append(i)
    return readers


def _check_exist(layers: Iterable[int], config: TextConfig) -> None:
    strangers = [i for i in layers if not 0 <= i < config.num_hidden_layers]
    if strangers:
        raise ValueError(
            f"there is no layer {_listed(sorted(strangers))}: the model's layers are "
            f"0-{config.num_hidden_layers - 1}"
        )


def _listed(numbers: Iterable[int]) -> str:
    """0, 1, 2, 5 as "0-2, 5"."""
    return ", ".join(str(r.start) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs(numbers))
