"""Which model runs, in what form, and where: one value from the command line down to the stages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """A model and how it runs.

    ``model`` is a bundled name, a folder, or a hub id; ``device`` is `cpu` or `cuda`; ``dtype`` the
    form of the weights in memory (`auto`, `float32`, `bf16`, `bf12`, `int8`, `int4`, and the last
    two with `+audio`). ``size`` is the MatFormer size (a name, a list of widths, `auto`; empty: the
    whole model), ``draft_size`` another one for unfinished speech. ``threads`` is for the decoder;
    None: as many as suit the model. ``address`` joins a Ray cluster; None: this machine.
    """

    model: str = "nano"
    device: str = "cpu"
    dtype: str = "auto"
    size: str = ""
    draft_size: str = ""
    threads: int | None = None
    address: str | None = None


NANO = ModelSpec()  # the bundled model
BATCH_SIZE = 8  # segments of files that share a worker's passes, if nothing else is asked for
