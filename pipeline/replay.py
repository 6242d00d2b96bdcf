"""Keeps what a session said until it is captioned, to say it again where an actor has died.

Between a session and its chain. Encoder and decoder begin afresh with every segment, so the end of
a segment is all the border that is needed: what was sent of the segments behind it, piece by piece,
is all that the process which ended knew of the session. The segmenter, whose detector learns for as
long as the session lasts, lives with the session and does not die before it.

Unusual: what is sent again makes the same updates as the first time, also those that were shown. So
what is committed, and with it the final captions, are those of a session that nothing happened to.
"""

from collections import deque
from collections.abc import Sequence

from dragoman.errors import PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.runner import ActorDied
from dragoman.stages.messages import SessionOptions, Speech

TRIES = 3  # deaths in a row, with nothing between them that came through


class Replay:
    """What was sent of the segments that have not come through: the open one, and what waits.

    :meth:`reopen` waits for new processes; all else is quick, and is for one thread at a time.
    """

    def __init__(self) -> None:
        self._pieces: list[Speech] = []
        self._under_way: deque[int] = deque()  # pieces of each batch
        self._through = 0  # pieces of those that came through
        self._deaths = 0

    def sent(self, pieces: Sequence[Speech]) -> None:
        """The next batch was sent."""
        self._pieces += pieces
        self._under_way.append(len(pieces))

    def through(self) -> None:
        """The oldest batch under way has come through: segments that ended in it are forgotten."""
        self._deaths = 0
        self._through += self._under_way.popleft()
        for place in range(self._through, 0, -1):
            if self._pieces[place - 1].closes:
                del self._pieces[:place]
                self._through -= place
                return

    def again(self) -> list[Speech]:
        """All that is kept, to be sent as one batch; nothing is under way any more."""
        kept, self._pieces, self._through = self._pieces, [], 0
        self._under_way.clear()
        return kept

    def reopen(self, chain: Chain, session: str, options: SessionOptions, death: ActorDied) -> None:
        """Opens ``session`` again, in new processes where the last ones have ended.

        Raises PipelineError where they cannot be had, or end again and again.
        """
        while True:
            self._deaths += 1
            if self._deaths == TRIES:
                raise PipelineError(
                    f"the process of a stage ended {TRIES} times in a row (killed, or out of "
                    f"memory), and session {session!r} came no further: look at what memory is "
                    "free, or take a smaller model, and start again",
                    kind=death.kind,
                    trace=death.trace,
                ) from death
            chain.drop(session)
            try:
                chain.open(session, options)
                return chain.prepare()
            except ActorDied as again:
                death = again
