"""What `dragoman captions` listens to: a file, a stream or a microphone, in one form.

Between what was asked for and the session. Opening says what is wrong before anything expensive has
begun.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dragoman.demos.captions_options import CaptionsOptions
from dragoman.demos.listening import told
from dragoman.pipeline.devices import choose, devices
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.microphone import Microphone
from dragoman.pipeline.session import Pace
from dragoman.pipeline.streams import Stream
from dragoman.stages.messages import Picture


@dataclass(frozen=True)
class AudioSource:
    """Where audio comes from: ``name`` for screens, ``stem`` for the names of output files.

    ``folder`` is where those go, None when they are not wanted. ``live`` is what cannot be heard
    again. ``frames`` are the pictures of a video, None where there can be none.
    """

    name: str
    stem: str
    folder: Path | None
    pieces: Iterable[np.ndarray]
    live: Microphone | Stream | None = None
    frames: Iterable[Picture] | None = None

    @property
    def pace(self) -> Pace:
        """That of its own clock, "real-time" where it has none."""
        if isinstance(self.live, Stream):
            return self.live.pace
        return "real-time" if self.live is None else "live"

    def close(self) -> None:
        if self.live is not None:
            self.live.close()


def open_source(asked: CaptionsOptions, on_screen: bool) -> AudioSource:
    """What to listen to; raises InputError before anything expensive has begun.

    Only a screen, the live view, has a status line that tells about a microphone.
    """
    if asked.file is not None:
        name, stem = str(asked.file), asked.file.stem
        pieces = read_audio(
            asked.file, track=asked.track, language=asked.language, channel=asked.channel
        )
        frames = read_frames(asked.file)
        return AudioSource(name, stem, asked.output_dir, pieces, frames=frames)
    stem = time.strftime("captions-%Y%m%d-%H%M%S")
    if asked.stream is not None:
        stream = Stream(
            asked.stream,
            language=asked.language,
            channel=asked.channel,
            raw_hz=asked.raw_hz,
            reconnect_s=asked.reconnect_s,
            duration_s=asked.duration_s,
        )
        return AudioSource(stream.name, stem, asked.output_dir or Path(), stream, stream)
    device = choose(asked.microphone, devices())
    microphone = Microphone(device, asked.duration_s, asked.channel)
    pieces = microphone if on_screen else told(microphone)
    return AudioSource(device.name, stem, asked.output_dir or Path(), pieces, microphone)
