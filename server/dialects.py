"""The messages of a live session, as OpenAI's and vLLM's clients send and expect them.

Between :mod:`server.realtime`, which moves them, and :mod:`server.speaker`, which has the captions.
A dialect knows names and shapes and nothing of connections or threads. What follows from a caption
is asked for in the session's thread, what answers a client in the event loop.

Sources: OpenAI's realtime API, as its Python client types it, and vLLM's realtime server. They
share a path and some names, and differ in the rest: OpenAI nests a session's settings and hears
24 kHz, vLLM has them flat and hears 16 kHz.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dragoman.models.words import one_line
from dragoman.server.growth import Growing
from dragoman.server.refusals import Refusal, invalid
from dragoman.server.settings import (
    Message,
    Settings,
    part,
    with_format,
    with_languages,
    with_pauses,
)
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption

Command = Literal["update", "append", "commit", "clear", "close"]
TICK_MS = 200  # of OpenAI's times in translations
BUFFER = "input_audio_buffer"
HEARD = "conversation.item.input_audio_transcription"


@dataclass
class Dialect:
    """What the dialects share; ``about`` is told of the session in its descriptions."""

    settings: Settings
    about: Message
    commands: Mapping[str, Command] = field(default_factory=dict[str, Command])

    def created(self) -> Message:
        """The greeting of a connection."""
        return {"type": "session.created", "session": self.session()}

    def updated(self) -> Message | None:
        """The answer to an update that was taken, if there is one."""
        return {"type": "session.updated", "session": self.session()}

    def session(self) -> Message:
        """The session as it is set."""
        raise NotImplementedError

    def chosen(self, message: Message) -> Settings:
        """The settings after an update; raises Refusal, LanguageError."""
        raise NotImplementedError

    def ends_turn(self, message: Message) -> bool:
        """Whether a commit is one: vLLM's clients also begin with one."""
        return True

    def captioned(self, caption: Caption) -> list[Message]:
        """What a caption brings."""
        raise NotImplementedError

    def committed(self) -> list[Message]:
        """What answers a client that ended a turn, at once."""
        return []

    def turned(self) -> list[Message]:
        """What follows when all of an ended turn was captioned."""
        return []

    def cleared(self) -> list[Message]:
        """What follows when a turn was given up, behind the captions that it still brought."""
        return []

    def ended(self) -> list[Message]:
        """What a session ends with."""
        return []

    def error(self, refusal: Refusal, cause: Message | None = None) -> Message:
        """A refusal, of the client's message ``cause`` if it is of one."""
        told = {**refusal.error(), "event_id": (cause or {}).get("event_id")}
        return {"type": "error", "error": told}


class Transcription(Dialect):
    """OpenAI's `/v1/realtime?intent=transcription`: an item for each segment, or for each turn of a
    client that ends turns itself.
    """

    def __init__(self, settings: Settings, about: Message) -> None:
        types = ("append", "commit", "clear")
        commands: dict[str, Command] = {f"{BUFFER}.{name}": name for name in types}
        super().__init__(settings, about, {"session.update": "update", **commands})
        self._growing = Growing()
        self._item, self._commits = 0, 0  # the number of the newest item; those that were answered
        self._open: Caption | None = None  # the newest caption of a segment that has not ended
        self._said: list[Caption] = []  # finals of this turn

    def session(self) -> Message:
        options = self.settings.options
        detection = {
            "type": "server_vad",
            "prefix_padding_ms": options.pre_roll_ms,
            "silence_duration_ms": options.endpoint_ms,
        }
        heard = {"model": self.settings.model, "language": options.language}
        sound = {
            "format": {"type": "audio/pcm", "rate": self.settings.rate_hz},
            "transcription": heard,
            "noise_reduction": None,
            "turn_detection": detection if self.settings.by_voice else None,
        }
        shape = {"type": "transcription", "object": "realtime.transcription_session"}
        return {**shape, **self.about, "audio": {"input": sound}}

    def created(self) -> Message:
        """The greeting, with the two keys that vLLM's clients read."""
        return {**super().created(), "id": self.about["id"], "created": self.about["created"]}

    def chosen(self, message: Message) -> Settings:
        session = part(message, "session")
        if session.get("type", "transcription") != "transcription":
            raise invalid("session.type: only `transcription` sessions run here", "session.type")
        sound = part(part(session, "audio"), "input")
        settings = with_format(self.settings, part(sound, "format"))
        heard = part(sound, "transcription")
        options = with_languages(settings.options, heard.get("language"), None)
        if "turn_detection" in sound:
            settings = replace(settings, by_voice=sound["turn_detection"] is not None)
            options = with_pauses(options, part(sound, "turn_detection"))
        return replace(settings, options=options, model=heard.get("model") or settings.model)

    def captioned(self, caption: Caption) -> list[Message]:
        return self._in_item(caption) if self.settings.by_voice else self._in_turn(caption)

    def committed(self) -> list[Message]:
        if self.settings.by_voice:  # the item may exist by now
            return []
        self._commits += 1
        return [self._commit(self._commits)]

    def turned(self) -> list[Message]:
        if self.settings.by_voice:
            out = self._close() if self._open or not self._said else []
            self._said = []
            return out
        self._item += 1
        said, self._said, self._open = self._said, [], None
        return [self._completed(said)]

    def cleared(self) -> list[Message]:
        self._said = []
        if not self.settings.by_voice:
            self._open = None
        return []

    def ended(self) -> list[Message]:
        return self._close() if self.settings.by_voice and self._open else []

    def _in_item(self, caption: Caption) -> list[Message]:
        """Of a segment that is an item by itself."""
        out: list[Message] = []
        if self._open is not None and self._open.segment != caption.segment:
            out += self._close()  # it ended without words
        if self._open is None:
            self._item += 1
            out.append(self._of_item(f"{BUFFER}.speech_started", audio_start_ms=_ms(caption.start)))
        self._open = caption
        if piece := self._growing.of(caption.segment, caption.transcript).text:
            out.append(self._delta(self._item, piece, caption))
        return out + (self._close() if caption.kind == "final" else [])

    def _in_turn(self, caption: Caption) -> list[Message]:
        """Of a segment in the item of a turn that has not been completed."""
        if caption.kind == "final":
            self._said.append(caption)
        piece = self._growing.of(caption.segment, caption.transcript)
        if not piece.text:
            return []
        delta, self._open = piece.whole if self._open else piece.text, caption
        return [self._delta(self._item + 1, delta, caption)]

    def _delta(self, item: int, text: str, caption: Caption) -> Message:
        """New text, and how far the sound is that it was made with."""
        told = {"content_index": 0, "delta": text, "audio_end_ms": _ms(caption.end)}
        return self._of_item(f"{HEARD}.delta", item, **told)

    def _close(self) -> list[Message]:
        """Ends the open item, or one in which nothing was heard."""
        caption, self._open = self._open, None
        if caption is None:
            self._item += 1
            return [self._commit(self._item), self._completed([])]
        self._said.append(caption)
        stopped = self._of_item(f"{BUFFER}.speech_stopped", audio_end_ms=_ms(caption.end))
        return [stopped, self._commit(self._item), self._completed([caption])]

    def _commit(self, item: int) -> Message:
        before = _item(item - 1) if item > 1 else None
        return self._of_item(f"{BUFFER}.committed", item, previous_item_id=before)

    def _completed(self, captions: list[Caption]) -> Message:
        seconds = sum(caption.end - caption.start for caption in captions) / SAMPLE_RATE_HZ
        return self._of_item(
            f"{HEARD}.completed",
            content_index=0,
            transcript=one_line(caption.transcript.committed for caption in captions),
            translation=one_line(caption.translation.committed for caption in captions),
            usage={"type": "duration", "seconds": round(seconds, 3)},
        )

    def _of_item(self, kind: str, item: int | None = None, **fields: Any) -> Message:
        return {"type": kind, "item_id": _item(self._item if item is None else item), **fields}


class Translation(Dialect):
    """OpenAI's `/v1/realtime/translations`: one stream of text, and what was said if it is wanted.

    The language that is spoken is no setting of OpenAI's: here it is `language` in the address.
    """

    def __init__(self, settings: Settings, about: Message) -> None:
        commands: dict[str, Command] = {
            "session.update": "update",
            f"session.{BUFFER}.append": "append",
            "session.close": "close",
        }
        super().__init__(settings, about, commands)
        self._said, self._written = Growing(), Growing()

    def session(self) -> Message:
        options, model = self.settings.options, self.settings.model
        heard = {"model": model} if self.settings.transcribes else None
        sound = {
            "input": {"transcription": heard, "language": options.language},
            "output": {"language": options.target_language},
        }
        return {"type": "translation", "model": model, **self.about, "audio": sound}

    def chosen(self, message: Message) -> Settings:
        audio = part(part(message, "session"), "audio")
        settings, heard = self.settings, part(audio, "input")
        if "transcription" in heard:
            settings = replace(settings, transcribes=heard["transcription"] is not None)
        language = part(audio, "output").get("language")
        options = with_languages(settings.options, heard.get("language"), language)
        return replace(settings, options=options)

    def captioned(self, caption: Caption) -> list[Message]:
        said = self._said.of(caption.segment, caption.transcript).whole
        written = self._written.of(caption.segment, caption.translation).whole
        at = _ms(caption.end) // TICK_MS * TICK_MS
        heard = said if self.settings.transcribes else ""
        pieces = {"input": heard, "output": written}
        return [
            {"type": f"session.{name}_transcript.delta", "delta": piece, "elapsed_ms": at}
            for name, piece in pieces.items()
            if piece
        ]

    def ended(self) -> list[Message]:
        return [{"type": "session.closed"}]


class VLLM(Dialect):
    """vLLM's `/v1/realtime`: one stream of text, and all of it at the client's final commit."""

    def __init__(self, settings: Settings, about: Message) -> None:
        types = ("append", "commit")
        commands: dict[str, Command] = {f"{BUFFER}.{name}": name for name in types}
        super().__init__(settings, about, {"session.update": "update", **commands})
        self._growing, self._text = Growing(), ""

    def created(self) -> Message:
        about = self.about
        return {"type": "session.created", "id": about["id"], "created": about["created"]}

    def updated(self) -> Message | None:
        return None

    def chosen(self, message: Message) -> Settings:
        return replace(self.settings, model=message.get("model") or self.settings.model)

    def ends_turn(self, message: Message) -> bool:
        return message.get("final") is True

    def captioned(self, caption: Caption) -> list[Message]:
        piece = self._growing.of(caption.segment, caption.transcript).whole
        self._text += piece
        return [{"type": "transcription.delta", "delta": piece}] if piece else []

    def turned(self) -> list[Message]:
        text, self._text, self._growing = self._text, "", Growing()
        return [{"type": "transcription.done", "text": text, "usage": None}]

    def error(self, refusal: Refusal, cause: Message | None = None) -> Message:
        return {"type": "error", "error": refusal.message, "code": refusal.code}


DIALECTS: dict[str, Callable[[Settings, Message], Dialect]] = {
    "transcription": Transcription,
    "translation": Translation,
    "vllm": VLLM,
}


def _item(number: int) -> str:
    return f"item_{number}"


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE_HZ
