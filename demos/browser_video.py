"""One file on the page's Video tab: its session, and the pictures that its captions name.

Segments are captioned whole, without partial captions, as `dragoman translate` does: that costs
the least, and visitors who speak meanwhile wait less. Pictures are kept, small, as they pass by on
their way into the session.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dragoman.demos.browser_runs import PageSession
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.frames import read_frames
from dragoman.pipeline.media import probe, read_audio
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Picture, SessionOptions, VideoFrame

PICTURE_SIZE = 320, 320
MAX_PICTURES = 60


class Video:
    """A file on which a session has been started, which waits for one of ``places``.

    Raises InputError when there is no sound.
    """

    def __init__(
        self, chain: Chain, media: Path, options: SessionOptions, places: threading.Semaphore
    ) -> None:
        self.media, self.options = media, options
        self.info = probe(media)
        self.warnings: list[str] = []
        self.saved: list[Path] | None = None  # its files, once they are written
        pieces = read_audio(media, language=options.language, warn=self._warn)
        options = replace(options, finals_only=True)
        frames = self._kept(read_frames(media)) if self.info.has_video else None
        self.run = PageSession(chain, pieces, options, "fast", places, frames)

    @property
    def problem(self) -> str:
        """Why the session failed; nothing when it did not."""
        return self._named(self.run.error)

    @property
    def share(self) -> float | None:
        """How much of the file has been worked through, 0 to 1; None when nobody can know."""
        if self.run.done:
            return 1.0
        if not self.info.duration_s:
            return None
        captions, _ = self.run.captions()
        done_s = captions[-1].end / SAMPLE_RATE_HZ if captions else 0.0
        return min(1.0, max(done_s, self.run.heard_s / 2) / self.info.duration_s)

    def captions(self, since: int = 0) -> list[Caption]:
        """The final captions but the first ``since``, numbered from 0."""
        finals, _ = self.run.captions(since)
        return [replace(c, segment=at, seq=at) for at, c in enumerate(finals, since)]

    def pictures(self) -> list[tuple[VideoFrame, Path]]:
        """The frames that the captions name, each once, in order of time, and their files."""
        named = {frame for caption in self.captions() for frame in caption.frames}
        found = [(frame, self._path(frame)) for frame in sorted(named, key=lambda f: f.time)]
        return [(frame, path) for frame, path in found if path.exists()][:MAX_PICTURES]

    def _kept(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        for picture in pictures:
            assert picture.pixels is not None
            image = Image.fromarray(picture.pixels)
            image.thumbnail(PICTURE_SIZE)
            image.save(self._path(picture.frame), quality=85)
            yield picture

    def _path(self, frame: VideoFrame) -> Path:
        return self.media.parent / f"frame-{frame.index:06}.jpg"

    def _warn(self, sentence: str) -> None:
        self.warnings.append(self._named(sentence))

    def _named(self, sentence: str) -> str:
        return sentence.replace(str(self.media), self.media.name)
