"""People's recordings from Debian's packages, as an evaluation set. Never for training.

Place: beside the test parts of `training.speech`, in the same form, so that `training.speech_parts`
reads them: split `test`, synthesizer `people`, the voice is the speaker.

    python -m training.people --out build/speech

The recordings are downloaded with apt-get and not kept; their transcripts are in
`tests/data/people`, one table a speaker, and hold the words that are spoken, numbers in letters.
A record has its text in one language only.
"""

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np

from training.speech_parts import SAMPLE_RATE_HZ, Record
from training.synthesizers import timed

TRANSCRIPTS = Path(__file__).parents[1] / "tests" / "data" / "people"
_SHARE = Path("usr") / "share"


@dataclass(frozen=True)
class Speaker:
    """Whose recordings a package has, in which folder below usr/share."""

    package: str
    folder: str
    licence: str


SPEAKERS = {
    "allison-en": Speaker(
        "asterisk-core-sounds-en-g722", "asterisk/sounds/en_US_f_Allison", "CC-BY-SA-3.0"
    ),
    "allison-es": Speaker(
        "asterisk-core-sounds-es-g722", "asterisk/sounds/es_MX_f_Allison", "CC-BY-SA-3.0"
    ),
    "june-fr": Speaker(
        "asterisk-core-sounds-fr-g722", "asterisk/sounds/fr_CA_f_June", "CC-BY-SA-3.0"
    ),
    "carlo-it": Speaker(
        "asterisk-core-sounds-it-g722", "asterisk/sounds/it_IT_m_Carlo", "CC-BY-SA-3.0"
    ),
    "july-es": Speaker("asterisk-prompt-es-co", "asterisk/sounds/es", "GPL-2"),
    "armelle-fr": Speaker("asterisk-prompt-fr-armelle", "asterisk/sounds/fr", "CC-BY-SA-3.0"),
    "paola-it": Speaker(
        "asterisk-prompt-it-menardi-wav", "asterisk/sounds/it_IT_f_Menardi", "CC-BY-SA-3.0"
    ),
    "readers-en": Speaker("pocketsphinx-testdata", "pocketsphinx/test/data", "BSD-2-Clause"),
}


class PeopleError(RuntimeError):
    """A package cannot be had, or lacks a recording that a transcript names."""


@dataclass(frozen=True)
class Transcript:
    """file: below the speaker's folder. text: the words that are spoken."""

    file: str
    language: str
    text: str


def transcripts(speaker: str, folder: Path = TRANSCRIPTS) -> list[Transcript]:
    """The table of a speaker. Raises PeopleError when a line has not three cells."""
    path = folder / f"{speaker}.tsv"
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[1:], 2):
        cells = line.split("\t")
        if len(cells) != 3 or not all(cells):
            raise PeopleError(f"{path}:{number}: expected file, language and text, got {cells}")
        found.append(Transcript(*cells))
    return found


def read(path: Path) -> np.ndarray:
    """int16 [S] at 16 kHz, mono, of a wav, gsm, g722 or headless 16 kHz file."""
    options: dict = {".gsm": {"format": "gsm"}, ".g722": {"format": "g722"}}.get(path.suffix, {})
    if path.suffix == ".raw":
        options = {"format": "s16le", "options": {"sample_rate": str(SAMPLE_RATE_HZ)}}
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
    with av.open(str(path), **options) as container:
        frames = [out for f in container.decode(audio=0) for out in resampler.resample(f)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def build(out: Path) -> None:
    """Write the recordings of all speakers as parts of the test split."""
    folder = out / "test" / "people"
    folder.mkdir(parents=True, exist_ok=True)
    for name, speaker in SPEAKERS.items():
        with tempfile.TemporaryDirectory() as downloads:
            _download(speaker.package, Path(downloads))
            share = Path(downloads) / _SHARE / speaker.folder
            examples = [_example(share, name, line) for line in transcripts(name)]
        np.save(folder / f"{name}.npy", np.concatenate([samples for samples, _ in examples]))
        lines = [json.dumps(asdict(record), ensure_ascii=False) for _, record in examples]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        seconds = sum(record.samples for _, record in examples) / SAMPLE_RATE_HZ
        print(f"{name}: {len(examples)} recordings, {seconds / 60:.1f} min ({speaker.licence})")


def _download(package: str, folder: Path) -> None:
    try:
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        archive = next(folder.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        raise PeopleError(
            f"cannot download the Debian package {package} ({error}); this needs Debian or Ubuntu "
            "and a recent `apt-get update`"
        ) from error


def _example(folder: Path, speaker: str, line: Transcript) -> tuple[np.ndarray, Record]:
    path = folder / line.file
    if not path.is_file():
        raise PeopleError(f"{speaker} has no recording {line.file}; correct its transcripts")
    spoken = timed(line.text, read(path))
    return spoken.samples, Record(
        len(spoken.samples), line.language, {line.language: line.text}, [line.file], "people",
        speaker, False, spoken.word_starts_samples, spoken.word_ends_samples,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch people's recordings for evaluation.")
    parser.add_argument("--out", type=Path, default=Path("build/speech"))
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
