"""What the server counts and measures, in the text form of Prometheus.

Below everything of the server. Speech, names and addresses of clients are in none of it. Each app
has a registry of its own, so two in one process do not add up.
"""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dragoman.stages.messages import Caption

LATENCIES_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
WAITING = "Sound of all live sessions that is not yet heard."
LAG = "Most of that of one live session: how far its captions are behind."
GUARDS = "Answers of the model that were not what was asked for, by what was wrong."
LATENCIES = (
    "From the arrival of sound to a caption of it (partial), or of what ended a segment to its "
    "final caption (response)."
)
CONFIDENCE = "Mean confidence of final transcripts."


class Metrics:
    """The server's figures."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.sessions = gauge("dragoman_sessions", "Sessions that run.", ["kind"])
        self.viewers = gauge("dragoman_viewers", "Open streams of viewers.")
        self.waiting_s = gauge("dragoman_waiting_sound_seconds", WAITING)
        self.lag_s = gauge("dragoman_lag_seconds", LAG)
        self.ended = counter("dragoman_sessions_ended", "How sessions ended.", ["kind", "how"])
        self.heard_s = counter("dragoman_heard_sound_seconds", "Sound that was heard.", ["kind"])
        self._refusals = counter("dragoman_refusals", "What was refused, by its code.", ["code"])
        self._captions = counter("dragoman_captions", "Captions, by kind.", ["kind"])
        self._guards = counter("dragoman_guards", GUARDS, ["guard"])
        self._sizes = counter("dragoman_sizes", "Final captions, by the model's size.", ["size"])
        self._latencies = histogram(
            "dragoman_latency_seconds", LATENCIES, ["kind"], buckets=LATENCIES_S
        )
        self._confidence = histogram("dragoman_confidence", CONFIDENCE, buckets=SHARES)

    def refused(self, code: str) -> None:
        self._refusals.labels(code).inc()

    def captioned(self, caption: Caption) -> None:
        """Counts one caption of a session."""
        self._captions.labels(caption.kind).inc()
        for name, ms in caption.latency.items():
            self._latencies.labels(name.removesuffix("_ms")).observe(ms / 1000)
        if caption.kind == "final":
            self._sizes.labels(caption.size).inc()
            for guard in caption.guards:
                self._guards.labels(guard).inc()
            if (mean := caption.transcript.confidence) is not None:
                self._confidence.observe(mean)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
