"""The file with the last lines, which streaming software reads."""

from pathlib import Path
from typing import Literal

import pytest

from dragoman.demos.choice import Choice
from dragoman.demos.text_file import TextFile, wrapped
from dragoman.errors import InputError
from dragoman.stages.messages import Caption, Text

ENGLISH = Choice(["en"])


def caption(segment: int, said: str, kind: Literal["partial", "final"] = "partial") -> Caption:
    return Caption(kind, segment, 0, 1, "es", "en", Text("hola"), Text(said))


def test_it_has_the_last_two_lines_and_nothing_before_and_after(tmp_path):
    file = tmp_path / "obs.txt"
    file.write_text("of another day")
    warned: list[str] = []
    with TextFile(file, ENGLISH, warned.append) as text:
        assert file.read_text() == ""
        text.show(caption(0, "We waited"))
        assert file.read_text() == "We waited\n"
        text.show(
            caption(0, "We waited for a train that never came, and then we went home.", "final")
        )
        assert file.read_text() == (
            "We waited for a train that never came, and\nthen we went home.\n"
        )
        text.show(caption(1, "And"))
        assert file.read_text() == "then we went home.\nAnd\n"
        text.show(caption(1, "", "final"))
        assert file.read_text().startswith("We waited")
    assert file.read_text() == "" and list(tmp_path.iterdir()) == [file] and not warned


def test_who_reads_it_sees_the_lines_of_one_moment(tmp_path):
    """It is another file each time, so an open one does not change."""
    file = tmp_path / "obs.txt"
    with TextFile(file, ENGLISH, print) as text:
        text.show(caption(0, "one"))
        with file.open() as reader:
            text.show(caption(0, "two"))
            assert reader.read() == "one\n" and file.read_text() == "two\n"


def test_a_folder_that_goes_is_told_once_and_one_that_was_never_there_at_once(tmp_path):
    folder = tmp_path / "away"
    folder.mkdir()
    warned: list[str] = []
    with TextFile(folder / "obs.txt", ENGLISH, warned.append) as text:
        (folder / "obs.txt").unlink()
        folder.rmdir()
        text.show(caption(0, "one"))
        text.show(caption(0, "two"))
        folder.mkdir()
        text.show(caption(0, "three"))
        assert (folder / "obs.txt").read_text() == "three\n"
    assert len(warned) == 1 and "obs.txt" in warned[0]
    with pytest.raises(InputError, match="cannot write"):
        TextFile(Path(tmp_path / "nowhere" / "obs.txt"), ENGLISH, print)


def test_lines_are_counted_in_columns():
    assert wrapped("ab cd ef", 5) == ["ab cd", "ef"]
    assert wrapped("日本語", 4) == ["日本", "語"]
    assert wrapped("incomprehensible a", 5) == ["incomprehensible", "a"]


def test_the_next_choice_is_the_transcript_and_then_the_translation_again():
    choice, said = Choice(["en", "es"]), []
    for _ in range(3):
        said.append(choice.text(caption(0, "hello")).whole)
        choice.next()
    assert said == ["hello", "hola", "hello"]
