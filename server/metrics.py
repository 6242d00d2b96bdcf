"""What the server counts and measures, in the text form of Prometheus.

Below everything of the server. Speech, names and addresses of clients are in none of it. Each app
has a registry of its own, so two in one process do not add up.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dragoman.stages.messages import Caption

LATENCIES_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Metrics:
    """The server's figures."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.sessions = Gauge(
            "dragoman_sessions", "Sessions that run.", ["kind"], registry=registry
        )
        self.viewers = Gauge("dragoman_viewers", "Open streams of viewers.", registry=registry)
        self.waiting_s = Gauge(
            "dragoman_waiting_sound_seconds",
            "Sound of live sessions that is not yet heard.",
            registry=registry,
        )
        self.lag_s = Gauge(
            "dragoman_lag_seconds",
            "Most of that of one live session: how far its captions are behind.",
            registry=registry,
        )
        self.ended = Counter(
            "dragoman_sessions_ended", "Sessions by how they ended.", ["kind", "how"],
            registry=registry,
        )  # fmt: skip
        self._refusals = Counter(
            "dragoman_refusals", "What was refused, by its code.", ["code"], registry=registry
        )
        self.heard_s = Counter(
            "dragoman_heard_sound_seconds", "Sound that sessions took.", ["kind"], registry=registry
        )
        self._captions = Counter(
            "dragoman_captions", "Captions, by kind.", ["kind"], registry=registry
        )
        self._guards = Counter(
            "dragoman_guards", "Answers of the model that were not shown.", ["guard"],
            registry=registry,
        )  # fmt: skip
        self._sizes = Counter(
            "dragoman_sizes", "Final captions, by the size of the model.", ["size"],
            registry=registry,
        )  # fmt: skip
        self._latencies = Histogram(
            "dragoman_latency_seconds",
            "From the arrival of sound to a caption of it (partial), or of what ended a segment to "
            "its final caption (response).",
            ["kind"],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self._confidence = Histogram(
            "dragoman_confidence", "Mean confidence of final transcripts.", buckets=SHARES,
            registry=registry,
        )  # fmt: skip

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
