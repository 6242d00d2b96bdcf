"""What the page shows, as HTML, and the files that it offers: captions, table, player, pictures.

Every text that came from outside is escaped. Files are named relative to the page, so that it also
works behind a proxy.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from dragoman.demos.certainty import parts
from dragoman.demos.terminal import clock
from dragoman.models import languages
from dragoman.pipeline import outputs
from dragoman.pipeline.formats import USUAL
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, SessionOptions, Text, VideoFrame

MICROPHONE_PROBLEM = '<div id="dg-mic" class="dg-help" role="alert" hidden></div>'
MICROPHONE = (
    '<div class="dg-microphone"><button id="dg-record" aria-pressed="false">Record</button>'
    '<div class="dg-meter" title="What the microphone hears"><div id="dg-level"></div></div>'
    '<select id="dg-devices" aria-label="Microphone" hidden></select></div>'
)
_CLASSES = {"sure": "", "unsure": ' class="dg-unsure"', "tail": ' class="dg-tail"'}
EMPTY_LIVE = (
    '<p class="dg-empty">Press <b>Record</b> and speak. '
    "What you say appears here, with its translation.</p>"
)


def live(captions: Sequence[Caption]) -> str:
    """All segments of a live transcript, the newest last; what may still change is grey."""
    shown = [caption for caption in captions if caption.transcript.whole]
    blocks = "".join(map(_segment, shown)) or EMPTY_LIVE
    return f'<div class="dg-live" aria-live="polite">{blocks}</div>'


def key(value: str) -> str:
    """Where `browser_page.js` finds by what the page names itself."""
    return f'<div id="dg-key" data-key="{escape(value)}" hidden></div>'


def status(state: str, heard_s: float = 0.0, problem: str = "") -> str:
    """The line above the live captions: ``state`` is one of those of `Live`."""
    if problem:
        return _status("dg-bad", escape(problem))
    clock = f" &nbsp; {_clock_s(heard_s)}" if heard_s else ""
    return _status("dg-on" if state == "Listening" else "dg-off", state + clock)


def progress(share: float | None, words: str) -> str:
    """A bar with ``words`` beside it; ``share`` None moves without an end."""
    kind = "" if share is not None else ' class="dg-unknown"'
    width = 100 if share is None else round(100 * share)
    return (
        f'<div class="dg-progress" role="progressbar" aria-valuenow="{width}"><div{kind} '
        f'style="width:{width}%"></div></div><p class="dg-status">{escape(words)}</p>'
    )


def done(text: str) -> str:
    return _status("dg-off", escape(text))


def problem(text: str) -> str:
    return _status("dg-bad", escape(text))


def table(captions: Sequence[Caption], options: SessionOptions) -> str:
    """One row for each segment; a click on it moves the player there."""
    names = [languages.find(options.language).name, languages.find(options.target_language).name]
    head = "".join(f"<th>{name}</th>" for name in ("Time", *names))
    rows = "".join(
        f'<tr data-seek="{_seconds(caption.start)}"><td>{clock(caption.start)}–'
        f'{clock(caption.end)}</td><td dir="auto">{escape(caption.transcript.whole)}</td>'
        f'<td dir="auto">{escape(caption.translation.whole)}</td></tr>'
        for caption in captions
    )
    return f'<table class="dg-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def player(media: Path, tracks: Sequence[tuple[str, str, Path]], has_video: bool) -> str:
    """A player with subtitles: ``tracks`` are language code, label and file; the first is shown.
    Without pictures it has no room for them; the row of the table that is spoken is marked.
    """
    lines = "".join(
        f'<track kind="subtitles" srclang="{escape(code)}" label="{escape(label)}" '
        f'src="{_url(path)}"{" default" if not at else ""}>'
        for at, (code, label, path) in enumerate(tracks if has_video else [])
    )
    kind = "video" if has_video else "audio"
    return (
        f'<{kind} class="dg-player" controls preload="auto" src="{_url(media)}">{lines}</{kind}>'
        '<p class="dg-status dg-unplayable" hidden>This browser cannot play the file; '
        "its subtitles are below.</p>"
    )


def gallery(pictures: Sequence[tuple[VideoFrame, Path]]) -> str:
    """The frames that captions name; a click on one moves the player there."""
    if not pictures:
        return ""
    figures = "".join(
        f'<figure data-seek="{frame.time:.3f}"><img src="{_url(path)}" alt="">'
        f"<figcaption>{clock(round(frame.time * SAMPLE_RATE_HZ))} · frame {frame.index}"
        "</figcaption></figure>"
        for frame, path in pictures
    )
    return f'<h3>Frames</h3><div class="dg-gallery">{figures}</div>'


def downloads(paths: Sequence[Path]) -> str:
    """Links to files; their names say what they are."""
    if not paths:
        return ""
    links = "".join(
        f'<a href="{_url(path)}" download="{escape(path.name)}">{escape(path.name)}</a>'
        for path in paths
    )
    return f'<div class="dg-downloads"><span>Download</span>{links}</div>'


def save(
    folder: Path,
    name: str,
    model: str,
    captions: Sequence[Caption],
    options: SessionOptions,
    duration_s: float,
    warnings: Sequence[str] = (),
) -> list[Path]:
    """Writes what `dragoman translate` writes for a source called ``name``; the paths."""
    finals = [caption for caption in captions if caption.kind == "final"]
    shown, told = outputs.presented(finals, options, model)
    form = outputs.document(name, model, options, duration_s, finals, [*warnings, *told])
    files = outputs.planned(Path(name).stem, options, USUAL)
    return outputs.save(files, folder, shown, form)


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


def _clock_s(seconds: float) -> str:
    return clock(int(seconds) * SAMPLE_RATE_HZ).partition(".")[0]


def _seconds(samples: int) -> str:
    return f"{samples / SAMPLE_RATE_HZ:.3f}"


def _url(path: Path) -> str:
    return f"gradio_api/file={quote(str(path))}"
