"""A talk through the live pipeline, its log scored by the field's own tools.

The talk is played as fast as it is spoken, so what a listener waits for is measured and not
modelled. Its captions are logged as simulstream has it (`pipeline.logs`), once when words are
committed and once when they are shown. `omnisteval longform` aligns the words with the sentences
of the talk and gives LongYAAL, BLEU and chrF; simulstream's commands give StreamLAAL, normalized
erasure and the real-time factor.

Unusual: those tools add the time of a step to the audio it rests on; as our log has the listener's
whole wait there, their computation-aware scores are wall-clock time. For the same reason their
real-time factor is an upper bound: `cpu_factor` counts the processor's time instead.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jiwer

from dragoman.models.words import normalized
from dragoman.pipeline.lateness import lags
from dragoman.pipeline.logs import SimulstreamLog, evaluation
from dragoman.pipeline.session import Pace
from dragoman.stages.messages import Caption, SessionOptions
from evaluation.noise import pieces
from evaluation.talk import SAMPLE_RATE_HZ, Talk

SCORES = {
    "LongYAAL (CU)": "longyaal_cu_ms",
    "LongYAAL (CA)": "longyaal_ca_ms",
    "LongLAAL (CU)": "longlaal_cu_ms",
    "LongLAAL (CA)": "longlaal_ca_ms",
    "BLEU": "bleu",
    "chrF": "chrf",
}
NAME = "talk"


class ScorerError(RuntimeError):
    """A tool that scores failed, or is not installed."""


def heard(
    captioner: Any, talk: Talk, options: SessionOptions, pace: Pace = "real-time"
) -> Iterator[Caption]:
    """The talk's captions, as they come. ``captioner``: a `dragoman.Captioner` in use."""
    yield from captioner.caption(pieces(talk.samples), options, pace=pace)


def measure(
    captioner: Any,
    talk: Talk,
    target_language: str,
    options: SessionOptions | None = None,
    pace: Pace = "real-time",
) -> dict[str, Any]:
    """All scores of one talk, heard with ``options``. Raises ScorerError."""
    options = options or SessionOptions(talk.language, target_language)
    begun = time.process_time()
    captions = list(heard(captioner, talk, options, pace))
    spent = time.process_time() - begun
    said = " ".join(c.transcript.whole for c in captions if c.kind == "final")
    truth = " ".join(sentence.texts[talk.language] for sentence in talk.sentences)
    return {
        "voice": talk.voice,
        "minutes": round(talk.seconds / 60, 2),
        "captions": len(captions),
        "committed": scored(captions, talk, target_language, committed_only=True),
        "shown": scored(captions, talk, target_language, committed_only=False),
        "wer": round(jiwer.wer(normalized(truth), normalized(said)), 4),
        "lag_ms": lags(captions),
        "cpu_factor": round(spent / talk.seconds, 3),
    }


def scored(
    captions: Iterable[Caption], talk: Talk, target_language: str, committed_only: bool
) -> dict[str, float]:
    """What the tools say about the translations of ``captions``; nothing where there are none.

    Raises ScorerError.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log.jsonl"
        with log.open("w", encoding="utf-8") as file:
            writer = SimulstreamLog(file, f"{NAME}.wav", committed_only=committed_only)
            for caption in captions:
                writer.write(caption)
        if not _any_words(log):
            return {}
        (folder / "eval.yaml").write_text(evaluation(target_language), encoding="utf-8")
        _write_references(folder, talk, target_language)
        return {**_omnisteval(folder), **_stream_laal(folder), **_stats(folder)}


def _write_references(folder: Path, talk: Talk, target_language: str) -> None:
    """The sentences as omnisteval and simulstream want them: JSON is YAML, too."""
    segments = [
        {
            "wav": f"{NAME}.wav",
            "offset": round(sentence.start / SAMPLE_RATE_HZ, 3),
            "duration": round((sentence.end - sentence.start) / SAMPLE_RATE_HZ, 3),
        }
        for sentence in talk.sentences
    ]
    (folder / "segments.yaml").write_text(json.dumps(segments), encoding="utf-8")
    lines = [sentence.texts[target_language] for sentence in talk.sentences]
    (folder / "references.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _omnisteval(folder: Path) -> dict[str, float]:
    _ran(
        *("-m", "omnisteval.cli", "longform", "--word_level"),
        *("--speech_segmentation", folder / "segments.yaml"),
        *("--ref_sentences_file", folder / "references.txt"),
        *("--hypothesis_file", folder / "log.jsonl"),
        *("--hypothesis_format", "simulstream"),
        *("--simulstream_config_file", folder / "eval.yaml"),
        *("--output_folder", folder / "scores"),
    )
    lines = (folder / "scores" / "scores.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = dict(line.split("\t") for line in lines)
    return {ours: float(found[theirs]) for theirs, ours in SCORES.items() if theirs in found}


def _stream_laal(folder: Path) -> dict[str, float]:
    said = _ran(
        *("-m", "simulstream.metrics.score_latency", "--scorer", "stream_laal"),
        *("--eval-config", folder / "eval.yaml", "--log-file", folder / "log.jsonl"),
        *("--audio-definition", folder / "segments.yaml"),
        *("--reference", folder / "references.txt"),
    )
    numbers = re.findall(r"latency=([-\d.]+)", said)
    if len(numbers) != 2:
        raise ScorerError(f"simulstream's StreamLAAL printed {said!r}, expected two latencies")
    ideal, aware = (round(float(number) * 1000) for number in numbers)
    return {"streamlaal_cu_ms": ideal, "streamlaal_ca_ms": aware}


def _stats(folder: Path) -> dict[str, float]:
    said = _ran(
        *("-m", "simulstream.metrics.stats"),
        *("--eval-config", folder / "eval.yaml", "--log-file", folder / "log.jsonl"),
    )
    found = json.loads(said[said.index("{") :])
    return {name: round(about["value"], 4) for name, about in found.items()}


def _ran(*arguments: object) -> str:
    """What a Python program printed. Raises ScorerError with the end of its complaint."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ScorerError(
            f"{arguments[1]} failed: {done.stderr[-800:]}; it comes with "
            "pip install dragoman[evaluation], and wants perl"
        )
    return done.stdout


def _any_words(log: Path) -> bool:
    steps = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return any(step.get("generated_tokens") for step in steps)
