"""Soft tokens to captions: incremental prefill, then the transcript, then its translation.

The instruction, the segment's pictures and the audio enter the cache once. For an update the audio
that came since the last, the short suffix and the previous transcript go through one pass, what is
committed of it forced; decoding goes on from the first mismatch; the previous translation likewise;
and the cache is cut back to the audio. The result equals greedy decoding from scratch behind the
committed text.

The transcript ends where :mod:`models.answers` reads its translation's label, whatever markup that
has; behind a newline the label we would write is guessed, so looking whether the model writes it
takes no pass of its own. Then our own separator asks for the translation.

Unusual: what was heard is translated from its transcript, so where there is no transcript there is
no translation either, whatever the model would say. On request the audio is filled up to 30 s as
the reference processor does it; the filling is computed anew for every update, as it stands behind
audio that grows. A segment may be drafted at one size of the model and decoded at another when it
closes: its audio is then heard once more. So it is where an answer is in the wrong language: once a
segment, before anything of it is committed, it is asked for again in the longer wording.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import torch
from torch import Tensor

from dragoman.decoder import KVCache, LanguageModel, Slice
from dragoman.decoder.batching import Decoding, alone, together
from dragoman.decoder.packed import Request
from dragoman.decoder.speculation import Lookahead
from dragoman.encoders import MultimodalEmbedder
from dragoman.models import prompt as prompts
from dragoman.models import sizes
from dragoman.models.answers import Flag, Part
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.prompt import AUDIO_TOKENS, Prompt
from dragoman.models.tokenizer import Tokenizer
from dragoman.models.words import words
from dragoman.stages.confidence import word_confidences
from dragoman.stages.messages import (
    SAMPLE_RATE_HZ,
    Caption,
    Frame,
    Picture,
    SessionOptions,
    SoftTokens,
    Text,
)
from dragoman.stages.policies.commit import CommitPolicy, policy, without_loop
from dragoman.stages.policies.elastic import Pressure, Sizes
from dragoman.stages.spoken import Reader

log = logging.getLogger(__name__)

TOKENS_PER_SECOND = 12  # more than anyone speaks: what exceeds it is invented
TOKENS_AT_LEAST = 12
# Soft tokens that wait for the next update's pass, where they cost less than a pass of their own
# whatever the model and the machine; so many are a pass, where no update comes for long.
MOST_WAITING = 8
LARGE_VOCABULARY = 2**17  # the logits of a position are half a megabyte
INSTRUCTIONS = 16  # kept in memory: one for each pair of languages, and each size that runs


@dataclass
class Hypothesis:
    """The current best tokens of one text, of which the first ``committed`` are promised;
    ``shown`` is what people were promised of their text. ``chances`` says how probable each token
    was when the model was last asked.
    """

    ids: list[int] = field(default_factory=list[int])
    committed: int = 0
    shown: str = ""
    chances: list[float] = field(default_factory=list[float])

    def updated(
        self, ids: list[int], chances: Sequence[float | None], policy: CommitPolicy, final: bool
    ) -> "Hypothesis":
        """The hypothesis after a new decoding; a final one is committed whole. What has no new
        chance was given, and keeps the one that it had.
        """
        known = [
            self.chances[place] if chance is None else chance
            for place, chance in enumerate(chances)
        ]
        committed = len(ids) if final else policy(self.ids, ids, self.committed)
        return Hypothesis(ids, committed, self.shown, known)


@dataclass
class Again:
    """What a segment needs to be heard once more: its pictures and its audio, and the size at which
    it is decoded when it closes; None: the one that it has.
    """

    size: Slice | None
    pictures: tuple[Picture, ...]
    audio: list[Tensor] = field(default_factory=list[Tensor])


@dataclass
class TranslateState:
    """One session's open segment: its cache, the soft tokens that are not in it yet, how much was
    heard, its hypotheses, and the pictures that its captions name; and the sizes that the session
    chooses from. ``guarded`` counts the segments whose answers were none, or were tried again, by
    what they were. ``style`` words the instruction of this segment.
    """

    options: SessionOptions
    prompt: Prompt
    reader: Reader
    sizes: Sizes
    guarded: Counter[Flag] = field(default_factory=Counter[Flag])
    pressure: Pressure = field(default_factory=Pressure)
    cache: KVCache | None = None
    style: str = prompts.SHORT
    again: Again | None = None
    fresh: list[Tensor] = field(default_factory=list[Tensor])  # [K, D], together < MOST_WAITING
    heard: int = 0  # positions of prompt and audio
    audio: int = 0  # soft tokens among what was heard
    shown: bool = False
    frames: tuple[Frame, ...] = ()
    transcript: Hypothesis = field(default_factory=Hypothesis)
    translation: Hypothesis = field(default_factory=Hypothesis)


class TranslateStage:
    """BatchStage[SoftTokens, Caption, TranslateState]: partial captions while a segment lasts, then
    one final; a segment without words gives none.
    """

    def __init__(
        self,
        model: LanguageModel,
        embedder: MultimodalEmbedder,
        tokenizer: Tokenizer,
        temperature: float = 1.0,
    ) -> None:
        """``temperature``: what logits are divided by for the confidences of words."""
        self.model, self.embedder, self.tokenizer = model, embedder, tokenizer
        self.temperature = temperature
        # Whether the logits of an update are so large that memory is worth giving back after it.
        self.leaves_holes = model.config.vocab_size >= LARGE_VOCABULARY
        self._soft_token = tokenizer.special("<audio_soft_token>")
        ids = torch.arange(model.config.vocab_size)
        never = ids >= model.config.vocab_size_per_layer_input  # image and audio rows
        self._never = never.to(model.device)
        self._prompt = lru_cache(INSTRUCTIONS)(self._read_prompt)
        self._instruction = lru_cache(INSTRUCTIONS)(self._prefilled)

    @classmethod
    def load(cls, model: str, device: str = "cpu", dtype: str = "auto") -> "TranslateStage":
        """Loads the language model, as weights of ``dtype``, and the rows of its special tokens;
        raises CheckpointError.
        """
        checkpoint = Checkpoint.open(model)
        tokenizer = checkpoint.tokenizer  # first: a wrong one is known before weights are read
        weights = checkpoint.dtype(dtype)
        return cls(
            checkpoint.language_model(weights, device, checkpoint.scheme(dtype)),
            checkpoint.embedder("audio", weights, device),
            tokenizer,
            checkpoint.confidence_temperature,
        )

    def init_state(self, options: SessionOptions) -> TranslateState:
        """The prompt is read now, ahead of the speech. Raises LanguageError for an unknown
        language, SizeError for an unknown size.
        """
        languages = options.language, options.target_language
        prompt = self._prompt(*languages, options.prompt_style)
        sizes = Sizes.of(options, self.model.config)
        self._commit(options)  # an unknown one shall be known now
        self._instruction(prompt.before, sizes.draft or sizes.steps[0])
        reader = Reader(self.tokenizer, *languages)
        return TranslateState(options, prompt, reader, sizes, style=options.prompt_style)

    @torch.inference_mode()
    def step(self, item: SoftTokens, state: TranslateState) -> tuple[list[Caption], TranslateState]:
        """Raises ValueError for tokens of a segment that was never opened."""
        return alone(self.model, self._stepped(item, state))

    @torch.inference_mode()
    def step_batch(
        self, items: Sequence[SoftTokens], states: Sequence[TranslateState]
    ) -> list[tuple[list[Caption], TranslateState] | Exception]:
        """As `step`, for many streams, which share the passes of the model."""
        return together(self.model, list(map(self._stepped, items, states)))

    def _stepped(
        self, item: SoftTokens, state: TranslateState
    ) -> Decoding[tuple[list[Caption], TranslateState]]:
        if item.opens:
            state = yield from self._opened(item, state)
        if state.cache is None:
            raise ValueError(f"segment {item.segment} is not open: feed its tokens from the first")
        state.pressure.note(item.late)
        assert state.again is not None
        if item.closes and state.again.size is not None:
            yield from self._hear_again(state, state.again, state.again.size)
        state.again.audio.append(item.tokens)
        count = len(item.tokens)
        state.fresh = [*state.fresh, item.tokens]
        state.heard, state.audio = state.heard + count, state.audio + count
        if not item.update:
            yield from self._hear(state)
            return [], state
        yield from self._update(item, state)
        return self._captions(item, state), state

    def flush(self, state: TranslateState) -> list[Caption]:
        """Nothing is held back: the segmenter closes what is open."""
        return []

    def _opened(self, item: SoftTokens, state: TranslateState) -> Decoding[TranslateState]:
        size, pictures = state.pressure.next_segment(state.sizes), item.pictures
        drafts = None if item.closes else state.sizes.draft
        state.style = state.options.prompt_style
        cache = yield from self._begun(drafts or size, pictures, state)
        return TranslateState(
            state.options,
            state.prompt,
            state.reader,
            state.sizes,
            state.guarded,
            state.pressure,
            cache,
            state.style,
            Again(size if drafts not in (None, size) else None, pictures),
            heard=cache.length,
            frames=tuple(picture.frame for picture in pictures),
        )

    def _hear_again(self, state: TranslateState, again: Again, size: Slice) -> Decoding[None]:
        """Begins anew at ``size``, in the state's style; all audio so far is fresh again."""
        state.cache = yield from self._begun(size, again.pictures, state)
        state.fresh = [*again.audio]
        state.heard = state.cache.length + state.audio

    def _begun(
        self, size: Slice, pictures: Sequence[Picture], state: TranslateState
    ) -> Decoding[KVCache]:
        """A cache of ``size`` that holds what stands before the audio."""
        soft = [picture.tokens for picture in pictures if picture.tokens is not None]
        ends = [picture.end for picture in pictures if picture.end is not None]
        languages = state.options.language, state.options.target_language
        prompt = self._prompt(*languages, state.style, len(soft))
        if not soft:
            return self._instruction(prompt.before, size).copy()
        ids = self._row(prompt.before)
        embeddings = self.model.embed(ids)
        for token, rows in (("<image_soft_token>", soft), ("<end_of_image>", ends)):
            places = ids == self.tokenizer.special(token)
            embeddings[places] = self._placed(rows, int(places.sum()))
        cache = self.model.new_cache(size=size)
        yield Request(cache, ids, embeddings, 0)
        return cache

    def _commit(self, options: SessionOptions) -> CommitPolicy:
        """The policy of a session; raises UsageError for one that is not known."""
        return policy(options.commit_policy, self.tokenizer.begins_word)

    def _read_prompt(
        self, language: str, target_language: str, style: str, images: int = 0
    ) -> Prompt:
        """The prompt. Only decoding comes after it, unless there are pictures: of these there may
        be more or fewer the next time.
        """
        prompt = prompts.build(self.tokenizer, language, target_language, images, style)
        if not images:
            self.tokenizer.rest()
        return prompt

    @torch.inference_mode()
    def _prefilled(self, before: tuple[int, ...], size: Slice) -> KVCache:
        """A cache of ``size`` that holds the prompt ``before``, to be copied."""
        ids, cache = self._row(before), self.model.new_cache(1, len(before), size)
        self.model.extend(self.model.embed(ids), ids, cache)
        return cache

    def _placed(self, rows: list[Tensor], wanted: int) -> Tensor:
        """``rows`` joined, where the model is; raises ValueError unless they are ``wanted``."""
        joined = torch.cat(rows)
        if len(joined) != wanted:
            raise ValueError(
                f"pictures came with {len(joined)} soft tokens, expected {wanted}: "
                "the vision tower is of another model"
            )
        return joined.to(device=self.model.device, dtype=self.model.dtype)

    def _hear(self, state: TranslateState) -> Decoding[None]:
        """Puts audio into the cache that has waited for an update in vain."""
        assert state.cache is not None
        tokens = torch.cat(state.fresh)
        if len(tokens) >= MOST_WAITING:
            embeddings, ids = self._audio(tokens)
            yield Request(state.cache, ids, embeddings, 0)
            state.fresh = []

    def _update(self, item: SoftTokens, state: TranslateState) -> Decoding[None]:
        """Decodes both texts anew behind what is committed, and commits what agrees."""
        texts = yield from self._answered(item, state)
        if (yield from self._asked_again(texts, item, state)):
            texts = yield from self._answered(item, state)
        state.transcript, state.translation = texts

    def _asked_again(
        self, texts: tuple[Hypothesis, Hypothesis], item: SoftTokens, state: TranslateState
    ) -> Decoding[bool]:
        """Whether an answer in the wrong language is to be given once more, in the longer wording:
        once a segment, and not if it was promised already.
        """
        promised = state.transcript.committed or state.translation.committed
        if promised or state.style == prompts.LONG:
            return False
        if not state.reader.in_wrong_language(*(text.ids for text in texts)):
            return False
        state.guarded[Flag.WRONG_LANGUAGE] += 1
        log.warning(
            "segment %d: the answer was in the wrong language, so it was asked for in the longer "
            "wording",
            item.segment,
        )
        assert state.cache is not None and state.again is not None
        state.style = prompts.LONG
        yield from self._hear_again(state, state.again, state.cache.size)
        return True

    def _answered(
        self, item: SoftTokens, state: TranslateState
    ) -> Decoding[tuple[Hypothesis, Hypothesis]]:
        """The new hypotheses. What was fresh of the audio is in the cache then."""
        prompt, last, fresh = state.prompt, state.translation, torch.cat(state.fresh)
        ahead = self._asked(fresh, state)
        most, commit = _most_tokens(item, state.options), self._commit(state.options)
        said = yield from self._transcript(ahead, most, item, state)
        known = ahead.chances(0, said)
        transcript = state.transcript.updated(said, known, commit, item.closes)
        if state.reader.has_words(said):
            behind = [*said, *prompt.separator]
            text = partial(
                ahead.text,
                before=behind,
                max_tokens=most,
                stop_ids=prompt.stop,
                halt=state.reader.translation_ended,
                judge=item.closes,
            )
            meant = yield from _decoded(text, last)
            known = ahead.chances(len(behind), meant)
        else:
            meant = last.ids[: last.committed]
            known = [None] * len(meant)
        translation = last.updated(meant, known, commit, item.closes)
        yield from ahead.keep(len(fresh))
        state.fresh = []
        return transcript, translation

    def _transcript(
        self, ahead: Lookahead, most: int, item: SoftTokens, state: TranslateState
    ) -> Decoding[list[int]]:
        """The ids of the new transcript; what is committed stays.

        A newline belongs to it unless the label of the translation follows, which is guessed with
        the old translation behind it: of an answer in the form that was asked for the pass that
        reads the label is the one that begins the translation.
        """
        prompt, reader, last = state.prompt, state.reader, state.transcript
        behind, found = [*prompt.separator, *state.translation.ids], last.ids[: last.committed]
        guess = last.ids[last.committed :]
        judge = (
            item.closes
        )  # a final caption is judged by all of its sound, committed words as well
        # After the silence that closes a segment both texts stay as a rule: one pass checks both.
        # And where nothing was said as yet, mostly nothing is said.
        if (item.closes and state.translation.ids) or not last.ids:
            guess = [*guess, *behind]
        while True:
            found = yield from ahead.text(
                before=[],
                forced=found,
                guess=guess,
                max_tokens=most,
                stop_ids=(*prompt.newlines, *prompt.stop),
                halt=reader.transcript_ended,
                judge=judge,
            )
            if len(found) >= most or reader.transcript_ended(found):
                break
            chosen = yield from ahead.after(found)  # known: it is what the text stopped at
            if chosen in prompt.stop:
                break
            found, guess, judge = [*found, chosen], behind[1:], False
        self._note(found, item, state)
        ids = reader.transcript(found)
        return ids + found[len(ids) : last.committed]

    def _note(self, answer: list[int], item: SoftTokens, state: TranslateState) -> None:
        """Counts a final answer that is something else than was asked for."""
        flags = state.reader.flags(answer) if item.closes else frozenset[Flag]()
        state.guarded.update(flags)
        for flag in sorted(flags):
            log.warning("segment %d: the model gave a %s, which is not shown", item.segment, flag)

    def _asked(self, fresh: Tensor, state: TranslateState) -> Lookahead:
        """What the model says to the audio in the cache and ``fresh``, float [K, D], behind it."""
        assert state.cache is not None
        audio, suffix = self._audio(fresh), self._suffix(state)
        embeddings, ids = (torch.cat(parts, dim=1) for parts in zip(audio, suffix, strict=True))
        return Lookahead(self.model, state.cache, embeddings, ids, self._never, self.temperature)

    def _audio(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Soft tokens [K, D] as they enter the cache: embeddings [1, K, D], ids [1, K]."""
        embeddings = tokens[None].to(device=self.model.device, dtype=self.model.dtype)
        return embeddings, self._row([self._soft_token] * len(tokens))

    def _suffix(self, state: TranslateState) -> tuple[Tensor, Tensor]:
        """What stands between the audio and the answer: embeddings [1, L, D], ids [1, L]."""
        missing = max(0, AUDIO_TOKENS - state.audio) if state.options.pad_audio else 0
        end, *text = state.prompt.after
        filling = self.embedder.vocab_offset + self.embedder.vocab_size - 1
        hard = self.embedder.hard(self._row([filling] * missing + [end]))
        embeddings = torch.cat((hard.to(self.model.dtype), self.model.embed(self._row(text))), 1)
        return embeddings, self._row([self._soft_token] * missing + [end, *text])

    def _text(self, said: Hypothesis, part: Part, state: TranslateState) -> Text:
        text = state.reader.text(said.ids, said.committed, said.shown, part)
        said.shown = text.committed
        pieces = [self.tokenizer.piece(token) for token in said.ids]
        confidences = word_confidences(words(text.whole), pieces, said.chances)
        return replace(text, confidences=confidences)

    def _size(self, state: TranslateState) -> str:
        """What runs, as `dragoman models` calls it."""
        assert state.cache is not None
        return sizes.name(state.cache.size, self.model.config)

    def _row(self, ids: Sequence[int]) -> Tensor:
        """Ids [1, L] where the model is."""
        return torch.tensor([ids], dtype=torch.long, device=self.model.device)

    def _captions(self, item: SoftTokens, state: TranslateState) -> list[Caption]:
        state.shown = state.shown or state.reader.has_words(state.transcript.ids)
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
                transcript=self._text(state.transcript, Part.TRANSCRIPT, state),
                translation=self._text(state.translation, Part.TRANSLATION, state),
                frames=state.frames,
                size=self._size(state),
            )
        ]


def _decoded(text: Callable[..., Decoding[list[int]]], last: Hypothesis) -> Decoding[list[int]]:
    """The new hypothesis, which ``text`` (`Lookahead.text`) finds; what is committed stays."""
    promised, draft = last.ids[: last.committed], last.ids[last.committed :]
    found = yield from text(forced=promised, guess=draft)
    ids = without_loop(found)
    return ids + found[len(ids) : last.committed]


def _most_tokens(item: SoftTokens, options: SessionOptions) -> int:
    """How long either text of what was heard up to ``item`` may be."""
    seconds = (item.end - item.start) / SAMPLE_RATE_HZ
    return min(options.max_answer_tokens, TOKENS_AT_LEAST + round(TOKENS_PER_SECOND * seconds))
