"""The Python API: captions of a source as they come, and subtitles for files.

In front of `pipeline`, which does the work; the command line is written on the same functions.
Nothing heavy is imported before something is to be captioned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dragoman.spec import BATCH_SIZE, NANO, ModelSpec

if TYPE_CHECKING:
    from dragoman.pipeline.batch_file import Result
    from dragoman.pipeline.chain import Chain
    from dragoman.pipeline.session import Pace, Session
    from dragoman.sources import Source
    from dragoman.stages.messages import Caption
    from dragoman.stages.messages import SessionOptions as Options


class Captioner:
    """A loaded model, for any number of sessions, one after the other or at the same time.

        with dragoman.Captioner(dragoman.ModelSpec("google/gemma-3n-E2B-it")) as captioner:
            for caption in captioner.caption("talk.wav"):
                print(caption)

    The model is loaded on entry and given back on exit. With ``ray`` its stages are Ray actors,
    which sessions of several threads keep busy at the same time, and which ``spec.address`` may put
    on a cluster; otherwise they run in this process.
    """

    def __init__(self, spec: ModelSpec = NANO, *, ray: bool = False) -> None:
        self.spec, self._ray = spec, ray or spec.address is not None
        self._chain: Chain | None = None

    def __enter__(self) -> Captioner:
        """Loads the model. Raises CheckpointError, DeviceError, PipelineError."""
        from dragoman.pipeline.start import start

        self._chain = start(self.spec, ray=self._ray)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._chain is not None:
            self._chain.stop()
            self._chain = None

    def session(
        self,
        source: Source,
        options: Options | None = None,
        *,
        pace: Pace = "real-time",
        rate_hz: int = 16_000,
    ) -> Session:
        """One stream, to be iterated over once; its `stop` ends the input early.

        ``source`` is a file, an array, or an iterator of arrays (see `sources.open_source`);
        ``pace`` is "real-time" (as if it were spoken now), "live" (the source has a clock of its
        own, as a microphone has), or "fast". Raises InputError, LanguageError, SizeError.
        """
        from dragoman.pipeline.session import Session
        from dragoman.pipeline.start import check
        from dragoman.sources import open_source

        if self._chain is None:
            raise RuntimeError("the model is not loaded: use `with Captioner(...) as captioner:`")
        options = with_sizes(options, self.spec)
        check(self.spec, options.language, options.target_language)
        opened = open_source(source, options.language, rate_hz)
        return Session(self._chain, opened.pieces, options, pace, frames=opened.frames)

    def caption(
        self,
        source: Source,
        options: Options | None = None,
        *,
        pace: Pace = "real-time",
        rate_hz: int = 16_000,
    ) -> Iterator[Caption]:
        """The captions of ``source`` as they come; see :meth:`session`."""
        return iter(self.session(source, options, pace=pace, rate_hz=rate_hz))


def caption(
    source: Source,
    options: Options | None = None,
    spec: ModelSpec = NANO,
    *,
    pace: Pace = "real-time",
    rate_hz: int = 16_000,
) -> Iterator[Caption]:
    """Captions of one source as they come, by a model that is loaded for it.

        for caption in dragoman.caption("talk.wav", dragoman.Options(language="es"), pace="fast"):
            print(caption)

    A partial caption takes the place of the one before, a final one ends its segment. See
    :class:`Captioner` for several sources, and :meth:`Captioner.session` for the arguments.
    """
    with Captioner(spec) as captioner:
        yield from captioner.caption(source, options, pace=pace, rate_hz=rate_hz)


def translate(
    paths: str | Path | Sequence[str | Path],
    options: Options | None = None,
    spec: ModelSpec = NANO,
    *,
    output_dir: str | Path | None = None,
    formats: Sequence[str] = ("srt", "vtt", "json"),
    texts: Sequence[str] = ("transcript", "translation", "transcript-above"),
    overwrite: bool = False,
    workers: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[Result]:
    """Writes subtitles for files, folders and patterns; what came of each input.

    Files lie beside their input, or in ``output_dir``; what an earlier run finished is skipped.
    ``formats`` are those of docs/formats.md; each is written for every one of ``texts``:
    `transcript`, `translation`, and both with the `transcript-above` or the `translation-above`.
    The work is done by ``workers`` processes (None: one for each core or GPU), in which so many
    segments as ``batch_size`` share the passes of the model. A file that fails is
    a Result that says why, and stops nothing else. Raises UsageError, LanguageError, SizeError,
    CheckpointError, PipelineError before or while the workers start.
    """
    from dragoman.pipeline.batch_file import Result
    from dragoman.pipeline.batch_options import BatchOptions
    from dragoman.pipeline.outputs import chosen_formats, chosen_texts
    from dragoman.pipeline.translate import translate as run

    forms, shown = chosen_formats(formats), chosen_texts(texts)
    batch = BatchOptions(with_sizes(options, spec), spec, forms, shown, overwrite)
    named = [paths] if isinstance(paths, (str, Path)) else list(paths)
    folder = None if output_dir is None else Path(output_dir)
    made = run(map(str, named), batch, folder, workers=workers, batch_size=batch_size)
    with closing(made) as events:
        return [event for event in events if isinstance(event, Result)]


def with_sizes(options: Options | None, spec: ModelSpec) -> Options:
    """``options``, languages as codes, the instruction read, with the sizes of the spec where they
    name none.
    """
    from dragoman.models import languages, prompt
    from dragoman.stages.messages import SessionOptions

    options = options or SessionOptions()
    return replace(
        options,
        language=languages.find(options.language).code,
        target_language=languages.find(options.target_language).code,
        prompt_style=prompt.style_of(options.prompt_style),
        size=options.size or spec.size,
        draft_size=options.draft_size or spec.draft_size,
    )
