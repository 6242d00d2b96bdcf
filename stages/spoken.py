"""The ids of an answer as the texts that captions show, as :mod:`models.answers` reads them.

Used by the translate stage, which decodes ids: where a transcript ends, whether decoding has to go
on, and what people see of the ids that are committed and of the rest. Unusual: ids are committed
before it is sure whether they begin a label ("The" train, or "The" translation:). What people see
as committed is what the committed ids say alone and with the rest as well; and it stays, whatever
the rest becomes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

from dragoman.models.answers import Answer, Flag, Part, read
from dragoman.models.tokenizer import Tokenizer
from dragoman.models.words import one_line
from dragoman.models.written import is_other
from dragoman.stages.messages import Text
from dragoman.stages.policies.commit import without_loop

GUARDED = {Flag.REFUSAL, Flag.THOUGHT, Flag.CHATTER}


@dataclass(frozen=True)
class Reader:
    """Reads ids of answers in a pair of languages (codes)."""

    tokenizer: Tokenizer
    language: str
    target_language: str

    def ended(self, part: Part, ids: Sequence[int]) -> bool:
        """Whether nothing behind ``ids`` belongs to the text that begins with them: the label of
        another came, or it is no such text, or it repeats itself.
        """
        if len(without_loop(list(ids))) < len(ids):
            return True
        # Saves reading the whole answer after most tokens: a word of a sentence that goes on is no
        # end of a label, nor of a refusal.
        if len(ids) % 8 and self.tokenizer.decode(list(ids[-1:])).strip().isalpha():
            return False
        answer = self._read(ids, part, done=False)
        return answer.ended if part is Part.TRANSCRIPT else answer.over or bool(answer.transcript)

    def transcript(self, ids: Sequence[int]) -> list[int]:
        """The ids of the transcript in an answer that begins with them; none of a refusal."""
        ids = without_loop(list(ids))
        answer = self._read(ids, Part.TRANSCRIPT)
        if not answer.transcript and answer.flags & GUARDED:
            return []
        while ids and len(self.tokenizer.decode(ids)) > answer.end:
            ids = ids[:-1]
        return ids

    def flags(self, answer: Sequence[int], translation: Sequence[int]) -> frozenset[Flag]:
        """What an answer, up to the end of its transcript, and a translation have besides texts."""
        found = self._read(answer, Part.TRANSCRIPT).flags & GUARDED
        loops = any(len(without_loop(list(ids))) < len(ids) for ids in (answer, translation))
        return found | {Flag.REPETITION} if loops else found

    def in_wrong_language(self, transcript: Sequence[int], translation: Sequence[int]) -> bool:
        """Whether one of two texts is plainly in the language of the other one, or the transcript
        in English, which models fall back to; or a later line of the transcript is in the other
        language, as a translation without its label would be.
        """
        source, target = self.language, self.target_language
        later = self.tokenizer.decode(list(transcript)).splitlines()[1:]
        if any(is_other(line, source, (target,)) for line in later):
            return True
        heard, meant = (
            self._read(transcript, Part.TRANSCRIPT).transcript,
            self._read(translation, Part.TRANSLATION).translation,
        )
        return is_other(heard, source, (target, "en")) or is_other(meant, target, (source,))

    def text(self, ids: Sequence[int], committed: int, shown: str, part: Part) -> Text:
        """What people see of one text, of whose ``ids`` the first so many are committed; ``shown``
        was committed before.
        """
        whole = self._read(ids, part).text(part)
        alone = whole if committed == len(ids) else self._read(ids[:committed], part).text(part)
        sure = commonprefix((alone, whole))
        if not sure.startswith(shown):
            sure = shown
        if not whole.startswith(sure):
            whole = one_line((sure, whole))
        return Text(whole) if committed == len(ids) else Text(sure, whole[len(sure) :])

    def has_words(self, ids: Sequence[int]) -> bool:
        """Whether anything that sounds is in a transcript."""
        return any(map(str.isalnum, self._read(ids, Part.TRANSCRIPT).transcript))

    def _read(self, ids: Sequence[int], part: Part, done: bool = True) -> Answer:
        text = self.tokenizer.decode(list(ids))
        return read(text, self.language, self.target_language, done, part)
