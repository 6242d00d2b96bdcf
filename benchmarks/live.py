"""What a listener gets: `make bench`, on sentences and voices training never had.

Every utterance of the test set goes through the real stages chunk by chunk (segmenter, streaming
encoder, incremental translation with commits), as a live session would send it, one second of faint
noise before and after. Delays here are in audio time, so they do not depend on this machine: how
much later than the end of a word the audio was heard that first showed it, or committed it.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from dragoman.models.words import normalized
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.session import run
from dragoman.pipeline.start import start
from dragoman.spec import ModelSpec
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption
from training.corpus import Corpus, Example, load
from training.evaluate import score

QUIET_SAMPLES = SAMPLE_RATE_HZ
NOISE = 1e-3  # -60 dBFS


@dataclass
class Report:
    """Error rates of final captions; medians and 90th percentiles of delays in ms of audio."""

    utterances: int
    wer: float
    chrf: float
    exact_translations: float
    shown_ms: tuple[float, float]
    committed_ms: tuple[float, float]
    first_partial_ms: tuple[float, float]
    seconds_of_audio: float
    real_time_factor: float


@dataclass
class Tally:
    """What has been collected so far."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


def measure(chain: Chain, corpus: Corpus, count: int) -> Report:
    """The first ``count`` utterances of ``corpus``."""
    rng = np.random.default_rng(1)
    tally, audio, begun = Tally(), 0, time.monotonic()
    for index in range(min(count, len(corpus))):
        example = corpus[index]
        quiet = rng.normal(0, NOISE, len(example.samples) + 2 * QUIET_SAMPLES)
        quiet[QUIET_SAMPLES:-QUIET_SAMPLES] += example.samples.numpy() / 32_768
        audio += len(quiet)
        collect(tally, example, list(run(chain, [quiet.astype(np.float32)], pace="fast")))
    return report(tally, audio / SAMPLE_RATE_HZ, time.monotonic() - begun)


def collect(tally: Tally, example: Example, captions: list[Caption]) -> None:
    """Adds one utterance's captions; its text may be spread over several segments."""
    finals = [caption for caption in captions if caption.kind == "final"]
    tally.heard.append((example.spanish, " ".join(c.transcript.whole for c in finals)))
    tally.said.append((example.english, " ".join(c.translation.whole for c in finals)))
    words = normalized(example.spanish).split()
    ends = [QUIET_SAMPLES + end for end in example.word_ends_samples]
    tally.shown += delays(captions, words, ends, committed=False)
    tally.committed += delays(captions, words, ends, committed=True)
    if captions:
        tally.first.append((captions[0].end - ends[0]) / SAMPLE_RATE_HZ * 1000)


def delays(
    captions: list[Caption], words: list[str], ends: list[int], committed: bool
) -> list[float]:
    """For each true word heard right: ms of audio from its end until it stays in captions."""
    final: dict[int, str] = {}
    since: dict[int, int] = {}
    for caption in captions:
        final[caption.segment] = (
            caption.transcript.committed if committed else caption.transcript.whole
        )
        heard = normalized(" ".join(final.values())).split()
        right = 0
        while right < min(len(heard), len(words)) and heard[right] == words[right]:
            since.setdefault(right, caption.end)
            right += 1
        for index in [i for i in since if i >= right]:
            del since[index]
    return [(end - ends[index]) / SAMPLE_RATE_HZ * 1000 for index, end in since.items()]


def report(tally: Tally, seconds: float, spent: float) -> Report:
    scored = score(tally.heard, tally.said)
    exact = sum(reference == hypothesis for reference, hypothesis in tally.said)
    return Report(
        utterances=scored.utterances,
        wer=round(scored.wer, 4),
        chrf=round(scored.chrf, 2),
        exact_translations=round(exact / max(1, scored.utterances), 3),
        shown_ms=_spread(tally.shown),
        committed_ms=_spread(tally.committed),
        first_partial_ms=_spread(tally.first),
        seconds_of_audio=round(seconds, 1),
        real_time_factor=round(spent / seconds, 3),
    )


def _spread(values: list[float]) -> tuple[float, float]:
    """Median and 90th percentile."""
    if len(values) < 2:
        return (0.0, 0.0)
    return round(statistics.median(values)), round(statistics.quantiles(values, n=10)[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("build/bench"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=300)
    args = parser.parse_args()
    with start(ModelSpec(args.model, threads=1), ray=False) as chain:
        got = measure(chain, load(args.corpus).test, args.count)
    print(json.dumps(asdict(got), indent=2))


if __name__ == "__main__":
    main()
