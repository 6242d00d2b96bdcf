"""What a model's folder says about its confidences: two optional keys of `config.json`.

`confidence_temperature`: what logits are divided by before they are probabilities of words.
`min_confidence`: the mean confidence below which a cue is better left out of subtitles. Both are
measured on held-out speech (`python -m evaluation.calibrate` writes them); official models have
neither, so their logits are taken as they are and nothing is left out.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

from dragoman.errors import CheckpointError
from dragoman.models.hub import here, read_config

TEMPERATURE = "confidence_temperature"
LEAST = "min_confidence"


def temperature(config: Mapping[str, Any]) -> float:
    """Of a model's `config.json`; raises CheckpointError where that is no number above 0."""
    said = config.get(TEMPERATURE, 1.0)
    if not _is_number(said) or not 0 < said < inf:
        raise CheckpointError(
            f"{TEMPERATURE} in config.json is {said!r}, expected a number above 0: "
            "`python -m evaluation.calibrate` finds it"
        )
    return float(said)


def least(model: str) -> float:
    """The threshold for cues of a bundled model or a folder; 0, nothing is left out, for one that
    names none or is not here. Raises CheckpointError where it is no number from 0 to 1.
    """
    folder = here(model)
    said = 0.0 if folder is None else read_config(folder).get(LEAST, 0.0)
    if not _is_number(said) or not 0 <= said <= 1:
        raise CheckpointError(f"{LEAST} in config.json is {said!r}, expected a number from 0 to 1")
    return float(said)


def _is_number(said: object) -> bool:
    return isinstance(said, (int, float)) and not isinstance(said, bool)
