"""Final captions reach the disk as they come, and nothing that is there is replaced by less."""

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pysubs2
import pytest

from dragoman.errors import InputError
from dragoman.pipeline.inputs import find
from dragoman.pipeline.journal import NAME
from dragoman.pipeline.saving import Saving
from dragoman.stages.messages import Caption, SessionOptions, Text

OPTIONS = SessionOptions()
ROOT = Path(__file__).resolve().parents[2]


def final(segment: int) -> Caption:
    start = segment * 32_000
    text = Text(f"frase {segment}"), Text(f"sentence {segment}")
    return Caption("final", segment, start, start + 24_000, "es", "en", *text)


def source(folder: Path, name: str) -> Path:
    """A file of that name beside ``folder``."""
    path = folder.parent / f"{folder.name} sources" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def of_file(folder: Path, overwrite: bool = False, name: str = "talk.wav") -> Saving:
    return Saving.of_file(folder, source(folder, name), "nano", OPTIONS, overwrite)


def saved(folder: Path, count: int, early: str = "") -> str:
    """What is said at the end of a session with so many captions."""
    saving = of_file(folder)
    try:
        for segment in range(count):
            saving.add(final(segment), 2.0 * segment)
        return saving.end([], early)
    finally:
        saving.close()


def texts(path: Path) -> list[str]:
    return [event.text for event in pysubs2.load(str(path))]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {NAME}


WHOLE = {"talk.es.srt", "talk.es.vtt", "talk.en.srt", "talk.en.vtt", "talk.json"}


def test_every_final_caption_is_on_disk_before_the_next(tmp_path):
    saving = Saving(tmp_path, "talk", "microphone", "nano", OPTIONS, share=math.inf)
    for segment in range(3):
        saving.add(final(segment), 2.0 * segment)
        assert len(texts(tmp_path / "talk.unfinished.es.srt")) == segment + 1
        form = json.loads((tmp_path / "talk.unfinished.json").read_text())
        assert len(form["segments"]) == segment + 1 and "going on" in form["warnings"][0]
    assert saving.end([]) == ""
    assert names(tmp_path) == WHOLE
    assert json.loads((tmp_path / "talk.json").read_text())["warnings"] == []


def test_writing_anew_takes_a_small_share_of_a_long_session(tmp_path):
    saving = Saving(tmp_path, "talk", "microphone", "nano", OPTIONS)
    for segment in range(300):
        saving.add(final(segment), 2.0 * segment)
    assert 1 <= len(texts(tmp_path / "talk.unfinished.es.srt")) < 300
    saving.end([])
    assert len(texts(tmp_path / "talk.es.srt")) == 300


def test_a_session_that_ends_early_says_so_in_its_files(tmp_path):
    assert saved(tmp_path, 2, early="the encoder died") == ""
    assert names(tmp_path) == WHOLE
    assert json.loads((tmp_path / "talk.json").read_text())["warnings"] == [
        "unfinished: the encoder died"
    ]


def test_less_never_replaces_more(tmp_path):
    saved(tmp_path, 3)
    before = {name: (tmp_path / name).read_bytes() for name in WHOLE}
    said = saved(tmp_path, 1, early="the encoder died")
    assert "talk.unfinished.*" in said and "earlier run" in said
    assert {name: (tmp_path / name).read_bytes() for name in WHOLE} == before
    assert len(texts(tmp_path / "talk.unfinished.en.srt")) == 1
    assert saved(tmp_path, 4) == ""
    assert names(tmp_path) > WHOLE and len(texts(tmp_path / "talk.en.srt")) == 4


def test_what_a_killed_session_left_is_told(tmp_path):
    first = of_file(tmp_path)
    assert first.found == ""
    first.add(final(0), 2.0)
    first.close()  # without an end
    said = of_file(tmp_path).found
    assert "talk.wav did not come to its end" in said and "talk.unfinished-2.*" in said


def test_what_a_killed_session_of_a_microphone_left_is_told(tmp_path):
    def heard(name: str) -> Saving:
        return Saving.of_sound(tmp_path, name, "USB Audio", "nano", OPTIONS)

    first = heard("captions-20260101-090000")
    assert first.found == ""
    first.add(final(0), 2.0)
    second = heard("captions-20260102-090000")
    assert "captions-20260101-090000;" in second.found and str(tmp_path) in second.found
    first.end([])
    assert heard("captions-20260103-090000").found == ""


def test_what_a_killed_session_left_is_put_aside(tmp_path):
    for count in (5, 3):
        killed = of_file(tmp_path)
        for segment in range(count):
            killed.share = math.inf
            killed.add(final(segment), 2.0 * segment)
        killed.close()
    assert saved(tmp_path, 1) == ""
    assert len(texts(tmp_path / "talk.unfinished-2.es.srt")) == 5
    assert len(texts(tmp_path / "talk.unfinished-3.es.srt")) == 3
    assert len(texts(tmp_path / "talk.es.srt")) == 1


def test_another_file_of_the_same_name_gets_a_name_of_its_own(tmp_path):
    saved(tmp_path, 3)
    other = of_file(tmp_path, name="talk.mp4")
    other.add(final(0), 2.0)
    other.end([])
    other.close()
    assert len(texts(tmp_path / "talk.es.srt")) == 3
    assert len(texts(tmp_path / "talk.mp4.es.srt")) == 1


def test_a_batch_finds_its_names_again(tmp_path):
    saved(tmp_path, 1)
    (found,), _ = find([source(tmp_path, "talk.wav")], tmp_path)
    assert found.name == "talk"
    (other,), _ = find([source(tmp_path, "talk.mp4")], tmp_path)
    assert other.name != "talk"


def test_a_file_that_was_edited_is_not_replaced_unless_asked(tmp_path):
    saved(tmp_path, 2)
    (tmp_path / "talk.es.srt").write_text("by hand")
    with pytest.raises(InputError, match="talk.es.srt is there already.*--overwrite"):
        of_file(tmp_path)
    of_file(tmp_path, overwrite=True).close()


def test_a_folder_is_one_runs_at_a_time(tmp_path):
    first = of_file(tmp_path)
    with pytest.raises(OSError, match="another run is writing"):
        of_file(tmp_path)
    first.close()
    of_file(tmp_path).close()


FULL_DISK = """
    import math, resource, signal, sys
    from pathlib import Path
    from dragoman.pipeline.saving import Saving
    from tests.pipeline.test_saving import OPTIONS, final
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    saving = Saving(folder, "talk", "microphone", "nano", OPTIONS, share=math.inf)
    saving.add(final(0), 2.0)
    assert not saving.problem
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # nothing can be written
    saving.add(final(1), 4.0)
    assert str(folder) in saving.problem, saving.problem
    if sys.argv[2] == "again":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(saving.end([]))
    else:
        saving.end([])
"""


def on_a_full_disk(folder: Path, then: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(folder), then],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)},
    )  # fmt: skip


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path):
    done = on_a_full_disk(tmp_path, "again")
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
    assert len(texts(tmp_path / "talk.es.srt")) == 2


def test_what_can_be_written_nowhere_is_an_error_with_the_folder(tmp_path):
    done = on_a_full_disk(tmp_path, "never")
    assert done.returncode != 0
    assert f"OSError: cannot write into {tmp_path}: File too large" in done.stderr
    assert len(texts(tmp_path / "talk.unfinished.es.srt")) == 1, "what was written stays"


def test_a_folder_that_is_gone_sends_captions_elsewhere(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    saving = Saving(folder, "talk", "microphone", "nano", OPTIONS)
    folder.rmdir()
    saving.add(final(0), 2.0)
    said = saving.end([])
    assert str(folder) in said
    elsewhere = Path(said.rpartition(" ")[2])
    assert len(texts(elsewhere / "talk.es.srt")) == 1
