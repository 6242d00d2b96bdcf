"""From an encoder's width to the language model's: soft tokens and the hard tokens of a modality.

Used for audio (`model.embed_audio.*`) and for images (`model.embed_vision.*`); parameter names
equal those of a published checkpoint. Unusual: the last norm has no scale, and hard ids (such as
`<end_of_audio>`) take another first norm.
"""

from __future__ import annotations

from torch import Tensor, nn

from dragoman.encoders.linear import Linear
from dragoman.encoders.norms import RMSNorm


class MultimodalEmbedder(nn.Module):
    """Norm, projection, norm: features of width Da, or ids of the modality's own vocabulary, to
    width D.
    """

    def __init__(
        self,
        vocab_size: int,
        vocab_offset: int,
        multimodal_hidden_size: int,
        text_hidden_size: int,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.vocab_size, self.vocab_offset = vocab_size, vocab_offset
        self.width = text_hidden_size
        self.embedding = nn.Embedding(vocab_size, multimodal_hidden_size)
        self.hard_embedding_norm = RMSNorm(multimodal_hidden_size, eps)
        self.soft_embedding_norm = RMSNorm(multimodal_hidden_size, eps)
        self.embedding_projection = Linear(multimodal_hidden_size, text_hidden_size)
        self.embedding_post_projection_norm = RMSNorm(text_hidden_size, eps, scale=False)

    def soft(self, features: Tensor) -> Tensor:
        """features: float [..., Da], an encoder's output; gives [..., D]."""
        return self._project(self.soft_embedding_norm(features))

    def hard(self, ids: Tensor) -> Tensor:
        """ids: int [...], token ids of this modality; gives [..., D].

        Raises:
            ValueError: an id outside [vocab_offset, vocab_offset + vocab_size).
        """
        rows = ids - self.vocab_offset
        if ids.numel() and (int(rows.min()) < 0 or int(rows.max()) >= self.vocab_size):
            raise ValueError(
                f"hard ids must lie in [{self.vocab_offset}, "
                f"{self.vocab_offset + self.vocab_size}); got {int(ids.min())} to "
                f"{int(ids.max())}. Take other ids from the text embedding."
            )
        return self._project(self.hard_embedding_norm(self.embedding(rows)))

    def _project(self, x: Tensor) -> Tensor:
        return self.embedding_post_projection_norm(self.embedding_projection(x))
