"""One's own recordings: folders, manifests, and which of them are held out."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import InputError
from training.lora_data import Recording, read


def wav(path: Path, seconds: float = 0.5, rate_hz: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(np.full(round(seconds * rate_hz), 500, np.int16).tobytes())
    return path


def folder_of(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        wav(folder / f"{number:02}.wav")
        (folder / f"{number:02}.txt").write_text(f"frase  {number}\n", encoding="utf-8")
    return folder


def test_a_folder_is_read_with_its_translations(tmp_path):
    folder = folder_of(tmp_path / "own", 4)
    (folder / "02.en.txt").write_text("sentence 2", encoding="utf-8")
    (folder / "02.fr.txt").write_text("phrase 2", encoding="utf-8")
    wav(folder / "noise.wav")  # nobody knows what is said
    found = read(folder, "en", 0.25)
    whole = sorted((*found.learnt, *found.held_out), key=lambda one: one.path)
    assert [one.text for one in whole] == [f"frase {n}" for n in range(4)]
    assert [one.translation for one in whole] == ["", "", "sentence 2", ""]
    assert len(found.held_out) == 1


def test_what_is_held_out_stays_so_when_recordings_join(tmp_path):
    few = {one.path.name for one in read(folder_of(tmp_path / "own", 20), "en", 0.2).held_out}
    found = read(folder_of(tmp_path / "own", 60), "en", 0.2)
    many = {one.path.name for one in found.held_out}
    assert few and few < many and 6 <= len(many) <= 18
    assert not many & {one.path.name for one in found.learnt}


@pytest.mark.parametrize("kind", ["tsv", "jsonl"])
def test_a_manifest_names_files_beside_it(tmp_path, kind):
    rows = [
        {"audio": "a.wav", "text": 'dijo "hola"', "translation": "he said hello"},
        {"audio": "b.wav", "text": "adiós", "translation": ""},
    ]
    for row in rows:
        wav(tmp_path / row["audio"])
    path = tmp_path / f"list.{kind}"
    if kind == "tsv":
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read(path, "en", 0.5)
    assert {one.text: one.translation for one in (*found.learnt, *found.held_out)} == {
        'dijo "hola"': "he said hello",
        "adiós": "",
    }
    path.write_text(lines[0] + "\n" + lines[-1].replace("b.wav", "gone.wav"), encoding="utf-8")
    with pytest.raises(InputError, match="line 2: no file .*gone.wav"):
        read(path, "en", 0.5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.jsonl", "{", "line 1: not JSON"),
        ("list.jsonl", '{"audio": "a.wav"}', "line 1: expected audio and text"),
        ("list.tsv", "audio\ttext\na.wav\t\n", "line 2: expected audio and text"),
        ("list.csv", "", "no folder, .tsv or .jsonl"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read(tmp_path / name, "en", 0.1)


def test_sound_comes_at_16_khz_and_no_longer_than_a_model_hears(tmp_path):
    short = Recording(wav(tmp_path / "short.wav", 1.0, 8_000), "uno")
    assert short.samples("es").dtype == np.float32 and len(short.samples("es")) == 16_000
    with pytest.raises(InputError, match=r"31.0 s of sound, expected up to 30: cut it"):
        Recording(wav(tmp_path / "long.wav", 31.0), "uno").samples("es")
