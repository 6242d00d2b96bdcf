"""One recording of a page, and what was not heard between two: parts of a live transcript."""

from dataclasses import dataclass, replace

from dragoman.demos.browser_runs import PageSession
from dragoman.server.feed import Feed
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text


@dataclass(frozen=True)
class Hole:
    """Sound between two samples that was not heard, and why."""

    start: int
    end: int
    why: str

    @property
    def sentence(self) -> str:
        return f"{(self.end - self.start) / SAMPLE_RATE_HZ:.0f} s were not heard: {self.why}"


@dataclass
class Recording:
    """One uninterrupted recording and its session; ``start`` is where it begins in the whole,
    ``hole`` what is missing before it, ``settled`` how many of its captions are rows.
    """

    start: int
    feed: Feed
    run: PageSession
    hole: Hole | None
    settled: int = 0

    @property
    def end(self) -> int:
        return self.start + self.feed.samples

    @property
    def told(self) -> int:
        """Where its captions end; what it heard behind them is lost if it failed."""
        finals, partial = self.run.captions()
        newest = [*finals[-1:], *([partial] if partial else [])]
        return self.start + (newest[-1].end if newest else 0)

    def moved(self, caption: Caption) -> Caption:
        """``caption`` in times of the whole."""
        return moved(caption, self.start)


def moved(caption: Caption, by: int) -> Caption:
    """``caption`` so many samples later."""
    return replace(caption, start=caption.start + by, end=caption.end + by)


def kept(partial: Caption) -> list[Caption]:
    """What stays of a caption whose segment will never end: its committed words."""
    said, written = Text(partial.transcript.committed), Text(partial.translation.committed)
    final = replace(partial, kind="final", transcript=said, translation=written)
    return [final] if said.whole else []
