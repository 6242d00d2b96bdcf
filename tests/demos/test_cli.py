import errno
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from dragoman import errors
from dragoman.demos import captions as command
from dragoman.demos import cli
from dragoman.demos.terminal import PlainLines
from dragoman.errors import CheckpointError, PipelineError
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.journal import NAME
from dragoman.pipeline.runner import Failure
from tests.nano_like import read_config
from tests.pipeline import media_files
from tests.pipeline.batches import as_saved, without_words
from tests.pipeline.chains import in_process
from tests.pipeline.fake_stages import POISON, Making, fakes, tone
from tests.pipeline.mortal import Mortal
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
CHUNK_S = 0.16


def write_wav(path: Path, seconds: float, value: float = 0.1) -> Path:
    samples = np.full(round(seconds * 16_000), value * 32768, np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def talk(tmp_path):
    return write_wav(tmp_path / "talk.wav", 7 * CHUNK_S)


@pytest.fixture
def any_pair(tiny_folder, tmp_path):
    """A model folder that declares no pairs of languages, as official ones do."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "models" / "tiny"))
    config = read_config(folder)
    del config["language_pairs"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(command, "start", lambda request: in_process(fakes()))


def captions(*args) -> int:
    return cli.main(["captions", "--pace", "fast", *map(str, args)])


def test_json_prints_events_and_nothing_else(talk, capsys):
    assert captions("--file", talk, "--json") == errors.OK
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["seq"] for event in events] == list(range(8))
    assert [event["kind"] for event in events].count("final") == 2
    assert events[-1]["end"] == 1.12 and events[-1]["target_language"] == "en"
    assert err == ""


def test_a_file_may_stand_alone(talk, capsys):
    assert captions("--file", talk) == errors.OK
    with_option = capsys.readouterr().out
    assert captions(talk) == errors.OK
    assert capsys.readouterr().out == with_option != ""


def test_without_a_terminal_finished_segments_are_plain_lines(talk, capsys):
    assert captions("--file", talk) == errors.OK
    assert capsys.readouterr().out == (
        "[0:00.0] w0 w1 w2 w3 w4\n         W0 W1 W2 W3 W4\n[0:00.8] w0 w1 w2\n         W0 W1 W2\n"
    )


def test_files_are_written_for_both_languages(talk, any_pair, tmp_path, capsys):
    folder = tmp_path / "deep" / "out"
    args = ["--model", any_pair, "--target_language=it", "--json"]
    assert captions("--file", talk, "-o", folder, *args) == errors.OK
    assert {path.name for path in folder.iterdir()} == {
        "talk.es.srt", "talk.es.vtt", "talk.it.srt", "talk.it.vtt", "talk.json", NAME
    }  # fmt: skip
    assert "w0 w1 w2 w3 w4" in (folder / "talk.es.srt").read_text()
    assert "W0 W1 W2 W3 W4" in (folder / "talk.it.vtt").read_text()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    form = json.loads((folder / "talk.json").read_text())
    assert (form["source"], form["model"], form["duration"]) == ("talk.wav", "tiny", 1.12)
    finals = [as_saved(event) for event in events if event["kind"] == "final"]
    assert without_words(form["segments"]) == finals
    assert form["options"]["target_language"] == "it" and form["warnings"] == []


def test_the_formats_that_are_asked_for_are_saved_beside_the_document(talk, tmp_path, capsys):
    folder = tmp_path / "out"
    assert captions("--file", talk, "-o", folder, "-f", "ass,ttml") == errors.OK
    assert {path.name for path in folder.iterdir()} == {
        "talk.es.ass", "talk.en.ass", "talk.es.ttml", "talk.en.ttml", "talk.json", NAME
    }  # fmt: skip
    assert captions("--file", talk, "-o", folder, "-f", "doc") == errors.USAGE
    assert "output format 'doc' is not known" in capsys.readouterr().err
    assert captions("--file", talk, "-f", "ass") == errors.USAGE
    assert "-f says what is saved: give the folder for it with -o" in capsys.readouterr().err


def test_the_sound_track_that_is_asked_for_is_heard(tmp_path, capsys):
    film = media_files.write_tracks(tmp_path / "a.mkv", ("eng", tone(30)), ("spa", tone(10)))
    for track, count in ((1, 6), (2, 2)):
        assert captions("--file", film, "--audio-track", track) == errors.OK
        assert len(capsys.readouterr().out.splitlines()) == 2 * count
    assert captions("--file", film, "--audio-track", 3) == errors.NO_INPUT
    assert "a.mkv has no sound track 3: choose one of 1 to 2" in capsys.readouterr().err
    assert cli.main(["captions", "--audio-track", "2"]) == errors.USAGE
    assert "--audio-track is for a file" in capsys.readouterr().err


def test_a_reference_gives_the_word_error_rate_on_stderr(talk, tmp_path, capsys):
    reference = tmp_path / "talk.es.txt"
    reference.write_text("W0, w1 w2; w3 w4. W0 w1 w2 w3 w9!")
    assert captions("--file", talk, "--json", "--reference", reference) == errors.OK
    assert "WER 20.0%" in capsys.readouterr().err


def test_a_silent_file_gives_no_text_and_says_so(tmp_path, capsys, monkeypatch):
    from dragoman.pipeline.recipes import Recipe
    from dragoman.stages.segment import SegmentStage

    stages = (Recipe("segment", Making(SegmentStage())), *fakes()[1:])
    monkeypatch.setattr(command, "start", lambda request: in_process(stages))
    silent = write_wav(tmp_path / "silent.wav", 2, 0.0)
    assert captions("--file", silent, "--json") == errors.OK
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"no speech was heard in .*silent\.wav\n", err)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["captions", "--file", "TALK", "--microphone", "0"], errors.USAGE, "--microphone"),
        (["captions", "--file", "TALK", "--language", "xx"], errors.USAGE, "unknown language 'xx'"),
        (
            ["translate", "TALK", "--language", "it"],
            errors.USAGE,
            "nano does not translate it to en",
        ),
        (["demo", "--target-language", "de"], errors.USAGE, "nano does not translate es to de"),
        (
            ["captions", "--file", "TALK", "--language", "xx", "--model", "ANY"],
            errors.USAGE,
            "choose xh (Xhosa)",
        ),
        (["captions", "--file", "TALK", "--target-language", "es"], errors.USAGE, "both 'es'"),
        (
            ["captions", "--file", "TALK", "--target-language", "es", "--model", "ANY"],
            errors.USAGE,
            "both 'es'",
        ),
        (["captions", "--file", "TALK", "--device", "tpu"], errors.USAGE, "'cpu', 'cuda'"),
        (["translate", "TALK", "--device", "cuda:1"], errors.USAGE, "'cpu', 'cuda'"),
        (["demo", "--device", "tpu"], errors.USAGE, "'cpu', 'cuda'"),
        (["captions", "--file", "TALK", "--langage", "es"], errors.USAGE, "--language"),
        (["captions", "--file", "TALK", "--pace", "slow"], errors.USAGE, "real-time"),
        (["captions", "--file", "TALK", "--no-ray", "--address", "auto"], errors.USAGE, "--no-ray"),
        (["nonsense"], errors.USAGE, "nonsense"),
        (["captions", "--file", "FOLDER/none.wav"], errors.NO_INPUT, "does not exist"),
        (["captions", "--file", "FOLDER"], errors.NO_INPUT, "is a folder"),
        (["captions", "--file", "FOLDER/empty.wav"], errors.NO_INPUT, "is empty"),
        (["captions", "--file", "FOLDER/text.wav"], errors.NO_INPUT, "not a media file"),
        (
            ["captions", "--file", "TALK", "--reference", "FOLDER/none.txt"],
            errors.NO_INPUT,
            "none.txt",
        ),
        (
            ["captions", "--file", "TALK", "--reference", "FOLDER/empty.wav"],
            errors.NO_INPUT,
            "empty",
        ),
        (["captions", "--file", "TALK", "-o", "TALK"], errors.FAILED, "talk.wav (it is a file)"),
        (["captions", "TALK", "--file", "TALK"], errors.USAGE, "one file at a time"),
        (["captions", "TALK", "--microphone", "0"], errors.USAGE, "--microphone"),
        (["captions", "FOLDER/none.wav"], errors.NO_INPUT, "does not exist"),
    ],
)
def test_mistakes_are_one_line_and_a_code(args, code, message, talk, any_pair, tmp_path, capsys):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("these are words, not waves")
    stand_ins = {"TALK": str(talk), "FOLDER": str(tmp_path), "ANY": str(any_pair)}
    for name, path in stand_ins.items():
        args = [arg.replace(name, path) for arg in args]
    assert cli.main(args) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dragoman: ") and message in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure.of("encode", CheckpointError("no model at 'x'")).error(), errors.USAGE),
        (Failure.of("segment", ModuleNotFoundError("No module named 'webrtcvad'")).error(),
         errors.NO_DEPENDENCY),
        (ImportError("No module named 'av'"), errors.NO_DEPENDENCY),
        (PipelineError("the process of a stage ended"), errors.FAILED),
        (KeyError("surprise"), errors.FAILED),
        (KeyboardInterrupt(), errors.INTERRUPTED),
    ],
)  # fmt: skip
def test_what_fails_at_the_start_has_its_code_and_no_traceback(
    error, code, talk, capsys, monkeypatch
):
    def start(request):
        raise error

    monkeypatch.setattr(command, "start", start)
    assert captions("--file", talk) == code
    assert "Traceback" not in capsys.readouterr().err
    assert captions("--file", talk, "--debug") == code


def test_a_session_that_fails_keeps_what_was_finished(tmp_path, capsys):
    samples = np.full(round(8 * CHUNK_S * 16_000), 0.1 * 32768, np.int16)
    samples[round(6.5 * CHUNK_S * 16_000)] = POISON * 32768
    path = write_wav(tmp_path / "bad.wav", 0.1)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    assert captions("--file", path, "-o", tmp_path) == errors.FAILED
    assert "failed in stage 'encode'" in capsys.readouterr().err
    form = json.loads((tmp_path / "bad.json").read_text())
    assert len(form["segments"]) == 1
    assert form["warnings"][0].startswith("unfinished: ") and "encode" in form["warnings"][0]


def test_a_worker_that_ends_costs_no_caption_and_is_told(talk, capsys, monkeypatch):
    """Also where nobody can be told, as the terminal was closed."""

    def started(request) -> Chain:
        host = Mortal()
        chain = Chain.start(host, fakes())
        host.begin(lambda name, number: (name, number) == ("translate", 2))
        return chain

    def closed(view, message, session):
        raise OSError(errno.EIO, "Input/output error")

    assert captions("--file", talk) == errors.OK
    expected = capsys.readouterr().out
    monkeypatch.setattr(command, "start", started)
    assert captions("--file", talk) == errors.OK
    told = capsys.readouterr()
    assert told.out == expected and "a worker process ended at" in told.err
    monkeypatch.setattr(PlainLines, "warn", closed)
    assert captions("--file", talk) == errors.OK and capsys.readouterr().out == expected


class FastCard:
    """A microphone whose sound card delivers a minute in a moment."""

    lost_frames = overflows = 0

    def __iter__(self):
        return iter([tone(1)] * 375)

    def stop(self):
        pass

    close = stop


def test_a_microphone_is_heard_as_fast_as_it_comes(tmp_path, capsys, monkeypatch):
    card: Any = FastCard()
    source = command.AudioSource("card", "card", tmp_path, card, card)
    monkeypatch.setattr(command, "open_source", lambda request, on_screen: source)
    begin = time.monotonic()
    assert cli.main(["captions", "--json"]) == errors.OK
    assert time.monotonic() - begin < 30
    form = json.loads((tmp_path / "card.json").read_text())
    assert (form["source"], len(form["segments"])) == ("card", 75)


def test_outputs_that_were_edited_are_refused_before_anything_starts(talk, tmp_path, capsys):
    assert captions("--file", talk, "-o", tmp_path) == errors.OK
    assert captions("--file", talk, "-o", tmp_path) == errors.OK
    (tmp_path / "talk.es.srt").write_text("by hand")
    assert captions("--file", talk, "-o", tmp_path) == errors.NO_INPUT
    assert "talk.es.srt is there already" in capsys.readouterr().err
    assert captions("--file", talk, "-o", tmp_path, "--overwrite") == errors.OK
    assert (tmp_path / "talk.es.srt").read_text() != "by hand"


def test_a_reader_that_leaves_is_no_crash(talk):
    script = f"""
        import sys
        from dragoman.demos import captions, cli
        from tests.pipeline.chains import in_process
        from tests.pipeline.fake_stages import fakes
        captions.start = lambda request: in_process(fakes())
        sys.exit(cli.main(["captions", "--file", {str(talk)!r}, "--json"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.wait(PATIENCE_S)
    assert process.stderr.read() == b""
    process.stderr.close()


def test_help_and_version_answer_without_heavy_imports():
    script = """
        import sys
        from dragoman.demos import cli
        assert cli.main(["--version"]) == 0
        assert cli.main(["captions", "--help"]) == 0
        print([name for name in ("torch", "ray", "numpy", "av") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dragoman") and done.stdout.endswith("[]\n")
    assert "--target-language" in done.stdout


@pytest.mark.parametrize("name", ["captions", "translate", "demo"])
def test_help_shows_every_word_of_its_texts(name, capsys, monkeypatch):
    """Rich would take words in brackets for markup, and leave them out."""
    monkeypatch.setenv("COLUMNS", "300")
    assert cli.main([name, "--help"]) == errors.OK
    shown = " ".join(capsys.readouterr().out.split())
    group: Any = typer.main.get_command(cli.app)
    texts = [param.help for param in group.commands[name].params]
    assert len(texts) > 10
    assert [text for text in texts if text and text not in shown] == []


def test_both_spellings_of_options():
    args = ["--target_language=pt_br", "--output_dir", "a_b", "-o", "c_d", "--", "--e_f"]
    assert cli.with_hyphens(args) == [
        "--target-language=pt_br", "--output-dir", "a_b", "-o", "c_d", "--", "--e_f"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [
        ["captions", "--file", "samples/talk.wav", "--size", "quarter"],
        ["captions", "--file", "samples/talk.wav", "--draft-size", "quarter"],
        ["translate", "samples/talk.wav", "--size", "quarter"],
    ],
)
def test_an_unknown_size_is_refused_before_anything_is_loaded(args, capsys, tmp_path):
    if args[0] == "translate":
        args = [*args, "-o", str(tmp_path)]
    assert cli.main(args) == errors.USAGE
    said = capsys.readouterr().err
    assert "unknown size 'quarter': choose full, half" in said and "session" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args",
    [["captions", "--file", "samples/talk.wav"], ["demo"], ["translate", "samples/talk.wav"]],
)
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_started(args, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("ray.init", None)
    assert cli.main([*args, "--device", "cuda"]) == errors.USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("dragoman: --device cuda: torch finds no GPU here")


@pytest.mark.parametrize("name", ["captions", "translate", "demo"])
def test_help_cuts_no_word_on_a_narrow_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([name, "--help"]) == errors.OK
    out = capsys.readouterr().out
    assert "google/gemma-3n-E2B-it" in out and "…" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_without_a_command_the_help_is_shown_as_it_is(capsys):
    assert cli.main([]) == errors.USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Usage: dragoman") and "--help` lists" not in err
    assert all(f"\n  {name} " in err for name in ("captions", "translate", "demo", "models"))
