"""The functions of ours that one chunk of live sound passes, in the order of their first call.

    python -m benchmarks.path [--all]

prints file and function; `docs/architecture.md` says what each does. Counted are calls in all
threads from the piece that the source gives to the caption that comes out, in the middle of an
utterance, with the bundled model in one process. What runs inside the model is left out unless
asked for: there a stage is one call, and its arithmetic another subject.

Unusual: the source gives a piece only when the caption of the one before is there. So the chunk
that is followed is alone in the pipeline, however busy the machine is.
"""

import argparse
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from dragoman.pipeline.media import read_audio
from dragoman.pipeline.session import Session
from dragoman.pipeline.start import session_options, start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import CHUNK_SAMPLES

ROOT = Path(__file__).resolve().parents[1]
PATH = ("pipeline", "stages")
MODEL = ("models", "encoders", "decoder", "kernels")
BEGUN_SAMPLES = 17 * CHUNK_SAMPLES  # of the recording: within its first utterance
BEFORE = 3  # chunks of that utterance, one by one
PATIENCE_S = 120.0
Step = tuple[str, str]  # file and function


class Followed:
    """Notes the functions of ``folders`` that are called, in any thread, while it is on."""

    def __init__(self, folders: tuple[str, ...]) -> None:
        self.steps: dict[Step, int] = {}
        self.on = False
        self._folders = folders

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if not (self.on and event == "call"):
            return
        file = Path(frame.f_code.co_filename).resolve()
        if not file.is_relative_to(ROOT) or frame.f_code.co_name.startswith("<"):
            return
        place = file.relative_to(ROOT)
        if place.parts[0] in self._folders:
            step = (str(place), frame.f_code.co_qualname)
            self.steps[step] = self.steps.get(step, 0) + 1


class OneByOne:
    """A source that gives its next piece when it is let go on."""

    def __init__(self, sound: np.ndarray) -> None:
        """``sound``: float32 [S]; the first piece is BEGUN_SAMPLES long, the others are chunks."""
        self._pieces = np.split(sound, range(BEGUN_SAMPLES, len(sound), CHUNK_SAMPLES))
        self._asked, self._may = threading.Semaphore(0), threading.Semaphore(0)

    def __iter__(self) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            yield piece
            self._asked.release()
            if not self._may.acquire(timeout=PATIENCE_S):
                raise TimeoutError(
                    f"no caption came within {PATIENCE_S:.0f} s of a piece: choose BEGUN_SAMPLES "
                    f"so that the {BEFORE + 1} chunks after it are speech"
                )

    def wait(self) -> None:
        """Waits until the session has taken the last piece, and asks for the next."""
        self._asked.acquire()

    def go_on(self) -> None:
        self._may.release()


def passed(folders: tuple[str, ...] = PATH) -> list[Step]:
    """What a chunk in the middle of an utterance passes, from the source to its partial caption."""
    source = OneByOne(np.concatenate([*read_audio(ROOT / "samples" / "talk.wav")]))
    followed = Followed(folders)
    threading.setprofile(followed)
    sys.setprofile(followed)
    try:
        with start(ModelSpec(threads=1), ray=False) as chain:
            options = session_options(ModelSpec(), update_chunks=1)
            heard = BEGUN_SAMPLES
            for caption in Session(chain, source, options, "live"):
                if caption.end < heard:
                    continue  # of what came before
                source.wait()
                if followed.on:
                    followed.on = False
                    break
                followed.on = heard == BEGUN_SAMPLES + BEFORE * CHUNK_SAMPLES
                heard += CHUNK_SAMPLES
                source.go_on()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # pyright: ignore[reportArgumentType]
    return list(followed.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="with what runs inside the model")
    steps = passed(PATH + MODEL if parser.parse_args().all else PATH)
    for file, function in steps:
        print(f"{file}: {function}")
    print(f"{len(steps)} functions in {len({file for file, _ in steps})} files")


if __name__ == "__main__":
    main()
