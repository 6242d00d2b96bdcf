"""The microphones of this machine: which there are, and which one is meant.

Before :mod:`pipeline.microphone`, which opens the one that was chosen. sounddevice, and PortAudio
with it, is imported by the first call that needs it: captions of a file work without them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dragoman.errors import DependencyError, InputError

NONE_FOUND = (
    "no microphone was found: plug one in, switch the sound system on, "
    "or caption a recording: `dragoman captions FILE`"
)


@dataclass(frozen=True)
class Device:
    """A device that sound comes from, as PortAudio counts, names and describes it."""

    index: int
    name: str
    api: str
    channels: int
    rate_hz: int
    default: bool


def devices() -> list[Device]:
    """All devices that sound comes from; raises DependencyError when PortAudio is missing."""
    portaudio = sounddevice()
    with without_chatter():
        apis = portaudio.query_hostapis()
        found = portaudio.query_devices()
        try:
            default = portaudio.query_devices(kind="input")["index"]
        except portaudio.PortAudioError:
            default = None
    return [
        Device(
            index=index,
            name=device["name"],
            api=apis[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            rate_hz=round(device["default_samplerate"]),
            default=index == default,
        )
        for index, device in enumerate(found)
        if device["max_input_channels"] > 0
    ]


def choose(wanted: str | None, found: list[Device]) -> Device:
    """The device with the index or (a part of) the name ``wanted``; None takes the default one.

    Raises InputError where there is none, or more than one.
    """
    if not found:
        raise InputError(NONE_FOUND)
    if wanted is None:
        matches = [device for device in found if device.default]
        problem = "no microphone is the default one"
    elif wanted.isdecimal():
        matches = [device for device in found if device.index == int(wanted)]
        problem = f"there is no microphone {wanted}"
    else:
        matches = _named(wanted, found)
        problem = f"no microphone is called {wanted!r}"
    if len(matches) == 1:
        return matches[0]
    if matches:
        problem = f"{len(matches)} microphones are called {wanted!r}"
    names = ", ".join(f"{device.index} {device.name!r}" for device in matches or found)
    raise InputError(f"{problem}: choose with --microphone NUMBER one of {names}")


def _named(wanted: str, found: list[Device]) -> list[Device]:
    """Devices of that name, else with it in their name; of one host API where several have it."""
    name = wanted.casefold()
    matches = [device for device in found if device.name.casefold() == name] or [
        device for device in found if name in device.name.casefold()
    ]
    apis = {device.api for device in found if device.default}
    return [device for device in matches if device.api in apis] or matches


def sounddevice() -> Any:
    """The library that hears microphones; raises DependencyError when PortAudio is missing."""
    with without_chatter():
        try:
            import sounddevice as library
        except OSError as error:
            raise DependencyError(
                f"PortAudio, through which microphones are heard, is missing ({error}): install "
                "it (Debian and Ubuntu: apt install libportaudio2)"
            ) from error
    return library


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keeps what ALSA and PortAudio print about every missing sound card off stderr."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
