"""Gives the modules of a model their quick classes.

`replace` assigns to the `__class__` of a module, as torch's own `fully_shard` does: names, weights
and whoever holds the module stay as they are.
"""

from torch import nn

from dragoman import encoders
from dragoman.kernels import quick_decoder, quick_encoder
from dragoman.kernels.encoder_steps import QuickAudioEncoder
from dragoman.kernels.serving import give

QUICK: dict[type[nn.Module], type[nn.Module]] = {
    **quick_decoder.QUICK,
    **quick_encoder.QUICK,
    encoders.AudioEncoder: QuickAudioEncoder,
}


def replace(model: nn.Module) -> None:
    """Gives every module of a model that has a quick class this class."""
    give(model, QUICK)
