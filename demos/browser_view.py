"""What changes on the page, as HTML, and the files that it offers.

Every text that came from outside is escaped. Files are named relative to the page, so that it also
works behind a proxy.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from dragoman.demos.browser_recording import Hole
from dragoman.demos.certainty import parts
from dragoman.demos.terminal import clock
from dragoman.models import languages
from dragoman.pipeline import outputs
from dragoman.pipeline.documents import document
from dragoman.pipeline.formats import USUAL
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, SessionOptions, Text, VideoFrame

_CLASSES = {"sure": "", "unsure": ' class="dg-unsure"', "tail": ' class="dg-tail"'}


def is_shown(row: Caption | Hole) -> bool:
    """Captions without words are left out."""
    return isinstance(row, Hole) or bool(row.transcript.whole)


def row(row: Caption | Hole) -> str:
    """A segment of the live transcript, what may still change in grey; or a hole in it."""
    if isinstance(row, Hole):
        return (
            f'<div class="dg-segment dg-hole"><time>{clock(row.start)}</time>'
            f"<p>{escape(row.sentence)}</p></div>"
        )
    return _segment(row)


def lag(seconds: float) -> str:
    return f"{seconds:.0f} s behind" if seconds else ""


def clock_s(seconds: float) -> str:
    return clock(int(seconds) * SAMPLE_RATE_HZ).partition(".")[0]


def working(text: str) -> str:
    return _status("dg-off", f"{escape(text)} …")


def done(text: str) -> str:
    return _status("dg-off", escape(text))


def problem(text: str) -> str:
    return _status("dg-bad", escape(text))


def heads(options: SessionOptions) -> list[str]:
    """What stands above the columns of the table of what is said in a file."""
    spoken, written = options.language, options.target_language
    return ["Time", languages.find(spoken).name, languages.find(written).name]


def line(caption: Caption) -> str:
    """One row for a segment; a click on it moves the player there, as its button does."""
    spoken, written = escape(caption.language), escape(caption.target_language)
    return (
        f'<tr data-seek="{_seconds(caption.start)}"><td><button class="dg-seek">'
        f"{clock(caption.start)}–{clock(caption.end)}</button></td>"
        f'<td dir="auto" lang="{spoken}">{escape(caption.transcript.whole)}</td>'
        f'<td dir="auto" lang="{written}">{escape(caption.translation.whole)}</td></tr>'
    )


def player(root: str, media: Path, tracks: Sequence[tuple[str, str, Path]], has_video: bool) -> str:
    """A player with subtitles: ``tracks`` are language code, label and file; the first is shown.
    Files are found below ``root``. Without pictures it has no room for subtitles; the row of the
    table that is spoken is marked.
    """
    lines = "".join(
        f'<track kind="subtitles" srclang="{escape(code)}" label="{escape(label)}" '
        f'src="{_url(root, path)}"{" default" if not at else ""}>'
        for at, (code, label, path) in enumerate(tracks if has_video else [])
    )
    kind = "video" if has_video else "audio"
    return (
        f'<{kind} class="dg-player" controls preload="auto" src="{_url(root, media)}" '
        f'aria-label="{escape(media.name)}">{lines}</{kind}>'
        '<p class="dg-status dg-unplayable" hidden>This browser cannot play the file; '
        "its subtitles are below.</p>"
    )


def gallery(root: str, pictures: Sequence[tuple[VideoFrame, Path]]) -> str:
    """The frames that captions name; a click on one moves the player there."""
    if not pictures:
        return ""
    figures = "".join(_figure(_url(root, path), frame) for frame, path in pictures)
    return f'<h2>Frames</h2><div class="dg-gallery">{figures}</div>'


def _figure(url: str, frame: VideoFrame) -> str:
    time = clock(round(frame.time * SAMPLE_RATE_HZ))
    return (
        f'<figure><button class="dg-seek" data-seek="{frame.time:.3f}">'
        f'<img src="{url}" alt="Go to frame {frame.index}, at {time}"></button>'
        f"<figcaption>{time} · frame {frame.index}</figcaption></figure>"
    )


def downloads(root: str, paths: Sequence[Path]) -> str:
    """Links to files; their names say what they are."""
    links = "".join(
        f'<a href="{_url(root, path)}" download="{escape(path.name)}">{escape(path.name)}</a>'
        for path in paths
    )
    return f'<div class="dg-downloads"><span>Download</span>{links}</div>'


def file_names(stem: str, options: SessionOptions) -> list[str]:
    """The files of a source called ``stem``, in the order in which they are shown."""
    return [output.file for output in _planned(stem, options)]


def save(
    folder: Path,
    name: str,
    model: str,
    captions: Sequence[Caption],
    options: SessionOptions,
    duration_s: float,
    warnings: Sequence[str] = (),
    only: str | None = None,
) -> list[Path]:
    """Writes what `dragoman translate` writes for a source called ``name``, or ``only`` one of
    these files; the paths.
    """
    finals = [caption for caption in captions if caption.kind == "final"]
    shown, told = outputs.presented(finals, options, model)
    form = document(name, model, options, duration_s, finals, [*warnings, *told])
    files = [file for file in _planned(Path(name).stem, options) if only in (None, file.file)]
    return outputs.save(files, folder, shown, form)


def _planned(stem: str, options: SessionOptions) -> list[outputs.Output]:
    return outputs.planned(stem, options, USUAL)


def tracks(paths: Sequence[Path], options: SessionOptions) -> list[tuple[str, str, Path]]:
    """The subtitles among ``paths`` that a browser can show, both languages together first."""
    source, target = options.language, options.target_language
    names = languages.find(source).name, languages.find(target).name
    labels = {
        f".{source}-{target}.vtt": (source, " + ".join(names)),
        f".{target}.vtt": (target, names[1]),
        f".{source}.vtt": (source, names[0]),
    }
    return [
        (code, label, path)
        for ending, (code, label) in labels.items()
        for path in paths
        if path.name.endswith(ending)
    ]


def _segment(caption: Caption) -> str:
    return (
        f'<div class="dg-segment dg-{caption.kind}"><time>{clock(caption.start)}</time>'
        f'<p class="dg-transcript" dir="auto" lang="{escape(caption.language)}">'
        f"{_text(caption.transcript)}</p>"
        f'<p class="dg-translation" dir="auto" lang="{escape(caption.target_language)}">'
        f"{_text(caption.translation)}</p></div>"
    )


def _text(text: Text) -> str:
    return "".join(f"<span{_CLASSES[part.kind]}>{escape(part.text)}</span>" for part in parts(text))


def _status(kind: str, html: str) -> str:
    return f'<p class="dg-status {kind}" role="status">{html}</p>'


def _seconds(samples: int) -> str:
    return f"{samples / SAMPLE_RATE_HZ:.3f}"


def _url(root: str, path: Path) -> str:
    return f"{root}/{quote(path.name)}"
