"""What docs/extending.md says can be added is added here, in the one place that the page names."""

from pathlib import Path

import numpy as np
import pytest

import dragoman
from dragoman.models import languages
from dragoman.models.prompt import prompt_text
from dragoman.pipeline import formats
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.outputs import planned
from dragoman.pipeline.subtitles import write
from dragoman.stages.policies import commit

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
TALK = Path(__file__).resolve().parents[1] / "samples" / "talk.wav"


def code_of(heading: str) -> str:
    """The first indented block below a heading of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = section.split("\n")
    begin = next(at for at, line in enumerate(lines) if line.startswith("    "))
    end = next(
        (at for at in range(begin, len(lines)) if lines[at] and not lines[at].startswith("    ")),
        len(lines),
    )
    return "\n".join(line[4:] for line in lines[begin:end])


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    return np.concatenate(list(read_audio(TALK)))[: 5 * 16_000]


def test_a_language(monkeypatch):
    line = code_of("A language").strip()
    language = languages.read(line)
    monkeypatch.setitem(languages.LANGUAGES, language.code, language)
    monkeypatch.setitem(languages.SAID, "guarani", language)
    monkeypatch.setitem(languages.SAID, "gn", language)
    assert languages.find("Guarani").code == "gn"
    assert "in Guarani, then translate it into English" in prompt_text("gn", "en")[0]


def test_a_commit_policy(monkeypatch, talk):
    names: dict = {"POLICIES": dict(commit.POLICIES)}
    exec(code_of("A commit policy"), names)
    monkeypatch.setattr(commit, "POLICIES", names["POLICIES"])
    found = list(dragoman.caption(talk, dragoman.Options(commit_policy="everything"), pace="fast"))
    partial = [caption for caption in found if caption.kind == "partial"]
    assert partial and all(not caption.transcript.tail for caption in partial)


def test_the_policies_that_there_are_hold_back_less_and_more(talk):
    tails = {}
    for name in commit.POLICIES:
        options = dragoman.Options(commit_policy=name)
        found = list(dragoman.caption(talk, options, pace="fast"))
        finals = [caption for caption in found if caption.kind == "final"]
        assert finals and all(not caption.transcript.tail for caption in finals)
        tails[name] = sum(len(caption.transcript.tail) for caption in found)
    assert len(set(tails.values())) == len(tails) > 1


def test_a_source(talk):
    received = iter([*np.array_split(talk, 7), None])
    names: dict = {"receive": lambda: next(received)}
    exec(code_of("A source").split("\n\n")[0], names)
    with dragoman.Captioner() as captioner:
        found = list(captioner.caption(names["radio"](), pace="fast"))
    assert found[-1].kind == "final"


def test_an_output_format(monkeypatch, tmp_path):
    added: dict = {}
    exec(code_of("An output format"), {"FORMATS": added})
    monkeypatch.setitem(formats.FORMATS, "lrc", added["lrc"])
    outputs = planned("talk", dragoman.Options(), ["lrc"], ["transcript", "translation"])
    assert [output.file for output in outputs] == ["talk.es.lrc", "talk.en.lrc"]
    write([formats.Cue(61_500, 63_000, ("Hola a", "todos."))], tmp_path / "talk.es.lrc")
    assert (tmp_path / "talk.es.lrc").read_text() == "[01:01.50]Hola a todos.\n"


def test_text_and_table_formats_hold_what_was_said(tmp_path):
    cues = [formats.Cue(0, 1_500, ("¿Qué\ttal?", "Bien.")), formats.Cue(1_500, 3_000, ("{Sí}",))]
    assert formats.FORMATS["txt"](cues) == "¿Qué\ttal? Bien.\n{Sí}\n"
    assert formats.FORMATS["tsv"](cues).splitlines() == [
        "start\tend\ttext", "0\t1500\t¿Qué tal? Bien.", "1500\t3000\t{Sí}"
    ]  # fmt: skip
