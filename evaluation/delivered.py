"""Subtitles of a talk as a viewer gets them, scored by SubER and by the rules for cues.

SubER (Wilken et al., 2022; package `subtitle-edit-rate`) counts what has to be edited in words,
line breaks and cues, where only words that are shown at the same time may match. Its reference is
what our own layout makes of the talk's true sentences and times: it measures words and times, and
says nothing about where people would have broken the lines.
"""

import tempfile
import wave
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.pipeline.judging import Standard, faults
from dragoman.pipeline.subtitle_files import read
from dragoman.pipeline.subtitles import cues, write
from dragoman.spec import ModelSpec
from dragoman.stages.messages import Caption, SessionOptions, Text
from evaluation.longform import ScorerError
from evaluation.talk import SAMPLE_RATE_HZ, Talk

TEXTS = ("transcript", "translation")


def measure(talk: Talk, target_language: str, spec: ModelSpec) -> dict[str, Any]:
    """SubER in percent, and the share of cues within the rules, of both texts. Raises ScorerError,
    and what `dragoman.translate` raises.
    """
    import dragoman

    options = SessionOptions(talk.language, target_language)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_sound(talk.samples, folder / "talk.wav")
        (result,) = dragoman.translate(
            folder / "talk.wav", options, spec, formats=("srt",), texts=TEXTS, workers=1
        )
        if result.status != "done":
            raise ScorerError(f"the talk could not be translated: {result.reason}")
        return {
            "minutes": round(talk.seconds / 60, 2),
            **{
                text: scored(folder / f"talk.{code}.srt", talk, code)
                for text, code in zip(TEXTS, (talk.language, target_language), strict=True)
            },
        }


def scored(path: Path, talk: Talk, language: str) -> dict[str, float]:
    """Of the subtitles at ``path``, in one of the talk's languages. Raises ScorerError."""
    shown = read(path, (language,)).cues
    faulty = {fault.cue for fault in faults(shown, Standard(codes=(language,)))}
    with tempfile.TemporaryDirectory() as name:
        true = Path(name) / "true.srt"
        write(cues(true_captions(talk, language), "transcript"), true)
        return {
            "suber": _suber(path, true, language),
            "cues": len(shown),
            "within_rules": round(1 - len(faulty) / len(shown), 4) if shown else 1.0,
        }


def true_captions(talk: Talk, language: str) -> Iterable[Caption]:
    """What is said in the talk, when it is said."""
    for number, said in enumerate(talk.sentences):
        text = Text(said.texts[language])
        yield Caption("final", number, said.start, said.end, language, language, text, Text())


def _suber(path: Path, true: Path, language: str) -> float:
    try:
        suber, readers = import_module("suber.metrics.suber"), import_module("suber.file_readers")
    except ImportError as error:
        raise ScorerError("SubER is missing: pip install dragoman[evaluation]") from error
    shown, said = (readers.SRTFileReader(str(file)).read() for file in (path, true))
    return suber.calculate_SubER(shown, said, language=language)


def _write_sound(samples: np.ndarray, path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
