"""What was asked of `dragoman captions`: the one form between the command line and the session."""

from dataclasses import dataclass
from pathlib import Path

from dragoman.pipeline.formats import USUAL
from dragoman.pipeline.session import Pace
from dragoman.pipeline.start import session_options
from dragoman.pipeline.streams import RECONNECT_S
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SessionOptions


@dataclass(frozen=True)
class CaptionsOptions:
    """What the command line asked for: ``file``, ``stream``, which is an address or "-", or a
    microphone where both are None. ``raw_hz``: the stream is int16 samples.
    """

    file: Path | None = None
    stream: str | None = None
    raw_hz: int | None = None
    reconnect_s: float = RECONNECT_S
    microphone: str | None = None
    duration_s: float | None = None
    language: str = "es"
    target_language: str = "en"
    as_json: bool = False
    big: bool = False
    text_file: Path | None = None
    record: Path | None = None
    output_dir: Path | None = None
    formats: tuple[str, ...] = USUAL
    reference: Path | None = None
    pace: Pace = "real-time"
    pad_audio: bool = False
    prompt_style: str = "short"
    min_confidence: float | None = None
    endpoint_ms: int | None = None
    latency: str | None = None
    commit_policy: str | None = None
    log: Path | None = None
    log_format: str = "events"
    overwrite: bool = False
    track: int | None = None
    channel: int | None = None
    spec: ModelSpec = ModelSpec()
    ray: bool = True

    @property
    def session(self) -> SessionOptions:
        """What its session asks for."""
        return session_options(
            self.spec,
            language=self.language,
            target_language=self.target_language,
            pad_audio=self.pad_audio,
            prompt_style=self.prompt_style,
            min_confidence=self.min_confidence,
            endpoint_ms=self.endpoint_ms,
            latency=self.latency,
            commit_policy=self.commit_policy,
        )
