"""What a run tells of itself on the way: errors on development speech, by language and synthesizer.

Cheap on purpose, a few seconds each time: a fixed handful of utterances of each kind.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dragoman.models import prompt as prompts
from dragoman.models.tokenizer import Tokenizer
from training.batch import Batcher
from training.evaluate import answer, score, spell, word_error_rate
from training.model import Nano
from training.nano import LANGUAGES
from training.speech_parts import Example, Speech
from training.stream import plain

SPELT, ANSWERED = 12, 3  # of each language and synthesizer
LONGEST = 56  # tokens of an answer


class Evaluator:
    """Development speech, looked for anew each time, as synthesizers join while a run goes on."""

    def __init__(self, speech: Path, tokenizer: Tokenizer, batcher: Batcher) -> None:
        self._speech, self._tokenizer, self._batcher = speech, tokenizer, batcher

    def __call__(self, model: Nano, listens: bool) -> Iterator[dict[str, Any]]:
        """A line for each synthesizer: ``spelling`` is the word error rate of the letters' head by
        language; where the decoder ``listens``, ``wer`` and ``chrf`` are those of its answers.
        """
        speech = Speech(self._speech, "dev")
        for synthesizer, by_language in _kinds(speech).items():
            line: dict[str, Any] = {"synthesizer": synthesizer, "spelling": {}}
            for language, examples in by_language.items():
                spelt = spell(model, [plain(one, "en") for one in examples])
                truth = [one.text for one in examples]
                wrong = word_error_rate(list(zip(truth, spelt, strict=True)))
                line["spelling"][language] = round(wrong, 3)
                line["spelt"] = spelt[0]
                if listens:
                    line |= self._answers(model, examples[:ANSWERED], line)
            yield line

    def _answers(
        self, model: Nano, examples: list[Example], line: dict[str, Any]
    ) -> dict[str, Any]:
        heard, said, language = [], [], examples[0].language
        for number, one in enumerate(examples):
            target = "en" if language != "en" else LANGUAGES[1 + number % (len(LANGUAGES) - 1)]
            prompt = self._batcher.prompt(language, target)
            text = self._tokenizer.decode(answer(model, plain(one, target), prompt, LONGEST))
            transcript, _, translation = text.partition("\n" + prompts.label(target))
            heard.append((one.text, transcript))
            said.append((one.translation(target), translation.strip()))
        got = score(heard, said)
        return {
            "wer": line.get("wer", {}) | {language: round(got.wer, 3)},
            "chrf": line.get("chrf", {}) | {language: round(got.chrf, 1)},
            "answer": text,
        }


def _kinds(speech: Speech) -> dict[str, dict[str, list[Example]]]:
    """The first few utterances of each synthesizer and language."""
    kinds: dict[str, dict[str, list[Example]]] = {}
    for index, record in enumerate(speech.records):
        found = kinds.setdefault(record.synthesizer, {}).setdefault(record.language, [])
        if len(found) < SPELT:
            found.append(speech[index])
    return kinds
