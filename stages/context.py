"""What stands in the model's cache before its answer: instruction, pictures, audio, turn end.

Used by :mod:`stages.translate`, which keeps the caches. Unusual: the instruction is read and
prefilled once for each pair of languages and each size, and copied for every segment; so is what
stands between audio and answer, which goes along with the newest audio.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from dragoman.decoder import KVCache, LanguageModel, Slice
from dragoman.decoder.batching import Decoding
from dragoman.decoder.packed import Request
from dragoman.encoders import MultimodalEmbedder
from dragoman.models import prompt as prompts
from dragoman.models.prompt import Prompt
from dragoman.models.tokenizer import Tokenizer
from dragoman.stages.messages import Picture, SessionOptions

INSTRUCTIONS = 16  # kept in memory: one for each pair of languages, and each size that runs


class Context:
    """Puts into caches of ``model`` what its answers are about.

    ``embedder`` is that of audio, whose table has the rows of its special tokens.
    """

    def __init__(
        self, model: LanguageModel, embedder: MultimodalEmbedder, tokenizer: Tokenizer
    ) -> None:
        self._model, self._embedder, self._tokenizer = model, embedder, tokenizer
        self._soft_token = tokenizer.special("<audio_soft_token>")
        self._filling = embedder.vocab_offset + embedder.vocab_size - 1
        self.prompt = lru_cache(INSTRUCTIONS)(self._read)
        self.instruction = lru_cache(INSTRUCTIONS)(self._prefilled)
        self._ending = lru_cache(INSTRUCTIONS)(self._ended)

    def begun(
        self, size: Slice, pictures: Sequence[Picture], options: SessionOptions, style: str
    ) -> Decoding[KVCache]:
        """A cache of ``size`` that holds what stands before the audio, worded in ``style``.

        Raises ValueError for pictures whose soft tokens are not as many as the prompt has places.
        """
        soft = [picture.tokens for picture in pictures if picture.tokens is not None]
        ends = [picture.end for picture in pictures if picture.end is not None]
        languages = options.language, options.target_language
        before = self.prompt(*languages, style, len(soft)).before
        if not soft:
            return self.instruction(before, size).copy()
        ids = self._row(before)
        embeddings = self._model.embed(ids)
        for token, rows in (("<image_soft_token>", soft), ("<end_of_image>", ends)):
            places = ids == self._tokenizer.special(token)
            embeddings[places] = self._placed(rows, int(places.sum()))
        cache = self._model.new_cache(size=size)
        yield Request(cache, ids, embeddings, 0)
        return cache

    def audio(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Soft tokens [K, D] as they enter the cache: embeddings [1, K, D], ids [1, K]."""
        embeddings = tokens[None].to(device=self._model.device, dtype=self._model.dtype)
        ids = torch.full((1, len(tokens)), self._soft_token, device=self._model.device)
        return embeddings, ids

    def question(self, tokens: Tensor, prompt: Prompt, missing: int) -> tuple[Tensor, Tensor]:
        """The newest audio, soft tokens [K, D], and all that stands between it and the answer:
        embeddings [1, K + L, D], ids [1, K + L]. The audio is filled up with ``missing`` tokens.
        """
        filling = [self._filled(missing)] if missing else []
        parts = [self.audio(tokens), *filling, self._ending(prompt.after)]
        embeddings, ids = zip(*parts, strict=True)
        return torch.cat(embeddings, dim=1), torch.cat(ids, dim=1)

    def answered(
        self, prompt: Prompt, missing: int, answer: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """All that stands behind the audio, and an ``answer`` to it, as `question` gives it."""
        nothing = torch.zeros(0, self._model.config.hidden_size)
        embeddings, ids = self.question(nothing, prompt, missing)
        said = self._row(answer)
        return torch.cat((embeddings, self._model.embed(said)), 1), torch.cat((ids, said), 1)

    def _filled(self, missing: int) -> tuple[Tensor, Tensor]:
        """What the reference processor shows in place of audio that there is not."""
        rows = self._embedder.hard(self._row([self._filling] * missing))
        return rows.to(self._model.dtype), self._row([self._soft_token] * missing)

    def _ended(self, after: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """What stands between audio and answer: embeddings [1, L, D], ids [1, L]."""
        end, *text = after
        hard = self._embedder.hard(self._row([end])).to(self._model.dtype)
        embeddings = torch.cat((hard, self._model.embed(self._row(text))), dim=1)
        return embeddings, self._row(after)

    def _read(self, language: str, target_language: str, style: str, images: int) -> Prompt:
        """The prompt. Only decoding comes after it, unless there are pictures: of these there may
        be more or fewer the next time.
        """
        prompt = prompts.build(self._tokenizer, language, target_language, images, style)
        if not images:
            self._tokenizer.rest()
        return prompt

    @torch.inference_mode()
    def _prefilled(self, before: tuple[int, ...], size: Slice) -> KVCache:
        """A cache of ``size`` that holds the prompt ``before``, to be copied."""
        ids, cache = self._row(before), self._model.new_cache(1, len(before), size)
        self._model.extend(self._model.embed(ids), ids, cache)
        return cache

    def _placed(self, rows: list[Tensor], wanted: int) -> Tensor:
        """``rows`` joined, where the model is; raises ValueError unless they are ``wanted``."""
        joined = torch.cat(rows)
        if len(joined) != wanted:
            raise ValueError(
                f"pictures came with {len(joined)} soft tokens, expected {wanted}: "
                "the vision tower is of another model"
            )
        return joined.to(device=self._model.device, dtype=self._model.dtype)

    def _row(self, ids: Sequence[int]) -> Tensor:
        """Ids [1, L] where the model is."""
        return torch.tensor([ids], dtype=torch.long, device=self._model.device)
