"""What a client chooses of a live session, read from the messages in which it does.

Below :mod:`server.dialects`. What is not of the form that is expected is refused, and says which
key is meant; keys that have no meaning here are left alone, as OpenAI's clients send many.
"""

from dataclasses import dataclass, replace
from typing import Any

from dragoman.models.languages import find
from dragoman.server.refusals import invalid
from dragoman.stages.messages import SessionOptions

Message = dict[str, Any]
LOWEST_HZ, HIGHEST_HZ = 8_000, 192_000
DIGITS = 18  # of a number in an address or a header
ENDPOINTS_MS = 300, 5_000
PRE_ROLLS_MS = 0, 1_000


@dataclass(frozen=True)
class Settings:
    """What a client may choose: PCM16 at ``rate_hz``; ``by_voice``: turns end where the voice does,
    else where the client says; ``model`` is the name that it asked for.
    """

    options: SessionOptions
    model: str
    rate_hz: int
    by_voice: bool = True
    transcribes: bool = False  # also what was said, in translations

    @classmethod
    def of(cls, record: Message) -> "Settings":
        """Settings that were written as JSON."""
        return cls(**{**record, "options": SessionOptions(**record["options"])})


def part(message: Message, name: str) -> Message:
    """The object ``name`` of ``message``, empty where there is none; raises Refusal."""
    found = message.get(name)
    if found is not None and not isinstance(found, dict):
        raise invalid(f"{name}: got {type(found).__name__}, expected an object", name)
    return found or {}


def with_format(settings: Settings, told: Message) -> Settings:
    """``settings`` with a `format` of sound; raises Refusal."""
    if told.get("type", "audio/pcm") != "audio/pcm":
        raise invalid("format: only `audio/pcm` is heard, 16 bits, mono", "format")
    return replace(settings, rate_hz=rate(told.get("rate", settings.rate_hz)))


def rate(told: Any) -> int:
    """A rate in Hz; raises Refusal."""
    if not isinstance(told, int) or not LOWEST_HZ <= told <= HIGHEST_HZ:
        raise invalid(f"rate {told!r}: give {LOWEST_HZ} to {HIGHEST_HZ} samples a second", "rate")
    return told


def with_languages(options: SessionOptions, spoken: Any, target: Any) -> SessionOptions:
    """``options`` with the languages that are named, if any; raises Refusal, LanguageError."""
    for name in (spoken, target):
        if name is not None and not isinstance(name, str):
            raise invalid(f"language {name!r}: give a code such as es", "language")
    return replace(
        options,
        language=find(spoken).code if spoken else options.language,
        target_language=find(target).code if target else options.target_language,
    )


def with_pauses(options: SessionOptions, told: Message) -> SessionOptions:
    """``options`` with the pauses that a `turn_detection` names; raises Refusal."""
    endpoint = _within(told, "silence_duration_ms", options.endpoint_ms, ENDPOINTS_MS)
    pre_roll = _within(told, "prefix_padding_ms", options.pre_roll_ms, PRE_ROLLS_MS)
    return replace(options, endpoint_ms=endpoint, pre_roll_ms=pre_roll)


def _within(told: Message, name: str, default: int, limits: tuple[int, int]) -> int:
    least, most = limits
    value = told.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        raise invalid(f"{name} {value!r}: give {least} to {most}", name)
    return value
