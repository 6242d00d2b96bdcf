"""A day of two minutes through a chain in this process, and the table about it."""

from collections import Counter

from benchmarks.long_day import HERE, Day, hear, kind_of, look, rows, table
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import fakes


def test_a_day_is_heard_and_its_memory_noted(tmp_path):
    chain = in_process(fakes())
    chain.model = "nano"
    day = hear(chain, 2, tmp_path)
    chain.stop()
    assert len(day.memory[HERE]) == 2 and min(day.memory[HERE]) > 20
    assert day.words["speech"] > 0 and (tmp_path / "day.json").is_file()


def test_a_process_that_comes_later_has_nothing_before():
    memory = {HERE: [100.0, 100.0]}
    look(memory, 2)
    assert len(memory[HERE]) == 3
    assert all(values[:2] == [0.0, 0.0] for name, values in memory.items() if name != HERE)


def test_the_table_has_each_process_and_its_growth():
    grown = Day({HERE: [10.0] * 6 + [20.0] * 6, "raylet": [30.0] * 12}, Counter(music=3))
    told = dict(rows([grown, grown]))
    assert told[HERE] == [(10.0, 20.0)] * 2 and told["raylet"] == [(30.0, 30.0)] * 2
    text = table([grown, grown], 12)
    assert "| raylet | 30.0 | 30.0 | 30.0 | 30.0 | +0.0 |" in text and "+10.0 |" in text
    assert "| music | 6 |" in text


def test_every_kind_of_sound_has_its_minutes():
    kinds = Counter(kind_of(minute) for minute in range(120))
    assert kinds == {"speech": 48, "noise": 24, "music": 24, "silence": 24}
    assert kind_of(7, "music") == "music"
