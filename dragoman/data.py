"""Subtitles' captions by Ray Data: a class for `map_batches`, and what cuts files into its rows.

For jobs of Ray Data; files for viewers are written by `translate`, whose scheduler
goes on after a crash and lets a bad file fail alone. Nothing here imports Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dragoman.captioner import with_sizes
from dragoman.spec import NANO, ModelSpec

if TYPE_CHECKING:
    from dragoman.stages.messages import Caption
    from dragoman.stages.messages import SessionOptions as Options

Row = dict[str, Any]
RATE_HZ = 16_000


class Translator:
    """Captions whole segments; each process that Ray Data makes of it loads the model once.

    Rows go in as :meth:`segments` makes them. They come out with `path`, `segment`, `start` and
    `end` in seconds, `transcript` and `translation`; one in which nothing was said has empty texts.
    The segments of a batch share the passes of the model.
    """

    def __init__(self, options: Options | None = None, spec: ModelSpec = NANO) -> None:
        """Loads the model; raises CheckpointError, DeviceError, LanguageError, SizeError,
        PipelineError.
        """
        from dataclasses import replace

        from dragoman.pipeline.recipes import recipes, use_threads
        from dragoman.pipeline.runner import Runner
        from dragoman.pipeline.start import check, locate

        self._options = with_sizes(options, spec)
        check(spec, self._options.language, self._options.target_language)
        behind = recipes(replace(locate(spec), threads=spec.threads or 1))[1:]
        use_threads(behind)
        self._runner, self._batches = Runner(behind), 0
        failure = self._runner.load()
        if failure is not None:
            raise failure.error("the model could not be loaded")

    @staticmethod
    def segments(row: Row, options: Options | None = None) -> list[Row]:
        """The segments of the file at ``row["path"]``, for `flat_map`: rows with its `path`, the
        number of the `segment`, `start` as a sample index, and `samples` float32 [S] at 16 kHz.

        Raises InputError for a file that cannot be read.
        """
        from dragoman.pipeline.media import read_audio
        from dragoman.pipeline.segments import segments
        from dragoman.stages.segment import SegmentStage

        options = with_sizes(options, NANO)
        pieces = read_audio(row["path"], language=options.language)
        return [
            {
                "path": row["path"],
                "segment": speech.segment,
                "start": speech.start,
                "samples": speech.samples,
            }
            for speech in segments(pieces, SegmentStage(), options)
        ]

    def __call__(self, batch: dict[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Captions a batch of rows, column by column; raises PipelineError."""
        from dragoman.pipeline.runner import Failure, Packet
        from dragoman.stages.messages import Speech

        self._batches += 1
        columns = [batch[name] for name in ("path", "segment", "start", "samples")]
        packets = [
            Packet(
                f"{self._batches}/{place}",
                0,
                [Speech(int(number), int(start), samples, True, True)],
                last=True,
                options=self._options,
            )
            for place, (_, number, start, samples) in enumerate(zip(*columns, strict=True))
        ]
        rows: list[Row] = []
        told = self._runner.run(*([packet] for packet in packets))
        for path, start, samples, packet in zip(columns[0], *columns[2:], told, strict=True):
            if isinstance(packet.items, Failure):
                raise packet.items.error(f"a segment of {path} failed")
            finals = [caption for caption in packet.items if caption.kind == "final"]
            end = int(start) + len(samples)
            rows.append(_row(str(path), int(start), end, finals[-1] if finals else None))
        numbers = [int(number) for number in columns[1]]
        names = list(rows[0]) if rows else []
        return {"segment": numbers, **{name: [row[name] for row in rows] for name in names}}


def _row(path: str, start: int, end: int, caption: Caption | None) -> Row:
    return {
        "path": path,
        "start": round(start / RATE_HZ, 3),
        "end": round(end / RATE_HZ, 3),
        "transcript": caption.transcript.whole if caption else "",
        "translation": caption.translation.whole if caption else "",
    }
