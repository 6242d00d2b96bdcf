"""A link on its own: it never raises, and a failure of one session is nobody else's."""

from __future__ import annotations

from typing import Any

from dragoman.models import resident
from dragoman.pipeline.recipes import Recipe
from dragoman.pipeline.runner import Failure, Packet, Runner
from dragoman.stages.messages import CHUNK_SAMPLES, Chunk, SessionOptions, SoftTokens, Speech
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import (
    POISON,
    CountingCaptions,
    CountingSegments,
    CountingTokens,
    Making,
    fakes,
    tone,
)


class Holding(CountingTokens):
    """Keeps its last message back until the end, which fails after a poisoned one."""

    def step(self, item: Speech, state):
        (made,), state = super().step(item, state)
        return [], made

    def flush(self, state):
        if float(state.tokens[0, 0]) < 0:
            raise ArithmeticError("nothing to give")
        return [state]


def items(packet: Packet) -> list[Any]:
    assert not isinstance(packet.items, Failure), packet.items
    return packet.items


def runner(stage=None, error: Exception | None = None) -> Runner:
    made = Runner([Recipe("encode", Making(stage or CountingTokens(), error))])
    made.load()
    return made


def opened(made: Runner, names: str = "abc") -> Runner:
    for name in names:
        made.run([Packet(name, 0, [], options=SessionOptions())])
    return made


def speech(value: float = 0.1) -> list[Speech]:
    return [Speech(0, 0, tone(1, value), opens=True)]


def ends(packets: list[Packet]) -> list:
    return [p.items if isinstance(p.items, Failure) else p.items[-1].end for p in packets]


def test_packets_come_out_in_order_with_what_became_of_them():
    batches = [[Packet("b", 1, speech())], [Packet("a", 1, speech()), Packet("c", 1, [])]]
    out = opened(runner()).run(*batches)
    assert [(p.session, p.seq, p.last) for p in out] == [
        ("b", 1, False),
        ("a", 1, False),
        ("c", 1, False),
    ]
    assert ends(out[:2]) == [CHUNK_SAMPLES] * 2 and out[2].items == []


def test_a_failure_drops_its_session_and_no_other():
    made = opened(runner())
    out = made.run([Packet("a", 1, speech()), Packet("b", 1, speech(POISON)), Packet("c", 3, [])])
    assert ends(out[:1]) == [CHUNK_SAMPLES]
    _, poisoned, early = [p.items for p in out]
    assert isinstance(poisoned, Failure) and isinstance(early, Failure)
    assert (poisoned.stage, poisoned.kind) == ("encode", "ValueError")
    assert "poison at piece 0" in poisoned.message and "fake_stages" in poisoned.trace
    assert early.kind == "SessionError"
    assert made.sessions() == ["a"]


def test_a_failure_of_an_earlier_link_is_passed_on_and_forgets_the_session():
    made = opened(runner())
    failure = Failure("segment", "ValueError", "bad", "")
    out = made.run([Packet("a", 1, failure, last=True), Packet("b", 1, speech())])
    assert out[0].items is failure and ends(out[1:]) == [CHUNK_SAMPLES]
    assert sorted(made.sessions()) == ["b", "c"]


def test_the_last_packet_ends_its_session_and_brings_what_was_held_back():
    made = opened(runner(Holding()))
    out = made.run([Packet("a", 1, speech()), Packet("b", 1, speech(), last=True)])
    assert [len(items(p)) for p in out] == [0, 1]
    assert sorted(made.sessions()) == ["a", "c"]
    (only,) = made.run([Packet("a", 2, [], last=True)])
    assert len(items(only)) == 1 and made.sessions() == ["c"]


def test_an_end_that_fails_is_a_failure_too():
    made = opened(runner(Holding()))
    packets = [Packet("a", 1, speech(-0.5), last=True), Packet("b", 1, speech(), last=True)]
    bad, good = (p.items for p in made.run(packets))
    assert isinstance(bad, Failure) and bad.message == "nothing to give"
    assert isinstance(good, list) and len(good) == 1
    assert made.sessions() == ["c"]


def test_a_stage_that_was_not_made_fails_whatever_is_asked_of_it():
    made = Runner([Recipe("look", Making(None, ValueError("no such folder")))])
    failure = made.load()
    assert failure is not None and failure.message == "no such folder"
    out = made.run([Packet("a", 1, speech()), Packet("b", 2, [], last=True)])
    assert [p.items for p in out] == [failure, failure]
    made.drop("a")
    assert made.sessions() == []


def test_memory_is_given_back_after_loading_and_after_the_first_run(monkeypatch):
    happened = []
    monkeypatch.setattr(resident, "give_back", lambda: happened.append("given back"))
    made = Runner([Recipe("encode", lambda: happened.append("made") or CountingTokens())])
    made.load()
    assert happened == ["made", "given back"]
    opened(made).settle()
    assert happened == ["made", "given back", "given back"]
    assert made.sessions() == ["a", "b", "c"]


def test_every_runner_of_a_chain_gives_memory_back_when_all_are_warm(monkeypatch):
    happened = []
    monkeypatch.setattr(resident, "give_back", lambda: happened.append("given back"))

    class Noting(CountingCaptions):
        def step(self, item: SoftTokens, state):
            happened.append("run")
            return super().step(item, state)

    in_process((*fakes()[:-1], Recipe("translate", Making(Noting())))).stop()
    assert "run" in happened and happened[-3:] == ["run", *["given back"] * 2]


def test_a_session_that_is_open_stays_and_one_may_begin_late():
    """As one that turns into a lane, which alone does not know it."""
    made = opened(runner(CountingSegments()), "a")
    options = SessionOptions()
    again = Packet("a", 1, [], options=options), Packet("late", 7, [], options=options)
    assert [packet.items for packet in made.run([*again])] == [[], []]
    assert [made.run([Packet("late", 8, [])])[0].items, made.sessions()] == [[], ["a", "late"]]


def test_a_session_that_cannot_be_opened_is_a_failure_of_its_own():
    class Picky(CountingTokens):
        def init_state(self, options):
            if options.language == "xx":
                raise ValueError("no such language")
            return 0

    made = runner(Picky())
    packets = [Packet(name, 0, [], options=SessionOptions(language=name)) for name in ("xx", "es")]
    bad, good = (packet.items for packet in made.run(packets))
    assert isinstance(bad, Failure) and bad.message == "no such language"
    assert good == [] and made.sessions() == ["es"]


def test_a_successor_tells_those_whose_sessions_ended_with_the_last_process():
    made = Runner([Recipe("encode", Making(CountingTokens()))], successor=True)
    made.load()
    opened(made, "b")
    lost, known = (p.items for p in made.run([Packet("a", 3, speech()), Packet("b", 1, speech())]))
    assert isinstance(lost, Failure) and "process of a stage ended" in lost.message
    assert lost.stage == "encode" and isinstance(known, list)
    (new,) = made.run([Packet("a", 0, speech(), options=SessionOptions())])
    assert isinstance(new.items, list) and made.sessions() == ["a", "b"]


def test_packets_go_through_all_stages_of_a_route():
    made = Runner(fakes())
    made.load()
    chunks = [Chunk(at * CHUNK_SAMPLES, tone(1)) for at in range(5)]
    (out,) = made.run([Packet("a", 0, chunks, last=True, options=SessionOptions())])
    assert [caption.kind for caption in items(out)] == ["partial"] * 4 + ["final"]
    assert made.sessions() == []


class Holes(CountingTokens):
    """Gives something at every second message."""

    leaves_holes = True

    def step(self, item, state):
        out, state = super().step(item, state)
        return out if state % 2 == 0 else [], state


def test_memory_is_given_back_after_what_leaves_holes(monkeypatch):
    happened = []
    monkeypatch.setattr(resident, "trim", lambda: happened.append("trimmed"))
    made = opened(runner(Holes()), "a")
    happened.clear()  # loading has its own
    for seq, trimmed in ((1, 0), (2, 1), (3, 1)):
        made.run([Packet("a", seq, speech())])
        assert len(happened) == trimmed
