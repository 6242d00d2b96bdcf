"""On which sound the words of a hypothesis rest, by where the model's attention lies.

Asked by :mod:`stages.translate` when an update is through, for policies that want to know and for
the times of final words. The question and both texts go through the model once more, behind the
audio that its cache holds, and leave no trace there (:mod:`decoder.alignment`).

Unusual: what counts is where the model looks when it chooses a token, so from the position before
it. Each head has the same say, however much of its attention is on the audio at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dragoman.decoder import KVCache
from dragoman.decoder.alignment import Heads, present
from dragoman.decoder.batching import Decoding
from dragoman.decoder.packed import Request
from dragoman.models.prompt import Prompt
from dragoman.stages.context import Context

TINY = 1e-9  # attention on all of the audio, where a head has none to share


@dataclass(frozen=True)
class Looks:
    """Asks ``heads`` of a model, or, where there are none, all in layers that see everything."""

    context: Context
    heads: Heads

    def at(
        self,
        cache: KVCache,
        audio: int,
        prompt: Prompt,
        missing: int,
        texts: Sequence[Sequence[int]],
    ) -> Decoding[list[list[int]]]:
        """For each id of a transcript and its translation the soft token, counted from 0, that it
        looks at most. ``cache`` ends with ``audio`` soft tokens, which ``missing`` more fill up.
        """
        transcript, translation = texts
        answer = [*transcript, *prompt.separator, *translation]
        if not transcript or not audio:
            return [[0] * len(text) for text in texts]
        shares = yield from self.shares(cache, audio, prompt, missing, answer)
        places = [int(place) for place in shares.sum(0).argmax(-1)]
        return [places[: len(transcript)], places[len(answer) - len(translation) :]]

    def shares(
        self, cache: KVCache, audio: int, prompt: Prompt, missing: int, answer: Sequence[int]
    ) -> Decoding[Tensor]:
        """How each head shares its attention among the soft tokens: float32 [heads, L, K] for an
        ``answer`` of L ids; the K of a row sum to 1.
        """
        embeddings, ids = self.context.answered(prompt, missing, answer[:-1])
        heads = present(self.heads, cache.plan, cache.config)
        seen = yield Request(cache, ids, embeddings, len(answer), heads)
        seen = seen[..., cache.length - audio : cache.length]
        return seen / seen.sum(-1, keepdim=True).clamp(min=TINY)
