"""`dragoman models`: the listing for people and for programs, and `slice`."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman import errors
from dragoman.demos import cli
from dragoman.models.catalogue import describe
from dragoman.models.checkpoint import Checkpoint
from tests.models.hub_server import Hub
from tests.models.test_hub import environment

ROOT = Path(__file__).resolve().parents[2]


def test_json_lists_bundled_given_and_published_models(tiny_folder, capsys):
    assert cli.main(["models", "--json", "--model", str(tiny_folder)]) == errors.OK
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert [model["name"] for model in document["models"]] == ["nano", "tiny"]
    nano, tiny = document["models"]
    assert [size["name"] for size in nano["sizes"]] == ["full", "half"]
    assert tiny["folder"] == str(tiny_folder)
    groups = {group["name"]: group for group in tiny["on_disk"]}
    assert set(groups) == {"language_model", "per_layer_table", "audio_tower", "embed_audio"}
    assert groups["per_layer_table"] == {
        "name": "per_layer_table",
        "tensors": 1,
        "parameters": 448 * 6 * 8,
        "bytes": 448 * 6 * 8 * 2,
        "dtypes": ["BF16"],
    }
    full, half = tiny["sizes"]
    for model in (nano, tiny):
        parts = {group["name"]: group for group in model["on_disk"]}
        texts = parts["language_model"]["parameters"] + parts["per_layer_table"]["parameters"]
        assert model["sizes"][0]["parameters"] == texts
        assert model["parameters"] == sum(part["parameters"] for part in parts.values())
        assert model["bytes"] == sum(part["bytes"] for part in parts.values())
    assert f"{nano['parameters'] / 1e6:.1f} M" in (ROOT / "README.md").read_text()
    held = groups["language_model"]["parameters"]
    assert (full["memory_bytes"]["float32"], full["memory_bytes"]["bf16"]) == (4 * held, 2 * held)
    assert list(full["memory_bytes"]) == ["float32", "bf16", "bf12", "int8", "int4"]
    assert full["parameters"] - half["parameters"] == 6 * 3 * 32 * 32


def test_json_has_the_published_sizes_in_full(capsys):
    assert cli.main(["models", "--json"]) == errors.OK
    published = {s["name"]: s for s in json.loads(capsys.readouterr().out)["published"]}
    assert len(published) == 16
    assert published["E2B"] == {
        "name": "E2B",
        "layers": 30,
        "skipped": [20, 21, 22, 23, 24],
        "ffn": [8192] * 30,
        "parameters": 4_456_156_768,
        "effective_parameters": 1_905_495_648,
        "memory_bytes": {
            "float32": 9_687_667_072,
            "bf16": 4_843_833_536,
            "bf12": 3_704_244_416,
            "int8": 2_468_243_648,
            "int4": 1_618_225_344,
        },
        "per_layer_table_bytes_bf16": 4_026_531_840,
        "cache_bytes_per_token_bf16": 40_960,
        "gflop_per_token": {
            "prefill": pytest.approx(2.41, abs=0.005),
            "prefill_all_layers": pytest.approx(3.77, abs=0.005),
            "decode": pytest.approx(4.84, abs=0.005),
        },
        "mmlu_pretrained": 50.9,
    }


def test_the_table_for_people(tiny_folder, capsys):
    assert cli.main(["models", "--model", str(tiny_folder)]) == errors.OK
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["E2B", "30", "4.46", "1.91", "9.7", "4.8", "3.7", "2.5", "1.6", "4.0"] in [
        r[:10] for r in rows
    ]
    assert ["E4B", "35", "6.87", "3.98", "17.9", "9.0", "6.8", "4.6", "2.8", "4.7"] in [
        r[:10] for r in rows
    ]
    assert f"on disk: {tiny_folder}\n" in out and "\ntiny\n" in out
    units = [row[2:5] for row in rows if row[:1] == ["size"]]
    assert units == [["10⁶", "10⁶", "MB"]] * 2 + [["10⁹", "10⁹", "GB"]]
    assert ["embed_audio", "BF16", "4"] in [row[:3] for row in rows]


def test_a_model_that_is_none_is_one_line(tmp_path, capsys):
    assert cli.main(["models", "--model", str(tmp_path)]) == errors.USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "no config.json" in err


def test_slice_writes_a_model_that_can_be_listed_and_sliced_again(tiny_folder, tmp_path, capsys):
    small = tmp_path / "small"
    args = ["models", "slice", "--model", str(tiny_folder), "--size", "half", "-o"]
    assert cli.main([*args, str(small)]) == errors.OK
    out, err = capsys.readouterr()
    whole = Checkpoint.open(str(small))
    count = sum(math.prod(stored.shape) for stored in whole.tensors.values())
    size = sum(stored.bytes for stored in whole.tensors.values())
    assert (out, err) == (
        f"wrote {small}: {count / 1e6:.1f} million parameters, {size / 1e6:.1f} MB; "
        f"use it with --model {small}\n",
        "",
    )
    assert cli.main(["models", "--json", "--model", str(small)]) == errors.OK
    (size, _) = json.loads(capsys.readouterr().out)["models"][1]["sizes"]
    assert (size["name"], size["ffn"]) == ("full", [32] * 6)
    assert cli.main([*args, str(small)]) == errors.USAGE
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("E2B", "no size 'E2B', which is cut from E4B: choose full, half"),
        ("1=skip", "layer 1 cannot be skipped: layers 3-4 read its keys and values"),
        ("nonsense", "unknown size 'nonsense': choose full, half, or give FFN widths"),
    ],
)
def test_an_impossible_size_is_one_line(tiny_folder, tmp_path, capsys, size, message):
    args = ["--model", str(tiny_folder), "--size", size, "-o", str(tmp_path / "small")]
    assert cli.main(["models", "slice", *args]) == errors.USAGE
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_quantize_writes_a_model_that_can_be_listed(tiny_folder, tmp_path, capsys):
    small = tmp_path / "small"
    args = ["models", "quantize", "--model", str(tiny_folder), "-o", str(small)]
    assert cli.main([*args, "--dtype", "int4", "--head", "bf16", "--json"]) == errors.OK
    written = json.loads(capsys.readouterr().out)
    whole = describe(Checkpoint.open(str(tiny_folder)))
    assert written["folder"] == str(small)
    assert written["parameters"] == whole["parameters"] and written["bytes"] < whole["bytes"]
    assert forms_of(small) == {"layers": "int4", "head": None, "audio": "bf12"}
    assert cli.main(["models", "--json", "--model", str(small)]) == errors.OK
    listed = json.loads(capsys.readouterr().out)["models"][1]
    groups = {group["name"]: group["dtypes"] for group in listed["on_disk"]}
    assert groups["language_model"] == groups["audio_tower"] == ["BF16", "U8"]
    assert groups["embed_audio"] == ["BF16"]
    again = ["models", "quantize", "--model", str(small), "-o", str(tmp_path / "new")]
    assert cli.main(again) == errors.USAGE
    err = capsys.readouterr().err
    assert "is quantized already" in err and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def forms_of(folder: Path) -> dict[str, str | None]:
    """What `config.json` says of the matrices' forms."""
    said = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (said.pop("quant_method"), said.pop("format")) == ("dragoman", 2)
    return said


@pytest.mark.parametrize(
    ("options", "forms"),
    [
        ([], {"layers": "int8", "head": "int8", "audio": "bf12"}),
        (["--dtype", "bf12"], {"layers": "bf12", "head": "bf12", "audio": "bf12"}),
        (["--audio", "bf16"], {"layers": "int8", "head": "int8"}),
        (
            ["--dtype", "bf12", "--head", "int8", "--audio", "int8"],
            {"layers": "bf12", "head": "int8", "audio": "int8"},
        ),
        (["--head", "bf12"], {"layers": "int8", "head": "bf12", "audio": "bf12"}),
    ],
)
def test_forms_that_quantize_writes(tiny_folder, tmp_path, capsys, options, forms):
    small = tmp_path / "small"
    args = ["models", "quantize", "--model", str(tiny_folder), "-o", str(small), *options]
    assert cli.main(args) == errors.OK, capsys.readouterr().err
    assert forms_of(small) == forms


def test_help_needs_no_torch():
    script = (
        "import sys; from dragoman.demos import cli; cli.main(['models', '--help'])\n"
        "print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert "slice" in done.stdout and "quantize" in done.stdout


def test_a_model_of_the_hub_is_counted_without_its_weights(tiny_folder, tmp_path):
    whole = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    weights = whole / "model.safetensors"
    with Hub({"google/tiny": whole}).serving() as hub:

        def listed(*args: str) -> str:
            command = [
                sys.executable,
                "-m",
                "dragoman.demos.cli",
                "models",
                "--model",
                "google/tiny",
                *args,
            ]
            env = environment(tmp_path, HF_ENDPOINT=hub.url)
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        _, model = json.loads(listed("--json"))["models"]
        assert "on the hub, not downloaded" in listed()
        assert hub.sent < weights.stat().st_size
    whole_model = describe(Checkpoint.open(str(tiny_folder))) | {"folder": None}
    assert model == json.loads(json.dumps(whole_model))


@pytest.mark.slow
def test_captions_in_bf12_are_those_of_bf16(capsys):
    """Of the bundled model, by the command itself."""

    def said(dtype: str) -> list[tuple[str, str]]:
        talk = str(ROOT / "samples" / "talk.wav")
        options = ["--no-ray", "--json", "--pace", "fast", "--dtype", dtype]
        assert cli.main(["captions", talk, *options]) == errors.OK
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        finals = [event for event in events if event["kind"] == "final"]
        return [(e["transcript"]["committed"], e["translation"]["committed"]) for e in finals]

    plain = said("bf16")
    assert len(plain) >= 8 and said("bf12") == plain


def test_a_packed_folder_is_not_sliced(tiny_folder, tmp_path, capsys):
    small = tmp_path / "small"
    args = ["--model", str(tiny_folder), "-o", str(small), "--dtype", "bf12"]
    assert cli.main(["models", "quantize", *args]) == errors.OK
    args = ["--model", str(small), "--size", "half", "-o", str(tmp_path / "half")]
    assert cli.main(["models", "slice", *args]) == errors.USAGE
    assert "is quantized: slice the original weights" in capsys.readouterr().err
