"""`dragoman doctor` is green with the bundled model; it says what to do where something is not."""

import json
import shutil
import wave
from importlib import metadata
from pathlib import Path

import pytest

from dragoman import errors, system
from dragoman.demos import cli, doctor, doctor_machine, doctor_path
from dragoman.demos.doctor_machine import Finding
from dragoman.errors import PipelineError
from dragoman.spec import ModelSpec
from tests.nano_like import read_config

WAV = doctor_path.SAMPLES / "talk.wav"


@pytest.fixture
def any_pair(tiny_folder, tmp_path):
    """A model folder that declares no pairs of languages, as official ones do."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))
    config = read_config(folder)
    del config["language_pairs"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def by_check(findings):
    return {finding.check: finding for finding in findings}


def test_all_is_well_with_nano(capsys):
    assert cli.main(["doctor", "--json"]) == errors.OK
    document = json.loads(capsys.readouterr().out)
    found = {check["check"]: check for check in document["checks"]}
    assert document["ok"] and list(found) == [
        "machine", "versions", "accelerator", "memory", "disk", "microphone",
        "model", "ray", "sound", "picture", "translation",
    ]  # fmt: skip
    assert {check["status"] for check in document["checks"]} <= {"ok", "warning"}
    assert found["sound"]["found"].startswith("0.0% of the words wrong, 8 segments")
    assert found["picture"]["found"].endswith("a model without a vision tower sees none")
    assert "Good afternoon, my name is Marta" in found["translation"]["found"]


def test_a_model_that_does_not_hear_is_not_well(any_pair, tmp_path, monkeypatch, capsys):
    """Random weights talk without end, so they are given a few seconds, without pictures."""
    few = tmp_path / "few.wav"
    with wave.open(str(WAV)) as whole, wave.open(str(few), "wb") as file:
        file.setparams(whole.getparams())
        file.writeframes(whole.readframes(3 * whole.getframerate()))
    monkeypatch.setattr(doctor_path, "CLIP", few)
    args = ["doctor", "--no-ray", "--model", str(any_pair), "--clip", str(few)]
    assert cli.main(args) == errors.FAILED
    out = capsys.readouterr().out
    assert "failed   sound" in out and "-> " in out
    assert f"published {doctor_path.REFERENCE!r}" in out
    assert "failed   picture      no picture of the clip was found" in out
    assert "not well: 2 failed" in out


def test_a_model_that_is_slow_is_stopped_and_judged_by_what_it_heard(monkeypatch, capsys):
    monkeypatch.setattr(doctor_path, "PATIENCE_S", 0)
    assert cli.main(["doctor", "--no-ray", "--json"]) == errors.OK
    checks = json.loads(capsys.readouterr().out)["checks"]
    sound = next(check for check in checks if check["check"] == "sound")
    assert sound["status"] == "warning" and sound["found"].endswith("and then it was stopped")
    assert sound["found"].startswith("0.0% of the words wrong, 1 segments")


def test_what_the_model_sees_is_said(seeing_folder):
    found = by_check(doctor_path.model(ModelSpec(str(seeing_folder)), ray=False))
    assert found["picture"].status == "ok"
    assert "pictures shown to the model" in found["picture"].found


def test_without_the_recording_it_is_said_where_it_is(any_pair, tmp_path):
    without = doctor_path.reference(None, None, None)  # pyright: ignore[reportArgumentType]
    assert without.status == "warning" and "103-1240-0000.wav" in without.remedy
    lost = doctor_machine.checked(
        "reference",
        lambda: doctor_path.reference(None, None, tmp_path / "none.wav"),  # pyright: ignore[reportArgumentType]
    )
    assert lost.status == "failed" and "there is no file" in lost.found


def test_without_ray_the_model_is_tried_here(tiny_folder, monkeypatch):
    start = doctor_path.start

    def broken(spec, *, ray):
        if ray:
            raise PipelineError("Ray does not start")
        return start(spec, ray=False)

    monkeypatch.setattr(doctor_path, "start", broken)
    found = by_check(doctor_path.model(ModelSpec(str(tiny_folder))))
    assert found["ray"] == Finding(
        "ray", "failed", "Ray does not start", "run commands with --no-ray"
    )
    assert found["start"].status == "ok" and "sound" in found


def test_a_model_that_is_not_there_is_one_failure(capsys):
    assert cli.main(["doctor", "--model", "nono"]) == errors.FAILED
    out = capsys.readouterr().out
    assert "failed   model        no model at 'nono'" in out
    assert "1 failed" in out and "start" not in out


def test_too_little_memory_and_disk_are_warnings(monkeypatch):
    monkeypatch.setattr(system, "memory", lambda: (2**30, 2**20))
    monkeypatch.setattr(doctor_machine, "ROOM_BYTES", 2**80)
    found = by_check(doctor_machine.machine(ModelSpec()))
    assert found["memory"].status == "warning" and "--dtype int8" in found["memory"].remedy
    assert "1 MB of 1.1 GB free; nano in float32 takes about" in found["memory"].found
    assert found["disk"].status == "warning" and "TMPDIR" in found["disk"].remedy


def test_wrong_and_missing_libraries_fail(monkeypatch):
    version = metadata.version

    def other(name):
        if name == "av":
            raise metadata.PackageNotFoundError(name)
        return "2.110.0" if name == "torch" else version(name)

    monkeypatch.setattr(metadata, "version", other)
    found = doctor_machine.versions()
    assert found.status == "failed"
    assert "torch is 2.110.0, not 2.11" in found.found and "av is missing" in found.found


def test_a_defect_is_a_failure_and_not_a_crash():
    def broken():
        raise KeyError("gone")

    assert doctor_machine.checked("x", broken).found == "KeyError: 'gone'"


def test_lines_and_their_sum():
    findings = [Finding("disk", "warning", "little", "make room"), Finding("ray", "ok", "it runs")]
    assert list(doctor.lines(findings[0])) == [
        "warning  disk         little",
        "                      -> make room",
    ]
    assert doctor.summary(findings) == "all is well, with 1 warning"
    assert (
        doctor.summary([*findings, Finding("x", "failed", "y")]) == "not well: 1 failed, 1 warning"
    )
    assert doctor.summary(findings[1:]) == "all is well"


def test_memory_is_what_linux_says(tmp_path, monkeypatch):
    told = tmp_path / "meminfo"
    monkeypatch.setattr(system, "MEMINFO", told)
    assert system.memory() is None
    told.write_text("MemTotal:  2048 kB\nMemAvailable:  1024 kB\nHugePages_Total: 0\n")
    assert system.memory() == (2048 * 1024, 1024 * 1024)
    told.write_text("MemTotal:  2048 kB\n")
    assert system.memory() is None
