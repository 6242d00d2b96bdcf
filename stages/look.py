"""Pictures to soft tokens: the vision tower, for sessions that have a video.

Stands between the segmenter and the encoder, and looks at nothing but the pictures that a segment
brings along, so a video costs what its segments need. A picture that two segments share is looked
at once. Without a tower pictures pass unseen: captions still name them.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dragoman.encoders import MultimodalEmbedder, VisionTower
from dragoman.encoders.vision import RESOLUTION, prepare
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.messages import Picture, SessionOptions, Speech


@dataclass
class LookState:
    """The pictures of the last segment that had any, as they were seen."""

    seen: tuple[Picture, ...] = ()


class LookStage:
    """Stage[Speech, Speech, LookState]: every piece passes, its pictures with their soft tokens."""

    def __init__(
        self,
        tower: VisionTower | None,
        embedder: MultimodalEmbedder | None,
        end_of_image: int,
        resolution: int = RESOLUTION,
    ) -> None:
        """``end_of_image`` is the id of `<end_of_image>`, which is embedded with the picture."""
        self._tower, self._embedder = tower, embedder
        self._end_of_image, self._resolution = end_of_image, resolution

    @classmethod
    def load(cls, model: str, device: str = "cpu", dtype: str = "auto") -> "LookStage":
        """Loads the vision tower and its embedder, nothing else, as weights of ``dtype``; raises
        CheckpointError.
        """
        checkpoint = Checkpoint.open(model)
        end_of_image = checkpoint.tokenizer.special("<end_of_image>")
        weights, resolution = checkpoint.dtype(dtype), checkpoint.resolution
        tower, embedder = checkpoint.vision_tower(weights, device), None
        if tower is not None:
            embedder = checkpoint.embedder("vision", weights, device)
        return cls(tower, embedder, end_of_image, resolution)

    def init_state(self, options: SessionOptions) -> LookState:
        return LookState()

    def step(self, item: Speech, state: LookState) -> tuple[list[Speech], LookState]:
        """Raises ValueError for a picture that is not uint8 [H, W, 3]."""
        if not item.pictures:
            return [item], state
        known = {picture.frame: picture for picture in state.seen}
        seen = tuple(known.get(p.frame) or self._seen(p) for p in item.pictures)
        return [replace(item, pictures=seen)], LookState(seen)

    def flush(self, state: LookState) -> list[Speech]:
        """Nothing is held back."""
        return []

    @torch.inference_mode()
    def look(self, pixels: Tensor) -> Tensor | None:
        """pixels: uint8 [H, W, 3], RGB; gives float32 [256, D], None without a tower."""
        if self._tower is None or self._embedder is None:
            return None
        like = next(self._tower.parameters())
        squeezed = prepare(pixels, self._resolution)[None].to(like.device, like.dtype)
        return self._embedder.soft(self._tower(squeezed))[0].float().cpu()

    @torch.inference_mode()
    def _seen(self, picture: Picture) -> Picture:
        if self._embedder is None or picture.pixels is None:
            return picture.without_pixels()
        # A copy: what came from another process is read-only, which torch does not know.
        tokens = self.look(torch.as_tensor(picture.pixels.copy()))
        device = self._embedder.embedding.weight.device
        end = self._embedder.hard(torch.tensor([self._end_of_image], device=device))
        return Picture(picture.frame, None, tokens, end.float().cpu())
