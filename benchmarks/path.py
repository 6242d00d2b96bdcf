"""The functions of ours that one chunk of live sound passes, in the order of their first call.

    python -m benchmarks.path [--all]

prints file and function; `docs/architecture.md` says what each does. Counted are calls in all
threads from the piece that the source gives to the caption that comes out, in the middle of an
utterance, with the bundled model in one process. What runs inside the model is left out unless
asked for: there a stage is one call, and its arithmetic another subject.
"""

import argparse
import sys
import threading
import time
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
ALONE_S = 0.3
BEFORE = 3  # captions
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


def passed(folders: tuple[str, ...] = PATH) -> list[Step]:
    """What a chunk in the middle of an utterance passes, from the source to its partial caption."""
    sound = np.concatenate([*read_audio(ROOT / "samples" / "talk.wav")])
    followed, captions = Followed(folders), 0

    def source() -> Iterator[np.ndarray]:
        for piece in np.split(sound, range(CHUNK_SAMPLES, len(sound), CHUNK_SAMPLES)):
            time.sleep(ALONE_S)  # until what was sent before is through
            followed.on = captions > BEFORE
            yield piece

    threading.setprofile(followed)
    sys.setprofile(followed)
    try:
        with start(ModelSpec(threads=1), ray=False) as chain:
            options = session_options(ModelSpec(), update_chunks=1)
            for _ in Session(chain, source(), options, "live"):
                if followed.on:
                    followed.on = False
                    break
                captions += 1
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
