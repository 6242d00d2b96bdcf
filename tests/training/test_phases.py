"""The plan of a run."""

import pytest

from training.optimizing import WARMUP_STEPS, rate
from training.phases import HEARING, READING, TOGETHER, current, phases

PLAN = phases(0.25, 0.6)


@pytest.mark.parametrize(
    "share, name, over",
    [
        (0.0, HEARING, 0.0),
        (0.125, HEARING, 0.5),
        (0.25, READING, 0.0),
        (0.6, TOGETHER, 0.0),
        (0.8, TOGETHER, 0.5),
        (1.0, TOGETHER, 1.0),
        (1.3, TOGETHER, 1.0),
    ],
)
def test_phases_follow_the_share_of_the_time(share, name, over):
    phase, done = current(PLAN, share)
    assert phase.name == name and done == pytest.approx(over)


def test_a_phase_warms_up_and_falls():
    phase, _ = current(PLAN, 0.3)
    warming = [rate(phase, 0.0, step) for step in range(WARMUP_STEPS)]
    assert warming == sorted(warming) and warming[0] < 0.02 * warming[-1]
    falling = [rate(phase, over / 10, WARMUP_STEPS) for over in range(11)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] / falling[0] == pytest.approx(phase.last / phase.first)
