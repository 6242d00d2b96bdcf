"""A model that listens to whole utterances, many at once: the fast path of the evaluation.

The stages of the live pipeline do the work, without its segmenter: an utterance goes in as one
segment that opens and closes at once, so its answer is that of a final caption decoded greedily
from the start. Utterances share the decoder's passes as sessions do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dragoman.models.checkpoint import Checkpoint
from dragoman.models.prompt import Pairs, pairs_of
from dragoman.stages.encode import EncodeStage
from dragoman.stages.messages import Caption, SessionOptions, Speech, Text
from dragoman.stages.translate import TranslateStage
from evaluation.sets import Clip, in_quiet
from evaluation.store import Row

TOGETHER = 16  # utterances
SILENT = Text()


@dataclass(frozen=True)
class Listener:
    """A loaded model. ``pairs`` are the directions that it says it is made for; none: any."""

    encode: EncodeStage
    translate: TranslateStage
    pairs: Pairs

    @classmethod
    def load(cls, model: str, device: str = "cpu") -> "Listener":
        """Raises CheckpointError."""
        pairs = pairs_of(Checkpoint.open(model).config)
        return cls(EncodeStage.load(model, device), TranslateStage.load(model, device), pairs)

    def answers(
        self, clips: Sequence[Clip], language: str, target_language: str, size: str = ""
    ) -> Iterator[Row]:
        """A row for each clip, in their order. Raises what a stage raises."""
        options = SessionOptions(language=language, target_language=target_language, size=size)
        by_length = sorted(range(len(clips)), key=lambda index: len(clips[index].samples))
        rows: dict[int, Row] = {}
        for first in range(0, len(clips), TOGETHER):
            indices = by_length[first : first + TOGETHER]
            captions = self._captions([clips[index] for index in indices], options)
            for index, caption in zip(indices, captions, strict=True):
                rows[index] = _row(clips[index], caption, target_language)
        yield from (rows[index] for index in range(len(clips)))

    def _captions(self, clips: Sequence[Clip], options: SessionOptions) -> list[Caption | None]:
        """The final caption of each clip; None where the model heard no words."""
        speech = [Speech(0, 0, in_quiet(clip.samples), opens=True, closes=True) for clip in clips]
        heard = self.encode.step_batch(speech, [self.encode.init_state(options) for _ in clips])
        tokens = [message for result in heard for message in _first(result)]
        states = [self.translate.init_state(options) for _ in clips]
        said = [_first(result) for result in self.translate.step_batch(tokens, states)]
        return [captions[0] if captions else None for captions in said]


def _first(result: tuple[list, object] | Exception) -> list:
    """What a stage gave for one of many; raises its error."""
    if isinstance(result, Exception):
        raise result
    return result[0]


def _row(clip: Clip, caption: Caption | None, target_language: str) -> Row:
    transcript = SILENT if caption is None else caption.transcript
    translation = SILENT if caption is None else caption.translation
    return {
        "clip": clip.name,
        "voice": clip.voice,
        "seconds": round(clip.seconds, 3),
        "said": clip.text,
        "meant": clip.texts.get(target_language),
        "transcript": transcript.whole,
        "transcript_confidences": list(transcript.confidences),
        "translation": translation.whole,
        "translation_confidences": list(translation.confidences),
    }
