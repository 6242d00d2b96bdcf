import io
import json
import logging
import subprocess
import sys
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.demos.stdout import PrintableFormatter, own_stdout, printable
from tests.pipeline import media_files
from tests.pipeline.fake_stages import CHUNKS_A_SEGMENT, POISON, tone
from tests.waiting import PATIENCE_S

# Ray needs a moment to tell of the death; a driver that is done sooner would not hear of it.
PROGRAM = """
    import sys, time
    from dragoman.demos import captions, cli
    from dragoman.pipeline.chain import Chain
    from dragoman.pipeline.recipes import Recipe
    from dragoman.pipeline.start import host
    from tests.pipeline.fake_stages import Deadly, Making, fakes

    class Lingering(Chain):
        def stop(self):
            time.sleep(5)
            super().stop()

    segment, _, translate = fakes()
    stages = (segment, Recipe("encode", Making(Deadly())), translate)
    captions.start = lambda request: Lingering.start(host(ray=True), stages)
    sys.exit(cli.main(["captions", "--pace", "fast", *sys.argv[1:]]))
"""


def test_stdout_is_for_those_who_were_handed_it():
    before = io.StringIO()
    with redirect_stdout(before):
        with own_stdout() as out:
            print("noise")
            print("words", file=out)
        print("after")
    assert before.getvalue() == "words\nafter\n"


@pytest.fixture
def deadly(tmp_path):
    """Two segments, and in the third a sample that kills the encoder's process."""
    samples = tone(3 * CHUNKS_A_SEGMENT)
    samples[2 * CHUNKS_A_SEGMENT * 2_560 + 5] = POISON
    return media_files.write(tmp_path / "deadly.wav", samples, "pcm_s16le")


def test_an_actor_that_is_killed_leaves_json_lines_only(deadly):
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), "--file", deadly, "--json"]
    root = Path(media_files.ROOT)
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == errors.FAILED
    assert "the process of a stage ended" in done.stderr and "Traceback" not in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds.count("final") == 2 and kinds.count("warning") >= 1
    assert {event["segment"] for event in events if event["kind"] != "warning"} <= {0, 1, 2}


LETTERS = "mañana œ 日本 🙂"
PRINTING = """
    import json, sys
    from dragoman.demos.stdout import escape_what_cannot_be_encoded
    escape_what_cannot_be_encoded()
    print(json.dumps(sys.argv[1], ensure_ascii=False))
    print(sys.argv[1], file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_an_encoding_lacks_are_written_as_json_writes_them(encoding):
    env = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(media_files.ROOT)}
    program = [sys.executable, "-c", textwrap.dedent(PRINTING), LETTERS]
    done = subprocess.run(program, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(encoding)
    assert json.loads(said) == LETTERS and ("ñ" in said) == (encoding != "ascii")
    assert "ma" in done.stderr.decode(encoding)


@pytest.mark.parametrize(
    "args", [("captions", "--file"), ("captions",), ("translate",), ("check",), ("finish",)]
)
@pytest.mark.parametrize("code", ["\x1b[31m", "\x9b31m", "\u202e"])
def test_control_codes_in_names_of_files_are_never_printed(args, code, tmp_path, capsys):
    path = tmp_path / f"a{code}b.{'srt' if args == ('check',) else 'wav'}"
    path.write_bytes(b"nothing")
    assert cli.main([*args, str(path)]) != errors.OK
    out, err = capsys.readouterr()
    assert code not in out + err and f"a\\{'u202e' if code == chr(0x202E) else 'x'}" in out + err


def test_control_codes_in_a_log_are_spelt_out():
    record = logging.LogRecord("a", logging.INFO, "", 0, "track %s\n", ("\x1b[2J",), None)
    assert PrintableFormatter("%(message)s").format(record) == "track \\x1b[2J\n"


def test_what_is_no_control_code_stays():
    assert printable("mañana\t日本 🙂\nعربي") == "mañana\t日本 🙂\nعربي"
