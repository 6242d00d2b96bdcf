"""What `dragoman captions` tells about live sound: the list of microphones, how loud it is, what
was lost.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from dragoman.demos.stdout import say
from dragoman.demos.terminal import meter
from dragoman.pipeline.devices import NONE_FOUND, Device, devices
from dragoman.pipeline.microphone import QUIET_S, Microphone
from dragoman.pipeline.streams import Stream


def list_devices(as_json: bool) -> int:
    """Prints what can be listened to, which may be nothing: stderr says so then."""
    found = devices()
    if as_json:
        print(json.dumps([asdict(device) for device in found], ensure_ascii=False))
    elif found:
        say("\n".join(_device_lines(found)), sys.stdout)
    if not found:
        say(NONE_FOUND)
    return 0


def _device_lines(found: list[Device]) -> Iterator[str]:
    width = max(len(device.name) for device in found)
    for device in found:
        mark = "*" if device.default else " "
        channels = f"{device.channels} channel{'s' if device.channels > 1 else ''}"
        yield (
            f"{mark} {device.index:3}  {device.name:{width}}  {channels:>11}  "
            f"{device.rate_hz:6} Hz  {device.api}"
        )
    yield "* is the default; choose with --microphone NUMBER or a part of the name"


def hearing(live: Microphone | Stream) -> Iterator[str]:
    """Parts of a status line: the meter, a hint when nothing is heard, what was lost."""
    yield meter(live.level.dbfs)
    if isinstance(live, Stream):
        if live.gaps:
            yield f"{sum(gap_s for _, gap_s in live.gaps):.1f} s missing"
        return
    microphone = live
    if microphone.level.quiet_s > QUIET_S:
        yield _hint(microphone)
    if microphone.lost_frames:
        yield f"{microphone.lost_s:.1f} s lost"


def _hint(microphone: Microphone) -> str:
    return f"nothing heard for {microphone.level.quiet_s:.0f} s: muted? wrong microphone?"


def announce(microphone: Microphone) -> None:
    """Says that now is the time to speak, and to what."""
    device = microphone.device
    say(f"listening to {device.name} ({device.rate_hz} Hz), Ctrl-C ends and saves")


def told(microphone: Microphone) -> Iterator[np.ndarray]:
    """For views without a status line: says when it begins to listen, and once if it hears nothing.

    Pieces are passed on as they are.
    """
    device, level, said = microphone.device, microphone.level, False
    announce(microphone)
    for piece in microphone:
        if not (said or level.ever_heard) and level.quiet_s > QUIET_S:
            said = True
            say(f"{_hint(microphone)} ({device.name}; --list-devices shows others)")
        yield piece


def loss(live: Microphone | Stream) -> str:
    """What was not heard, and why; empty when all was."""
    if isinstance(live, Stream):
        gaps = ", ".join(f"{gap_s:.1f} s at {at_s:.1f} s" for at_s, gap_s in live.gaps)
        return f"the stream broke off, and silence stands for what is missing: {gaps}" * bool(gaps)
    microphone, parts = live, []
    if microphone.lost_frames:
        parts.append(
            f"{microphone.lost_s:.1f} s of sound were lost: captions could not be made as fast as "
            "people spoke; end other work on this machine, or take a smaller model"
        )
    if microphone.overflows:
        parts.append(f"the sound system lost sound {microphone.overflows} times")
    return "; ".join(parts)
