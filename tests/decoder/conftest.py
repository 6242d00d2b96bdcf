"""One small model with every mechanism on, and the same weights in transformers.

The model is in float64. Tests compare one way through it with another (whole and cut into pieces,
a slice and the model that it is), and these ways give the products different numbers of rows, for
which a CPU's library may sum in another order. In float32 the layers multiply that rounding by up
to two thousand: one unit in the last place of the embeddings moves a logit by 6e-4. In float64 it
stays below what a float32 logit can show, so a tolerance finds what is wrong and not which CPU it
is.
"""

import pytest
import torch
from transformers import Gemma3nForCausalLM

from dragoman.decoder import LanguageModel
from tests.decoder.helpers import CONFIG, randomize, reference


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    model = LanguageModel(CONFIG).eval()
    randomize(model)
    return model.double()


@pytest.fixture(scope="session")
def theirs(model) -> Gemma3nForCausalLM:
    return reference(CONFIG, model.state_dict())


@pytest.fixture(scope="session")
def ids() -> torch.Tensor:
    """Two rows of 25 ids, some beyond the per-layer table."""
    ids = torch.randint(0, 200, (2, 25), generator=torch.Generator().manual_seed(1))
    ids[0, 3] = 199
    return ids


@pytest.fixture
def lengths(model, monkeypatch) -> dict[int, int]:
    """How many positions the second half of each layer last ran for, by the layer's index."""
    found = {}
    for i, layer in enumerate(model.layers):

        def finish(predictions, *args, i=i, original=layer.finish):
            found[i] = predictions.shape[1]
            return original(predictions, *args)

        monkeypatch.setattr(layer, "finish", finish)
    return found
