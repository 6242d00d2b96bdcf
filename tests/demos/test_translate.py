import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from dragoman import errors
from dragoman.demos import cli, translate
from dragoman.demos.progress import Bars
from dragoman.pipeline import batch
from dragoman.pipeline.batch_file import Advanced, Result
from dragoman.pipeline.journal import DRAFT, NAME
from tests.pipeline import media_files
from tests.pipeline.batches import ray_of_our_own
from tests.pipeline.chains import pool_of
from tests.pipeline.fake_stages import POISON, fakes, tone
from tests.waiting import PATIENCE_S, eventually

ROOT = media_files.ROOT


@pytest.fixture(scope="module")
def pool():
    """One pool for all commands of this module that run in this process."""
    with ray_of_our_own(cpus=4):
        yield pool_of(fakes()[1:], workers=1)


@pytest.fixture
def command(pool, monkeypatch):
    """The command line in this process, with fake stages."""
    monkeypatch.setattr(batch, "recipes", lambda *_: fakes())
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", lambda *_: pool)
    monkeypatch.setattr(pool, "stop", lambda: None)
    return lambda *args: cli.main(["translate", *map(str, args)])


def sound(path: Path, chunks: float = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return media_files.write(path, tone(chunks), "pcm_s16le")


def no_pool(*_, **__):
    raise AssertionError("nothing is left to do, and a pool was started")


def test_one_line_a_file_and_bad_ones_at_the_end(command, tmp_path, capsys):
    sound(tmp_path / "a b.wav")
    (tmp_path / "bad.mp4").write_text("no film")
    assert command(tmp_path, tmp_path / "none.mkv") == errors.NO_INPUT
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"[1/3] failed   {tmp_path}/none.mkv",
        f"[2/3] failed   {tmp_path}/bad.mp4",
        f"[3/3] done     {tmp_path}/a b.wav (0:01.1, 2 segments) -> 7 files in {tmp_path}",
    ]
    said = err.splitlines()
    assert said[0] == "dragoman: 2 of 3 inputs could not be translated:"
    assert said[1] == f"  {tmp_path}/none.mkv does not exist: check the name"
    assert said[2].startswith(f"  {tmp_path}/bad.mp4 is not a media file")


def test_quiet_prints_paths_and_a_second_run_starts_nothing(command, tmp_path, capsys, monkeypatch):
    sound(tmp_path / "in" / "ü x.wav")
    args = ("-q", tmp_path / "in", "-o", tmp_path / "out", "--output_format=json,srt")
    assert command(*args) == errors.OK
    first = capsys.readouterr()
    paths = [Path(line) for line in first.out.splitlines()]
    assert [path.name for path in paths] == [
        "ü x.es.srt", "ü x.en.srt", "ü x.es-en.srt", "ü x.json"
    ]  # fmt: skip
    assert all(path.is_file() for path in paths) and first.err == ""
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", no_pool)
    assert command(*args) == errors.OK
    assert capsys.readouterr() == first


def test_json_is_one_document(command, tmp_path, capsys):
    sound(tmp_path / "in" / "a.wav")
    sound(tmp_path / "in" / "b.wav")
    assert command(tmp_path / "in" / "a.wav", "--text=translation,transcript") == errors.OK
    capsys.readouterr()
    (tmp_path / "in" / "c.mp4").touch()
    assert command("--json", tmp_path / "in", "--text=translation,transcript") == errors.NO_INPUT
    out, err = capsys.readouterr()
    form = json.loads(out)
    assert (form["done"], form["skipped"], form["failed"]) == (1, 1, 1)
    assert form["audio_seconds"] == pytest.approx(1.12) and form["interrupted"] is False
    by_name = {Path(entry["path"]).name: entry for entry in form["files"]}
    assert by_name["a.wav"]["reason"] == "already done"
    assert (by_name["b.wav"]["segments"], len(by_name["b.wav"]["outputs"])) == (2, 5)
    assert "0 bytes" in by_name["c.mp4"]["reason"] and "0 bytes" in err


def test_a_dry_run_says_what_it_would_do(command, tmp_path, capsys, monkeypatch):
    sound(tmp_path / "in" / "a.wav")
    sound(tmp_path / "in" / "b.wav", 14)
    (tmp_path / "in" / "c.mp4").touch()
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", no_pool)
    args = (tmp_path / "in", "-o", tmp_path / "out", "--dry-run")
    assert command(*args) == errors.NO_INPUT
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"to do    {tmp_path}/in/a.wav (0:01.1)",
        f"to do    {tmp_path}/in/b.wav (0:02.2)",
        "2 files, 0:03.3 of sound",
    ]
    assert not (tmp_path / "out").exists()
    command("--json", *args)
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["status"] for file in files] == ["failed", "planned", "planned"]
    assert files[1]["duration"] == pytest.approx(1.12)


def test_the_summary_goes_to_a_file_beside_other_output(command, tmp_path, capsys):
    sound(tmp_path / "in" / "a.wav")
    told = tmp_path / "summary.json"
    assert command("-q", tmp_path / "in", "-f", "txt", "--summary-json", told) == errors.OK
    assert len(capsys.readouterr().out.splitlines()) == 3
    form = json.loads(told.read_text())
    assert form["done"] == 1 and len(form["files"][0]["outputs"]) == 3


def test_films_get_their_subtitles_and_are_not_translated_again(command, tmp_path, capsys):
    samples = tone(7)
    (tmp_path / "in").mkdir()
    media_files.write(tmp_path / "in" / "f.mp4", samples, "aac", "mpeg4", 44_100)
    args = ("-q", tmp_path / "in", "-f", "srt", "--mux", "--burn-in", "transcript")
    assert command(*args) == errors.OK
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    films = {"f.subtitled.mp4", "f.es.burnt.mp4"}
    assert names == films | {"f.es.srt", "f.en.srt", "f.es-en.srt"}
    assert command("--json", *args[1:]) == errors.OK
    assert json.loads(capsys.readouterr().out)["skipped"] == 1


def test_sound_alone_gets_its_subtitles_where_films_are_burnt(command, tmp_path, capsys):
    sound(tmp_path / "a.wav")
    args = ("--json", tmp_path, "-f", "srt", "--burn-in", "transcript")
    assert command(*args) == errors.OK
    (told,) = json.loads(capsys.readouterr().out)["files"]
    assert told["warnings"] == ["it has no picture to draw in, so it gets its subtitle files alone"]
    assert [Path(path).suffix for path in told["outputs"]] == [".srt"] * 3
    assert command(*args) == errors.OK
    assert json.loads(capsys.readouterr().out)["skipped"] == 1


def test_what_is_asked_for_later_is_written_without_the_model(
    command, tmp_path, capsys, monkeypatch
):
    (tmp_path / "in").mkdir()
    media_files.write(tmp_path / "in" / "f.mp4", tone(7), "aac", "mpeg4", 44_100)
    sound(tmp_path / "in" / "a.wav")
    assert command("-q", tmp_path / "in") == errors.OK
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", no_pool)
    capsys.readouterr()
    more = ("-q", tmp_path / "in", "-f", "srt,ttml", "--mux", "--text", "translation")
    assert command(*more, "--dry-run") == errors.OK
    assert {path.suffix for path in (tmp_path / "in").iterdir()} <= {
        ".mp4", ".wav", ".srt", ".vtt", ".json", ".jsonl", ""
    }  # fmt: skip
    assert command(*more) == errors.OK
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert names == {
        "f.en.srt", "f.en.ttml", "f.subtitled.mp4", "a.en.srt", "a.en.ttml", "a.subtitled.mkv"
    }  # fmt: skip
    assert command("--json", *more[1:]) == errors.OK
    assert json.loads(capsys.readouterr().out)["skipped"] == 2


def test_a_quoted_pattern_and_folders_keep_their_structure(command, tmp_path, capsys):
    sound(tmp_path / "in" / "x" / "a.wav")
    sound(tmp_path / "in" / "y" / "a.wav")
    out = tmp_path / "out"
    assert command("-q", f"{tmp_path}/in/*/a.w*", "-o", out, "-f", "srt") == errors.OK
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.srt")) == [
        f"{folder}/a.{code}.srt" for folder in "xy" for code in ("en", "es-en", "es")
    ]


def test_a_run_in_which_all_failed_leaves_no_folder(command, tmp_path, capsys):
    """Neither where the file is none, nor where its stages fail at the first segment."""
    bad = tmp_path / "bad.wav"
    samples = tone(3)
    samples[5] = POISON
    media_files.write(bad, samples, "pcm_s16le")
    (tmp_path / "none.mp4").write_text("no film")
    assert command(bad, tmp_path / "none.mp4", "-o", tmp_path / "deep" / "out") == errors.FAILED
    assert "2 of 2 inputs could not" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"bad.wav", "none.mp4"}


def test_a_folder_that_was_there_stays(command, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    media_files.write(tmp_path / "bad.wav", tone(3, POISON), "pcm_s16le")
    assert command(tmp_path / "bad.wav", "-o", tmp_path / "out") == errors.FAILED
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("below", ["", "deep/out"])
def test_an_output_folder_that_is_a_file_is_called_so(command, tmp_path, capsys, below):
    sound(tmp_path / "a.wav")
    (tmp_path / "out").write_text("notes")
    assert command(tmp_path / "a.wav", "-o", tmp_path / "out" / below) == errors.FAILED
    err = capsys.readouterr().err
    assert f"{tmp_path}/out is a file, not a folder: choose another with -o" in err
    assert (tmp_path / "out").read_text() == "notes"


def test_a_failure_that_is_not_the_inputs_is_another_code(command, tmp_path, capsys):
    sound(tmp_path / "a.wav")
    (tmp_path / "a.json").write_text("{}")
    assert command(tmp_path) == errors.FAILED
    assert "a.json is there already" in capsys.readouterr().err
    assert command(tmp_path, "--overwrite") == errors.OK
    assert json.loads((tmp_path / "a.json").read_text())["segments"]


def test_where_ray_cannot_go_on_the_document_gives_the_reason(
    command, tmp_path, capsys, monkeypatch
):
    sound(tmp_path / "done.wav")
    assert command(tmp_path, "-q") == errors.OK
    sound(tmp_path / "a.wav")
    (tmp_path / "bad.mp4").write_text("no film")
    capsys.readouterr()

    def no_ray(*_):
        raise errors.PipelineError("Ray did not start here")

    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", no_ray)
    assert command(tmp_path, "--json") == errors.FAILED
    out, err = capsys.readouterr()
    told = {Path(file["path"]).name: file for file in json.loads(out)["files"]}
    assert {name: file["status"] for name, file in told.items()} == {
        "done.wav": "skipped",
        "bad.mp4": "failed",
        "a.wav": "failed",
    }
    assert "Ray did not start here; the same command goes on" in told["a.wav"]["reason"]
    assert "Ray did not start here" in err and "2 of 3 inputs" in err


def test_nothing_to_do_says_so_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dragoman.pipeline.pool.Pool.start", no_pool)
    assert cli.main(["translate", str(tmp_path)]) == errors.NO_INPUT
    assert "holds no audio or video file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "PATH"),
        (["a.wav", "--language", "xx"], "unknown language 'xx'"),
        (["a.wav", "--language", "en"], "both 'en'"),
        (["a.wav", "-f", "srt,doc"], "'srt,doc'"),
        (["a.wav", "--text", "subtitle"], "'subtitle' is not known: give any of transcript"),
        (["a.wav", "--max-cps", "30"], "30 characters a second cannot be asked for"),
        (["a.wav", "--json", "-q"], "--json and --quiet"),
        (["a.wav", "--workers", "0"], "workers"),
    ],
)
def test_wrong_use_is_told(args, says, capsys):
    assert cli.main(["translate", *args]) == errors.USAGE
    out, err = capsys.readouterr()
    assert says in err and out == ""


def test_the_summary_counts_only_what_was_done():
    results = [
        Result(Path("a"), "done", duration_s=3.0),
        Result(Path("b"), "skipped", reason="already done"),
        Result(Path("c"), "failed", duration_s=5.0),
    ]
    form = translate.summary(results, 2.0, interrupted=True)
    assert form["audio_seconds"] == 3.0 and form["interrupted"] is True
    assert [entry["status"] for entry in form["files"]] == ["done", "skipped", "failed"]


def test_the_bars_show_files_time_left_and_speed(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, color_system=None)
    with Bars(console, files=2, with_lines=True) as bars:
        bars.start([(Path("in/a [x].mp4"), 100.0), (Path("in/b.mp4"), 300.0)])
        bars.ready(2)
        now[0] = 110.0
        # Half of what is finished is an earlier run's: 20 s took 10 s.
        bars.advance(Advanced(Path("in/a [x].mp4"), 40.0, 100.0, 20.0))
    shown = newest(written)
    assert "a [x].mp4" in shown and "40%" in shown and "0/2 files" in shown and "10%" in shown
    assert "ETA 3:00.0" in shown and "RTF 0.50" in shown
    with bars:
        bars.show(Result(Path("in/a [x].mp4"), "failed", reason="damaged", duration_s=60.0))
    shown = newest(written)
    assert "a [x].mp4" not in shown and "1/2 files" in shown and "ETA 2:30.0" in shown
    assert "failed   in/a [x].mp4" in written.getvalue()


def newest(written: io.StringIO) -> str:
    """The last picture of the bars: they are cleared before each, and at the end."""
    return [shown for shown in written.getvalue().split("\x1b[2K") if "files" in shown][-1]


# The whole program in processes of its own, killed half-way.


def start(*args) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.slow_cli", "translate", *map(str, args)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def journal(folder: Path) -> list[dict]:
    path = folder / NAME
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def finished(folder: Path) -> list[tuple]:
    return [(r["name"], r["index"], r["run"]) for r in journal(folder) if r["kind"] == "segment"]


def wait_for(process: subprocess.Popen, folder: Path, count: int) -> None:
    """Until ``count`` segments are finished."""
    end = time.monotonic() + PATIENCE_S
    while len(finished(folder)) < count:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


def _working(process: subprocess.Popen) -> list[int]:
    """The workers of the program that ``process`` is: actors in the session that it leads."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = path.read_text()
        except OSError:
            continue
        found_in = re.match(r"\d+ \((.*)\) (.*)", line, re.DOTALL)
        assert found_in is not None
        name, rest = found_in.groups()
        state, _, _, session = rest.split()[:4]
        if int(session) == process.pid and state != "Z" and name.startswith("ray::RayRunner"):
            found.append(int(path.parent.name))
    return found


def frames(caption: dict | None) -> list[dict]:
    """What a caption names; of a segment in which nothing was said, anything."""
    return caption["frames"] if caption else [{}]


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != NAME}


def test_killed_and_interrupted_runs_go_on_where_they_were(pool, seeing_folder, tmp_path):
    """kill -9 in the first file, a worker killed and Ctrl-C in the second, then to the end.

    The first is a video, which the model sees.
    """
    media = tmp_path / "my talks"
    media.mkdir()
    first = shutil.copy(ROOT / "samples" / "talk.mp4", media / "uno.mp4")
    (second,) = media_files.copies(media, "dós 2.wav")
    out = tmp_path / "out"
    few = ("--workers", "2", "--batch-size", "1")  # so that there is a middle
    args = (first, second, "-o", out, "--model", seeing_folder, *few)

    killed = start(*args)
    wait_for(killed, out, 4)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=PATIENCE_S)
    done = set(finished(out))
    assert 4 <= len(done) < 8
    assert not list(out.glob("*.srt")) and not list(out.glob("*.json"))
    assert all(frames(r["caption"]) for r in journal(out) if r["kind"] == "segment")
    assert (out / NAME).stat().st_size < 10_000, "no pixels"
    eventually(lambda: _working(killed) == [])

    (out / f"{DRAFT}-0.srt").write_text("left by a run that was killed while it wrote")
    interrupted = start(*args, "--json")
    wait_for(interrupted, out, len(done) + 1)
    workers = _working(interrupted)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    wait_for(interrupted, out, 10)
    done |= set(finished(out))
    os.killpg(interrupted.pid, signal.SIGINT)
    said, complaints = interrupted.communicate(timeout=PATIENCE_S)
    assert interrupted.returncode == errors.INTERRUPTED, complaints
    summary = json.loads(said)
    assert summary["interrupted"] is True
    assert summary["done"] == [r["kind"] for r in journal(out)].count("done") < 2
    assert "a new one takes its place" in complaints and "goes on where" in complaints
    assert "Traceback" not in complaints
    done |= set(finished(out))

    last = start(*args)
    said, complaints = last.communicate(timeout=PATIENCE_S)
    assert (last.returncode, complaints) == (0, "")
    assert said.count("from an earlier run") == 2 - summary["done"]
    done |= set(finished(out))
    assert len(done) == len({(name, index) for name, index, _ in done}) == 16
    assert len({run for _, _, run in done}) == 3

    undisturbed = tmp_path / "undisturbed"
    args = ["-q", first, second, "-o", undisturbed, "--model", seeing_folder, "--workers", "1"]
    assert cli.main(["translate", *map(str, args)]) == errors.OK
    assert outputs(undisturbed) == outputs(out) and len(outputs(out)) == 14
    shown = [frames(event) for event in json.loads((out / "uno.json").read_text())["segments"]]
    assert all(shown) and len({str(each) for each in shown}) == len(shown)
    assert '"index"' not in (out / "dós 2.json").read_text()
