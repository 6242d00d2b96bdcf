"""Soft tokens to captions: incremental prefill, then the transcript, then its translation.

The instruction, the segment's pictures and the audio enter the cache once. For an update the audio
that came since the last, the short suffix and the previous transcript go through one pass, what is
committed of it forced; decoding goes on from the first mismatch; the previous translation likewise;
and the cache is cut back to the audio. The result equals greedy decoding from scratch behind the
committed text.

Unusual: what was heard is translated from its transcript, so where there is no transcript there is
no translation either, whatever the model would say. On request the audio is filled up to 30 s as
the reference processor does it; the filling is computed anew for every update, as it stands behind
audio that grows. A segment may be drafted at one size of the model and decoded at another when it
closes: its audio is then heard once more. So it is where an answer is in the wrong language: once a
segment, before anything of it is committed, it is asked for again in the longer wording.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from dragoman.decoder import KVCache, LanguageModel, Slice
from dragoman.decoder.alignment import Heads
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
from dragoman.stages.context import Context
from dragoman.stages.hypothesis import Answering, Hypothesis
from dragoman.stages.looks import Looks
from dragoman.stages.messages import (
    SAMPLE_RATE_HZ,
    Caption,
    Picture,
    SessionOptions,
    SoftTokens,
    Text,
    VideoFrame,
)
from dragoman.stages.policies.commit import CommitPolicy, Seen, policy, watches, without_loop
from dragoman.stages.policies.elastic import Pressure, Sizes
from dragoman.stages.spans import spans
from dragoman.stages.spoken import Reader

log = logging.getLogger(__name__)

TOKENS_PER_SECOND = 12  # more than anyone speaks: what exceeds it is invented
TOKENS_AT_LEAST = 12
# Soft tokens that wait for the next update's pass, where they cost less than a pass of their own
# whatever the model and the machine; so many are a pass, where no update comes for long.
MOST_WAITING = 8
LARGE_VOCABULARY = 2**17  # the logits of a position are half a megabyte


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
    chooses from. ``guards`` says what was wrong with answers about the segment. ``style`` words the
    instruction of this segment.
    """

    options: SessionOptions
    prompt: Prompt
    reader: Reader
    sizes: Sizes
    commit: CommitPolicy
    watches: bool = False  # the policy wants to know where the model looks
    pressure: Pressure = field(default_factory=Pressure)
    cache: KVCache | None = None
    style: str = prompts.SHORT
    guards: set[Flag] = field(default_factory=set[Flag])
    again: Again | None = None
    fresh: list[Tensor] = field(default_factory=list[Tensor])  # [K, D], together < MOST_WAITING
    heard: int = 0  # positions of prompt and audio
    audio: int = 0  # soft tokens among what was heard
    shown: bool = False
    size: str = ""  # of what runs, as `dragoman models` calls it
    frames: tuple[VideoFrame, ...] = ()
    transcript: Hypothesis = field(default_factory=Hypothesis)
    translation: Hypothesis = field(default_factory=Hypothesis)


class TranslateStage:
    """BatchStage[SoftTokens, Caption, TranslateState]: partial captions while a segment lasts, then
    one final; a segment without words gives none, unless its answer was guarded.
    """

    def __init__(
        self,
        model: LanguageModel,
        embedder: MultimodalEmbedder,
        tokenizer: Tokenizer,
        temperature: float = 1.0,
        heads: Heads = (),
        delay_ms: int = 0,
    ) -> None:
        """``temperature``: what logits are divided by for the confidences of words; ``heads`` look
        where what they write is said, so much later; none: nobody knows which do.
        """
        self.model, self.embedder, self.tokenizer = model, embedder, tokenizer
        self.context = Context(model, embedder, tokenizer)
        self.looks = Looks(self.context, heads)
        self._delay = delay_ms * SAMPLE_RATE_HZ // 1000
        self.temperature = temperature
        # Whether the logits of an update are so large that memory is worth giving back after it.
        self.leaves_holes = model.config.vocab_size >= LARGE_VOCABULARY
        ids = torch.arange(model.config.vocab_size)
        never = ids >= model.config.vocab_size_per_layer_input  # image and audio rows
        self._never = never.to(model.device)

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
            checkpoint.alignment_heads,
            checkpoint.alignment_delay_ms,
        )

    def init_state(self, options: SessionOptions) -> TranslateState:
        """The prompt is read now, ahead of the speech. Raises LanguageError for an unknown
        language, SizeError for an unknown size, UsageError for an unknown commit policy.
        """
        languages = options.language, options.target_language
        prompt = self.context.prompt(*languages, options.prompt_style, 0)
        sizes = Sizes.of(options, self.model.config)
        commit = policy(options.commit_policy, self.tokenizer.begins_word)
        self.context.instruction(prompt.before, sizes.draft or sizes.steps[0])
        reader = Reader(self.tokenizer, *languages)
        asks, style = watches(commit), options.prompt_style
        return TranslateState(options, prompt, reader, sizes, commit, asks, style=style)

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
        cache = yield from self.context.begun(drafts or size, pictures, state.options, state.style)
        return TranslateState(
            state.options,
            state.prompt,
            state.reader,
            state.sizes,
            state.commit,
            state.watches,
            state.pressure,
            cache,
            state.style,
            again=Again(size if drafts not in (None, size) else None, pictures),
            heard=cache.length,
            size=sizes.name(drafts or size, self.model.config),
            frames=tuple(picture.frame for picture in pictures),
        )

    def _hear_again(self, state: TranslateState, again: Again, size: Slice) -> Decoding[None]:
        """Begins anew at ``size``, in the state's style; all audio so far is fresh again."""
        pictures, options = again.pictures, state.options
        state.cache = yield from self.context.begun(size, pictures, options, state.style)
        state.size = sizes.name(size, self.model.config)
        state.fresh = [*again.audio]
        state.heard = state.cache.length + state.audio

    def _hear(self, state: TranslateState) -> Decoding[None]:
        """Puts audio into the cache that has waited for an update in vain."""
        assert state.cache is not None
        tokens = torch.cat(state.fresh)
        if len(tokens) >= MOST_WAITING:
            embeddings, ids = self.context.audio(tokens)
            yield Request(state.cache, ids, embeddings, 0)
            state.fresh = []

    def _update(self, item: SoftTokens, state: TranslateState) -> Decoding[None]:
        """Decodes both texts anew behind what is committed, and commits what agrees."""
        texts, answers = yield from self._answered(item, state)
        if (yield from self._asked_again(texts, item, state)):
            texts, answers = yield from self._answered(item, state)
        if item.closes:
            self._note(answers, item, state)
        state.transcript, state.translation = texts
        times = item.closes and self.looks.heads and not state.options.finals_only
        if state.watches or times:
            yield from self._look(state)
        for text in texts:
            seen = Seen(text.ids, text.committed, text.ages, state.audio, text.looks)
            text.committed = len(text.ids) if item.closes else state.commit(seen)

    def _look(self, state: TranslateState) -> Decoding[None]:
        """Notes which soft token each id of the two texts looks at."""
        assert state.cache is not None
        missing = max(0, AUDIO_TOKENS - state.audio) if state.options.pad_audio else 0
        texts = state.transcript, state.translation
        ids = [text.ids for text in texts]
        found = yield from self.looks.at(state.cache, state.audio, state.prompt, missing, ids)
        for text, looks in zip(texts, found, strict=True):
            text.looks = looks

    def _asked_again(
        self, texts: Sequence[Hypothesis], item: SoftTokens, state: TranslateState
    ) -> Decoding[bool]:
        """Whether an answer in the wrong language is to be given once more, in the longer wording:
        once a segment, and not if it was promised already.
        """
        promised = state.transcript.committed or state.translation.committed
        if promised or state.style == prompts.LONG:
            return False
        if not state.reader.in_wrong_language(*(text.ids for text in texts)):
            return False
        state.guards.add(Flag.WRONG_LANGUAGE)
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
    ) -> Decoding[tuple[tuple[Hypothesis, Hypothesis], tuple[list[int], list[int]]]]:
        """The new hypotheses, and the ids from which they were read. What was fresh of the audio is
        in the cache then.
        """
        assert state.cache is not None
        prompt, last, fresh = state.prompt, state.translation, torch.cat(state.fresh)
        missing = max(0, AUDIO_TOKENS - state.audio) if state.options.pad_audio else 0
        question = self.context.question(fresh, prompt, missing)
        ahead = Lookahead(self.model, state.cache, *question, self._never, self.temperature)
        seconds = (item.end - item.start) / SAMPLE_RATE_HZ
        most = TOKENS_AT_LEAST + round(TOKENS_PER_SECOND * seconds)
        most = min(state.options.max_answer_tokens, most)
        answer = Answering(ahead, prompt, state.reader, most, item.closes)
        heard = yield from answer.transcript(state.transcript, last)
        transcript = state.transcript.updated(
            state.reader.transcript(heard),
            heard,
            partial(ahead.chances, 0),
        )
        text, found, chances = [], last.ids[: last.committed], _unknown
        if state.reader.has_words(transcript.ids):
            found = yield from answer.translation(last, transcript.ids)
            text = without_loop(found)
            chances = partial(ahead.chances, len(transcript.ids) + len(prompt.separator))
        translation = last.updated(text, found, chances)
        yield from ahead.keep(len(fresh))
        state.fresh = []
        return (transcript, translation), (heard, found)

    def _note(
        self, answers: tuple[list[int], list[int]], item: SoftTokens, state: TranslateState
    ) -> None:
        """Notes what final answers are that was not asked for."""
        flags = state.reader.flags(*answers)
        state.guards |= flags
        for flag in sorted(flags):
            log.warning("segment %d: the model gave a %s, which is not shown", item.segment, flag)

    def _text(self, said: Hypothesis, part: Part, item: SoftTokens, state: TranslateState) -> Text:
        text = state.reader.text(said.ids, said.committed, said.shown, part)
        said.shown = text.committed
        pieces = [self.tokenizer.piece(token) for token in said.ids]
        shown, times = words(text.whole), ()
        confidences = word_confidences(shown, pieces, said.chances)
        if item.closes and self.looks.heads and said.looks:
            heard, in_order = (item.start, item.end), part is Part.TRANSCRIPT
            times = spans(shown, pieces, said.looks, heard, self._delay, in_order)
        return replace(text, confidences=confidences, spans=times)

    def _captions(self, item: SoftTokens, state: TranslateState) -> list[Caption]:
        state.shown = state.shown or state.reader.has_words(state.transcript.ids)
        if not (state.shown or (item.closes and state.guards)):
            return []
        return [
            Caption(
                kind="final" if item.closes else "partial",
                segment=item.segment,
                start=item.start,
                end=item.end,
                language=state.options.language,
                target_language=state.options.target_language,
                transcript=self._text(state.transcript, Part.TRANSCRIPT, item, state),
                translation=self._text(state.translation, Part.TRANSLATION, item, state),
                frames=state.frames,
                size=state.size,
                guards=tuple(sorted(state.guards)),
            )
        ]


def _unknown(ids: list[int]) -> list[None]:
    """The chances of what was not decoded anew."""
    return [None] * len(ids)
