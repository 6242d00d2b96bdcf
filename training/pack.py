"""Stored speech in small pieces, for a machine that has to be sent it.

    python -m training.pack --corpus build/speech --out build/packed
    python -m training.pack --unpack build/packed --corpus build/speech

A piece is an uncompressed tar of at most 60 MiB with whole parts (`training.speech_parts`): the
lines of each as they are, its samples small. Forms: `opus`, 9 MB an hour, by PyAV; `mulaw`, 58 MB
an hour, which numpy alone reads. Unusual: unpacking gives the int16 files back, so nothing else
needs to know.
"""

import argparse
import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from training.codecs import av
from training.speech_parts import SAMPLE_RATE_HZ

PIECE_BYTES = 60 * 2**20
OPUS_BITS_A_SECOND = 20_000
CODECS = ("opus", "mulaw")
_MU = 255.0
_TAR_BLOCK = 512  # a member's header, and what its size is rounded up to


def pack(corpus: Path, out: Path, form: str, piece_bytes: int = PIECE_BYTES) -> list[Path]:
    """Writes all parts below ``corpus`` as pieces in ``out``; gives their paths.

    Raises ValueError for an unknown form, or a part that is larger than a piece.
    """
    out.mkdir(parents=True, exist_ok=True)
    pieces: list[Path] = []
    held: list[tuple[str, bytes]] = []
    for members in _members(corpus, form):
        size = _tar_size(members)
        if size > piece_bytes:
            raise ValueError(
                f"{members[0][0]} takes {size} bytes, a piece holds {piece_bytes}; "
                "make shorter parts, or larger pieces"
            )
        if _tar_size(held + members) > piece_bytes:
            pieces.append(_write(out / f"piece-{len(pieces):03}.tar", held))
            held = []
        held += members
    return [*pieces, _write(out / f"piece-{len(pieces):03}.tar", held)] if held else pieces


def unpack(pieces: Path, corpus: Path, processes: int = 1) -> int:
    """Writes the parts of all pieces in the folder ``pieces`` that ``corpus`` has not; gives how
    many.
    """
    paths = sorted(pieces.glob("piece-*.tar"))
    if not paths:
        raise FileNotFoundError(f"no piece-*.tar in {pieces}; make some with --out")
    with ProcessPoolExecutor(processes) as pool:
        return sum(pool.map(partial(_unpack_piece, corpus=corpus), paths))


def encode(samples: np.ndarray, form: str) -> bytes:
    """int16 [S] at 16 kHz, in small."""
    if form == "mulaw":
        level = samples.astype(np.float32) / 32_768
        bent = np.sign(level) * np.log1p(_MU * np.abs(level)) / np.log1p(_MU)
        return np.round(bent * 127 + 128).astype(np.uint8).tobytes()
    if form != "opus":
        raise ValueError(f"unknown form {form!r}: expected one of {CODECS}")
    _check_opus()
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ)
        stream.bit_rate, stream.layout = OPUS_BITS_A_SECOND, "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode(stored: bytes, form: str, count: int) -> np.ndarray:
    """The ``count`` samples, int16, of what `encode` wrote."""
    if form == "mulaw":
        bent = (np.frombuffer(stored, np.uint8).astype(np.float32) - 128) / 127
        level = np.sign(bent) * np.expm1(np.abs(bent) * np.log1p(_MU)) / _MU
        return np.clip(np.round(level * 32_768), -32_768, 32_767).astype(np.int16)
    _check_opus()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    pieces = []
    with av.open(io.BytesIO(stored)) as container:
        for frame in container.decode(audio=0):
            pieces += [one.to_ndarray()[0] for one in resampler.resample(frame)]
    pieces += [one.to_ndarray()[0] for one in resampler.resample(None)]
    samples = np.concatenate(pieces)[:count]
    return np.pad(samples, (0, count - len(samples)))


def _check_opus() -> None:
    if av is None:
        raise ModuleNotFoundError(
            "PyAV is missing, which reads and writes Opus; pip install av, or use --form mulaw"
        )


def _members(corpus: Path, form: str) -> Iterator[list[tuple[str, bytes]]]:
    """Names and contents of each part, the samples first."""
    for path in sorted(corpus.rglob("*.jsonl")):
        samples, name = np.load(path.with_suffix(".npy")), path.relative_to(corpus)
        yield [
            (f"{name.with_suffix('')}.{len(samples)}.{form}", encode(samples, form)),
            (str(name), path.read_bytes()),
        ]


def _unpack_piece(piece: Path, corpus: Path) -> int:
    written = 0
    with tarfile.open(piece) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            name = Path(member.name)
            if name.suffix == ".jsonl":
                path = corpus / name
                written += not path.is_file()
                path.write_bytes(file.read())
                continue
            stem, count, form = member.name.rsplit(".", 2)
            path = corpus / f"{stem}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.with_suffix(".jsonl").is_file():
                np.save(path, decode(file.read(), form, int(count)))
    return written


def _tar_size(members: list[tuple[str, bytes]]) -> int:
    """An upper bound of the bytes of a tar of them."""
    blocks = sum(3 + -(-len(content) // _TAR_BLOCK) for _, content in members)
    return blocks * _TAR_BLOCK + tarfile.RECORDSIZE


def _write(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack stored speech, or unpack it.")
    parser.add_argument("--corpus", type=Path, default=Path("build/speech"))
    parser.add_argument("--out", type=Path, default=Path("build/packed"))
    parser.add_argument("--unpack", type=Path, help="a folder of pieces")
    parser.add_argument("--form", choices=CODECS, default="opus")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    if args.unpack:
        print(f"{unpack(args.unpack, args.corpus, args.processes)} parts in {args.corpus}")
        return
    for piece in pack(args.corpus, args.out, args.form):
        print(f"{piece} {piece.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
