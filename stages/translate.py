"""Soft tokens to captions: incremental prefill, then the transcript, then its translation.

The instruction, the segment's pictures and the audio enter the cache once, as they come. For an
update the cache is extended by the short suffix and the answer: what is committed is forced, the
rest of the previous hypothesis is verified as a draft in one pass, decoding goes on from the first
mismatch, and the cache is cut back to the audio. The result equals greedy decoding from scratch
behind the committed text.

Unusual: what was heard is translated from its transcript, so where there is no transcript there is
no translation either, whatever the model would say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from decoder import KVCache, LanguageModel
from decoder.generate import greedy
from encoders import MultimodalEmbedder
from models import prompt as prompts
from models.checkpoint import Checkpoint
from models.prompt import Prompt
from models.tokenizer import Tokenizer
from stages.commit import CommitPolicy, LocalAgreement, without_loop
from stages.messages import (
    SAMPLE_RATE_HZ,
    Caption,
    Frame,
    Picture,
    SessionOptions,
    SoftTokens,
    Text,
)

TOKENS_PER_SECOND = 12  # more than anyone speaks: what exceeds it is invented
TOKENS_AT_LEAST = 12


@dataclass
class Hypothesis:
    """The current best tokens of one text, of which the first ``committed`` are promised."""

    ids: list[int] = field(default_factory=list)
    committed: int = 0

    def updated(self, ids: list[int], policy: CommitPolicy, final: bool) -> "Hypothesis":
        """The hypothesis after a new decoding; a final one is committed whole."""
        return Hypothesis(ids, len(ids) if final else policy(self.ids, ids, self.committed))

    def text(self, tokenizer: Tokenizer) -> Text:
        committed = tokenizer.decode(self.ids[: self.committed])
        tail = tokenizer.decode(self.ids[self.committed :])
        return Text(committed.lstrip(), tail if committed.strip() else tail.lstrip())


@dataclass
class TranslateState:
    """One session's open segment: its cache, how much of it is prompt and audio, its hypotheses,
    and the pictures that its captions name.
    """

    options: SessionOptions
    prompt: Prompt
    cache: KVCache | None = None
    heard: int = 0
    waiting: int = 0  # soft tokens since the last update
    shown: bool = False
    frames: tuple[Frame, ...] = ()
    transcript: Hypothesis = field(default_factory=Hypothesis)
    translation: Hypothesis = field(default_factory=Hypothesis)


class TranslateStage:
    """Stage[SoftTokens, Caption, TranslateState]: partial captions while a segment lasts, then one
    final; a segment without words gives none.
    """

    def __init__(
        self,
        model: LanguageModel,
        embedder: MultimodalEmbedder,
        tokenizer: Tokenizer,
        name: str,
    ) -> None:
        self._model, self._embedder, self._tokenizer, self._name = model, embedder, tokenizer, name
        self._soft_token = tokenizer.special("<audio_soft_token>")
        self._policy = LocalAgreement(tokenizer.begins_word)
        ids = torch.arange(model.config.vocab_size)
        never = ids >= model.config.vocab_size_per_layer_input  # image and audio rows
        self._never = never.to(model.device)

    @classmethod
    def load(cls, model: str, device: str = "cpu") -> "TranslateStage":
        """Loads the language model and the rows of its special tokens; raises CheckpointError."""
        checkpoint = Checkpoint.open(model)
        return cls(
            checkpoint.language_model().to(device),
            checkpoint.embedder("audio").to(device),
            checkpoint.tokenizer,
            checkpoint.name,
        )

    def init_state(self, options: SessionOptions) -> TranslateState:
        """Raises LanguageError for an unknown language."""
        prompt = prompts.build(self._tokenizer, options.language, options.target_language)
        return TranslateState(options, prompt)

    @torch.inference_mode()
    def step(self, item: SoftTokens, state: TranslateState) -> tuple[list[Caption], TranslateState]:
        """Raises ValueError for tokens of a segment that was never opened."""
        if item.opens:
            state = self._opened(item, state)
        if state.cache is None:
            raise ValueError(f"segment {item.segment} is not open: feed its tokens from the first")
        self._hear(item, state)
        due = item.update and state.waiting >= state.options.update_chunks
        if not (due or item.closes):
            return [], state
        state.waiting = 0
        self._update(item, state)
        return self._captions(item, state), state

    def flush(self, state: TranslateState) -> list[Caption]:
        """Nothing is held back: the segmenter closes what is open."""
        return []

    def _opened(self, item: SoftTokens, state: TranslateState) -> TranslateState:
        cache = self._model.new_cache()
        ids, embeddings = self._beginning(item.pictures, state)
        self._model.extend(embeddings, ids, cache)
        frames = tuple(picture.frame for picture in item.pictures)
        return TranslateState(state.options, state.prompt, cache, cache.length, frames=frames)

    def _beginning(
        self, pictures: Sequence[Picture], state: TranslateState
    ) -> tuple[Tensor, Tensor]:
        """What stands before the audio, its pictures put in: ids [1, L], embeddings [1, L, D]."""
        options = state.options
        soft = [picture.tokens for picture in pictures if picture.tokens is not None]
        ends = [picture.end for picture in pictures if picture.end is not None]
        if not soft:
            ids = self._row(state.prompt.before)
            return ids, self._model.embed(ids)
        prompt = prompts.build(
            self._tokenizer, options.language, options.target_language, len(soft)
        )
        ids = self._row(prompt.before)
        embeddings = self._model.embed(ids)
        for token, rows in (("<image_soft_token>", soft), ("<end_of_image>", ends)):
            places = ids == self._tokenizer.special(token)
            embeddings[places] = self._placed(rows, int(places.sum()))
        return ids, embeddings

    def _placed(self, rows: list[Tensor], wanted: int) -> Tensor:
        """``rows`` joined, where the model is; raises ValueError unless they are ``wanted``."""
        joined = torch.cat(rows)
        if len(joined) != wanted:
            raise ValueError(
                f"pictures came with {len(joined)} soft tokens, expected {wanted}: "
                "the vision tower is of another model"
            )
        return joined.to(device=self._model.device, dtype=self._model.dtype)

    def _hear(self, item: SoftTokens, state: TranslateState) -> None:
        count = len(item.tokens)
        if count == 0:
            return
        assert state.cache is not None
        ids = self._row([self._soft_token] * count)
        tokens = item.tokens[None].to(device=self._model.device, dtype=self._model.dtype)
        self._model.extend(tokens, ids, state.cache)
        state.heard = state.cache.length
        state.waiting += count

    def _update(self, item: SoftTokens, state: TranslateState) -> None:
        """Decodes both texts anew behind what is committed, and commits what agrees."""
        assert state.cache is not None
        cache, prompt = state.cache, state.prompt
        seconds = (item.end - item.start) / SAMPLE_RATE_HZ
        most = min(
            state.options.max_answer_tokens, TOKENS_AT_LEAST + round(TOKENS_PER_SECOND * seconds)
        )
        stop = (*prompt.newlines, *prompt.stop)
        after = self._row(prompt.after)
        end = self._embedder.hard(after[:, :1]).to(self._model.dtype)
        embeddings = torch.cat((end, self._model.embed(after[:, 1:])), dim=1)
        logits = self._model.prefill(embeddings, after, cache)
        ids = self._decode(logits, cache, state.transcript, most, stop)
        state.transcript = state.transcript.updated(ids, self._policy, item.closes)
        if self._has_words(ids):
            # Decoding may have left the last tokens out of the cache.
            inside = cache.length - state.heard - len(prompt.after)
            rest = self._row([*ids[inside:], *prompt.separator])
            logits = self._model.prefill(self._model.embed(rest), rest, cache)
            ids = self._decode(logits, cache, state.translation, most, stop)
        else:
            ids = state.translation.ids[: state.translation.committed]
        state.translation = state.translation.updated(ids, self._policy, item.closes)
        cache.truncate(state.heard)

    def _has_words(self, ids: list[int]) -> bool:
        return any(map(str.isalnum, self._tokenizer.decode(ids)))

    def _row(self, ids: Sequence[int]) -> Tensor:
        """Ids [1, L] where the model is."""
        return torch.tensor([ids], device=self._model.device)

    def _decode(
        self, logits: Tensor, cache: KVCache, last: Hypothesis, most: int, stop: tuple[int, ...]
    ) -> list[int]:
        """The new hypothesis behind ``logits``; the cache may hold all of it, and nothing more."""
        start = cache.length
        found = greedy(
            self._model,
            cache,
            logits,
            most,
            stop,
            forced=last.ids[: last.committed],
            draft=last.ids[last.committed :],
            suppress=self._never,
        )
        ids = without_loop(list(found.tokens))
        ids += found.tokens[len(ids) : last.committed]  # what is committed stays, even a loop
        cache.truncate(min(cache.length, start + len(ids)))
        return ids

    def _captions(self, item: SoftTokens, state: TranslateState) -> list[Caption]:
        state.shown = state.shown or self._has_words(state.transcript.ids)
        if not state.shown:
            return []
        return [
            Caption(
                kind="final" if item.closes else "partial",
                segment=item.segment,
                start=item.start,
                end=item.end,
                language=state.options.language,
                target_language=state.options.target_language,
                transcript=state.transcript.text(self._tokenizer),
                translation=state.translation.text(self._tokenizer),
                frames=state.frames,
                size=self._name,
            )
        ]
