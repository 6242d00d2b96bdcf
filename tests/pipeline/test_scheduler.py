"""The dispatcher over links that answer when the test says so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Queue
from typing import Any

import pytest

from dragoman.pipeline.runner import Packet
from dragoman.pipeline.scheduler import AHEAD, Scheduler
from tests.waiting import PATIENCE_S

NEVER_S = 0.1


@dataclass
class Call:
    """A call of a link, to be answered; each link appends its number to the items."""

    link: int
    packets: list[Packet]
    last: bool
    done: Future = field(default_factory=Future)

    @property
    def names(self) -> list[str]:
        return [packet.session for packet in self.packets]

    def answer(self) -> None:
        out = [
            p._replace(items=[*p.items, self.link])
            for p in self.packets
            if isinstance(p.items, list)
        ]
        self.packets = out
        self.done.set_result(out if self.last else True)


class Links:
    """Notes calls, in order; a handle is the call itself."""

    def __init__(self) -> None:
        self.calls: Queue[Call] = Queue()

    def start(self, link: int, batches: list[Any], last: bool) -> tuple[Call, Future]:
        packets = [p for b in batches for p in (b.packets if isinstance(b, Call) else b)]
        call = Call(link, packets, last)
        self.calls.put(call)
        return call, call.done

    def next(self) -> Call:
        return self.calls.get(timeout=PATIENCE_S)

    def quiet(self) -> bool:
        """Nobody calls a link for a while."""
        try:
            self.calls.get(timeout=NEVER_S)
        except Exception:
            return True
        return False


@pytest.fixture
def links() -> Links:
    return Links()


@pytest.fixture
def dispatcher(links) -> Iterator[Scheduler]:
    made = Scheduler(links.start)
    yield made
    made.stop()


def send(dispatcher: Scheduler, session: str, seq: int = 0, route=(0, 1)) -> Future:
    return dispatcher.send(Packet(session, seq, [f"{session}{seq}"]), route)


def filled(links: Links, dispatcher: Scheduler) -> tuple[Call, list[str]]:
    """A call of link 1 that is under way, and those who wait for the next: enough to rest."""
    send(dispatcher, "x")
    links.next().answer()
    slow = links.next()
    assert (slow.link, slow.names) == (1, ["x"])
    ahead = [f"y{number}" for number in range(AHEAD)]
    for name in ahead:
        send(dispatcher, name)
        call = links.next()
        assert (call.link, call.names) == (0, [name])
        call.answer()
    return slow, ahead


def test_a_packet_goes_through_its_links(links, dispatcher):
    future = send(dispatcher, "a", route=(0, 2, 1))
    for link, last in ((0, False), (2, False), (1, True)):
        call = links.next()
        assert (call.link, call.names, call.last) == (link, ["a"], last)
        assert not future.done()
        call.answer()
    assert future.result(PATIENCE_S) == ["a0", 0, 2, 1]


def test_what_arrives_while_a_link_is_busy_goes_together(links, dispatcher):
    futures = [send(dispatcher, "a")]
    first = links.next()
    futures += [send(dispatcher, name) for name in "bcd"]
    assert links.quiet(), "one call of a link at a time"
    first.answer()
    assert {(c.link, *c.names) for c in (links.next(), links.next())} == {
        (1, "a"),
        (0, "b", "c", "d"),
    }
    assert not any(future.done() for future in futures)


def test_links_work_at_the_same_time_but_not_far_ahead(links, dispatcher):
    """While enough waits for the second link the first rests, and collects."""
    slow, ahead = filled(links, dispatcher)
    for name in "cd":
        send(dispatcher, name)
    assert links.quiet()
    slow.answer()
    calls = {call.link: call.names for call in (links.next(), links.next())}
    assert calls == {0: ["c", "d"], 1: ahead}


def test_no_session_is_twice_in_a_call_and_its_order_is_kept(links, dispatcher):
    futures = [send(dispatcher, "a", 0)]
    first = links.next()
    futures += [send(dispatcher, "a", 1), send(dispatcher, "a", 2), send(dispatcher, "b", 0)]
    first.answer()
    seen = [(0, "a", 0)]
    while len(seen) < 8:
        call = links.next()
        seen += [(call.link, p.session, p.seq) for p in call.packets]
        assert len(set(call.names)) == len(call.names)
        call.answer()
    for link in (0, 1):
        assert [s for s in seen if s[:2] == (link, "a")] == [(link, "a", n) for n in range(3)]
    assert [f.result(PATIENCE_S)[0] for f in futures] == ["a0", "a1", "a2", "b0"]


def test_nobody_is_overtaken_by_their_own_next_packet(links, dispatcher):
    """The first one's way is not free; the second would have another, as behind a picture."""
    busy, _ = filled(links, dispatcher)
    first, second = send(dispatcher, "a", 0), send(dispatcher, "a", 1, route=(0, 2, 1))
    assert links.quiet()
    send(dispatcher, "film", route=(0, 2, 1))
    film = links.next()
    assert (film.link, film.names) == (0, ["film"]), "a way that is free"
    film.answer()
    busy.answer()
    seen = []
    while len(seen) < 5:
        call = links.next()
        seen += [(call.link, p.seq) for p in call.packets if p.session == "a"]
        call.answer()
    for link in (0, 1):
        assert [seq for at, seq in seen if at == link] == [0, 1]
    assert first.result(PATIENCE_S) == ["a0", 0, 1] and second.result(PATIENCE_S) == ["a1", 0, 2, 1]


def test_another_way_is_another_call_and_blocks_nobody(links, dispatcher):
    """A session in the lane waits there; the others go on."""
    send(dispatcher, "a", 0)
    first = links.next()
    film = send(dispatcher, "film", 0, route=(0, 2, 1))
    other = send(dispatcher, "b", 0)
    first.answer()
    lane = None
    for _ in range(5):  # a and b through link 1, film and b through link 0, film in the lane
        call = links.next()
        assert call.names in (["a"], ["b"], ["film"])
        if call.link == 2:
            lane = call
        else:
            call.answer()
    assert other.result(PATIENCE_S) == ["b0", 0, 1]
    assert lane is not None and not film.done()
    lane.answer()
    links.next().answer()
    assert film.result(PATIENCE_S) == ["film0", 0, 2, 1]


def test_ways_that_have_met_go_together(links, dispatcher):
    send(dispatcher, "a")
    links.next().answer()
    busy = links.next()
    send(dispatcher, "film", route=(0, 2, 1))
    links.next().answer()
    lane = links.next()
    send(dispatcher, "b")
    links.next().answer()
    lane.answer()
    assert links.quiet()
    busy.answer()
    assert links.next().names == ["b", "film"]


def test_a_call_that_fails_fails_those_in_it_alone(links, dispatcher):
    lost = send(dispatcher, "a")
    call = links.next()
    kept = send(dispatcher, "b")
    call.done.set_exception(ConnectionError("the process died"))
    with pytest.raises(ConnectionError, match="the process died"):
        lost.result(PATIENCE_S)
    links.next().answer()
    links.next().answer()
    assert kept.result(PATIENCE_S) == ["b0", 0, 1]


def test_a_link_that_cannot_be_called_fails_the_packet(dispatcher):
    def refusing(link, batches, last):
        raise RuntimeError("no more calls")

    refused = Scheduler(refusing)
    with pytest.raises(RuntimeError, match="no more calls"):
        send(refused, "a").result(PATIENCE_S)
    refused.stop()


def test_what_has_not_set_out_can_be_forgotten(links, dispatcher):
    on_its_way = send(dispatcher, "a", 0)
    call = links.next()
    waiting, other = send(dispatcher, "a", 1), send(dispatcher, "b")
    dispatcher.forget("a")
    with pytest.raises(RuntimeError, match="dropped"):
        waiting.result(PATIENCE_S)
    call.answer()
    for _ in range(3):
        links.next().answer()
    assert on_its_way.result(PATIENCE_S)[0] == "a0" and other.result(PATIENCE_S)[0] == "b0"
    assert links.quiet()


def test_stopping_fails_what_is_on_its_way_and_what_comes_later(links, dispatcher):
    called, waiting = send(dispatcher, "a"), send(dispatcher, "b")
    call = links.next()
    dispatcher.stop()
    later = send(dispatcher, "c")
    for future in (called, waiting, later):
        with pytest.raises(RuntimeError, match="stopped"):
            future.result(PATIENCE_S)
    call.answer()  # an answer that comes late hurts nobody
    assert links.quiet()
