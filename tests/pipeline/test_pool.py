import os
import signal
import time
from dataclasses import dataclass, field

import pytest

from dragoman.errors import PipelineError
from dragoman.pipeline.actors import InProcess
from dragoman.pipeline.batch_file import Advanced
from dragoman.pipeline.pool import TRIES, Job, Pool
from dragoman.pipeline.recipes import Recipe
from dragoman.stages.messages import Caption, SessionOptions, Speech
from tests.pipeline.batches import batch, ray_of_our_own, records, run, sound
from tests.pipeline.chains import pool_of
from tests.pipeline.fake_stages import CountingTokens, Deadly, Making, fakes, tone
from tests.pipeline.slow_cli import Pausing


@pytest.fixture(scope="module", autouse=True)
def with_ray():
    with ray_of_our_own():
        yield


def test_a_killed_worker_is_replaced_and_its_segment_done_again(tmp_path):
    stages = (*fakes(), Recipe("pause", Making(Pausing(0.1))))
    workers = pool_of(stages[1:], workers=2, batch_size=2)
    for name in ("a", "b"):
        sound(tmp_path / f"{name}.wav", 80)
    made = batch([tmp_path], stages=stages)
    victims = workers.pids()
    results, killed = list(made.prepare()), []
    for event in made.run(workers):
        if not isinstance(event, Advanced):
            results.append(event)
        elif len(killed) < 2 and event.until_s > 2 * (1 + len(killed)):
            killed.append(victims[len(killed)])
            os.kill(killed[-1], signal.SIGKILL)
    made.close()
    assert len(killed) == 2 and not set(workers.pids()) & set(victims)
    assert [(r.status, r.segments) for r in results] == [("done", 16)] * 2
    done = [(r["name"], r["index"]) for r in records(tmp_path) if r["kind"] == "segment"]
    assert len(done) == len(set(done)) == 32
    workers.stop()


def test_a_segment_that_kills_every_worker_is_given_up(tmp_path):
    segment, _, translate = fakes()
    stages = (segment, Recipe("encode", Making(Deadly())), translate)
    workers = pool_of(stages[1:], workers=2)
    sound(tmp_path / "a.wav", 20)
    sound(tmp_path / "b deadly.wav", 20, poisoned=1)
    sound(tmp_path / "c.wav", 20)
    results = run(batch([tmp_path], stages=stages), workers)
    workers.stop()
    assert [results[name].status for name in ("a.wav", "c.wav")] == ["done", "done"]
    bad = results["b deadly.wav"]
    assert bad.status == "failed" and not bad.bad_input
    assert f"its segment at 0.0 s failed: the process that worked on it ended {TRIES} times" in (
        bad.reason
    )


@dataclass
class Noting(CountingTokens):
    """Notes how many segments come together; each call gives others the time to arrive."""

    calls: list[int] = field(default_factory=list[int])

    def step_batch(self, items, states):
        self.calls.append(len(items))
        time.sleep(0.2)
        return [self.step(item, state) for item, state in zip(items, states, strict=True)]


def test_segments_that_wait_share_a_call(tmp_path):
    segment, _, translate = fakes()
    noting = Noting()
    stages = (segment, Recipe("encode", Making(noting)), translate)
    for number in range(9):
        sound(tmp_path / f"{number}.wav", 5)
    workers = Pool.start(InProcess(), stages[1:], 1, batch_size=4)
    results = run(batch([tmp_path], stages=stages), workers)
    workers.stop()
    assert {result.status for result in results.values()} == {"done"}
    assert max(noting.calls) == 4 and sum(noting.calls) == 9


def test_a_segment_that_kills_a_shared_call_costs_the_others_of_it_nothing(tmp_path):
    segment, _, translate = fakes()
    stages = (segment, Recipe("encode", Making(Deadly())), translate)
    for number in range(6):
        sound(tmp_path / f"{number}.wav", 5, poisoned=1 if number == 2 else None)
    workers = pool_of(stages[1:], workers=1)
    results = run(batch([tmp_path], stages=stages), workers)
    workers.stop()
    assert [name for name, result in results.items() if result.status == "failed"] == ["2.wav"]


def test_a_segment_is_not_blamed_for_a_process_that_ended_while_it_was_idle():
    workers = pool_of(fakes()[1:], workers=1)
    (victim,) = workers.pids()
    os.kill(victim, signal.SIGKILL)
    piece = Speech(0, 0, tone(1), opens=True, closes=True)
    workers.submit(Job("a.wav", piece, SessionOptions()))
    done = []
    while workers.busy:
        done += workers.collect()
    ((job, outcome),) = done
    assert isinstance(outcome, Caption) and job.deaths == 0
    assert workers.pids() != [victim]
    workers.stop()


def test_a_model_that_cannot_be_loaded_stops_the_start():
    broken = Recipe("translate", Making(None, ValueError("no such folder")))
    with pytest.raises(PipelineError, match="no such folder") as raised:
        pool_of([broken], workers=2)
    assert (raised.value.stage, raised.value.kind) == ("translate", "ValueError")
