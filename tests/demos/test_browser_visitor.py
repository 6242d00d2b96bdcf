"""A visitor whose link is ended by one thread while another looks at it."""

import asyncio

from dragoman.demos.browser_visitor import Shared, Visitor
from dragoman.server.streams import Transcript
from dragoman.stages.messages import SessionOptions


class Ending(Visitor):
    """Its link is there once, and ended by the next look: the worst moment."""

    looks: list[Shared]

    @property
    def shared(self) -> Shared | None:
        return self.looks.pop() if self.looks else None

    @shared.setter
    def shared(self, shared: Shared | None) -> None:
        self.looks = []


def test_a_link_that_ends_while_a_caption_comes_does_not_end_the_session(tmp_path):
    def nobody(*args):
        raise AssertionError("no session was asked for")

    async def tell() -> None:
        visitor = Ending(tmp_path / "visitor", SessionOptions(), nobody, nobody)
        visitor.looks = [Shared(Transcript())]
        visitor._told()

    asyncio.run(tell())
