"""Parts of models under their own types, which torch's module lists do not keep."""

from dragoman.decoder.layers import DecoderLayer
from dragoman.decoder.model import LanguageModel
from dragoman.encoders.audio import AudioEncoder
from dragoman.encoders.conformer import ConformerBlock


def layer(model: LanguageModel, index: int) -> DecoderLayer:
    found = model.layers[index]
    assert isinstance(found, DecoderLayer)
    return found


def blocks(encoder: AudioEncoder) -> list[ConformerBlock]:
    found = [block for block in encoder.conformer if isinstance(block, ConformerBlock)]
    assert len(found) == len(encoder.conformer)
    return found
