"""The Gradio page of `dragoman demo`: its two tabs, and what happens when something is pressed.

Last step of the flow, in front of :mod:`demos.browser_visitors`. A timer, which runs while there is
something to show, asks for captions. Nothing here calls anybody else: no analytics, and only fonts
that the system has.

What is unusual: the microphone's sound does not come through Gradio's own component, which loses
pieces and changes their order on a busy machine (measured); `browser_page.js` sends it, in order,
to the routes of :mod:`demos.browser_sound`.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dragoman.errors import InputError

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported

import gradio as gr  # noqa: E402
from gradio.themes import Base  # noqa: E402

from dragoman.demos import browser_view as view  # noqa: E402
from dragoman.demos.browser_sound import add_routes  # noqa: E402
from dragoman.demos.browser_video import Video  # noqa: E402
from dragoman.demos.browser_visitors import QUIET_TICKS_S, Visitor, Visitors  # noqa: E402
from dragoman.models import languages  # noqa: E402

HERE = Path(__file__).parent
TICK_S = 0.3
KEEP_UPLOADS_S = 600  # Gradio's copies; a visitor has one of its own
VIDEOS_AT_ONCE = 2
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Page:
    """The page over ``visitors``; ``clip`` is the file behind the button for a first try."""

    def __init__(self, visitors: Visitors, clip: Path | None) -> None:
        self._visitors, self._options, self._clip = visitors, visitors.options, clip
        self.blocks = self._build()

    def launch(self, folder: Path, **options: Any) -> str:
        """Serves the page in threads; returns its address. ``folder`` is what it may serve."""
        app, url, _ = self.blocks.launch(
            **options,
            theme=theme(),
            css_paths=HERE / "browser_page.css",
            head=f"<script>{(HERE / 'browser_page.js').read_text(encoding='utf-8')}</script>",
            allowed_paths=[str(folder)],
            footer_links=[],
            run_history=False,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
        )
        add_routes(app, self._visitors)
        return url

    # Layout.

    def _build(self) -> gr.Blocks:
        source = languages.find(self._options.language).name
        target = languages.find(self._options.target_language).name
        with gr.Blocks(
            title=f"Dragoman: {source} to {target}",
            analytics_enabled=False,
            delete_cache=(KEEP_UPLOADS_S, KEEP_UPLOADS_S),
        ) as blocks:
            gr.HTML(
                f'<header class="dg-header"><h1>Dragoman</h1><p>{source} → {target}</p>'
                f"<small>{Path(self._visitors.model).name}</small></header>"
            )
            with gr.Tab("Live", id="live"):
                self._live_tab(blocks)
            with gr.Tab("Video", id="video"):
                self._video_tab()
            blocks.unload(self._left)
        return blocks

    def _live_tab(self, blocks: gr.Blocks) -> None:
        gr.HTML(view.MICROPHONE_PROBLEM)
        with gr.Row(elem_classes="dg-bar"):
            gr.HTML(view.MICROPHONE, elem_id="dg-microphone")
            status = gr.HTML(view.status("Ready"), elem_id="dg-status")
            clear = gr.Button("Clear", elem_id="dg-clear", scale=0, min_width=110)
        captions = gr.HTML(view.live([]), elem_id="dg-captions")
        files = gr.HTML("", elem_id="dg-live-files")
        key = gr.HTML("", elem_id="dg-key-box")
        wake = gr.Button("Wake", visible="hidden", elem_id="dg-wake")
        timer = gr.Timer(TICK_S, active=False)
        blocks.load(self._greet, None, key, concurrency_limit=None, **QUIET)
        wake.click(self._wake, None, timer, concurrency_limit=None, **QUIET)
        shown = [captions, status, files, timer]
        timer.tick(self._tick, None, shown, concurrency_limit=None, **QUIET)
        clear.click(self._clear, None, shown, concurrency_limit=None, **QUIET)

    def _video_tab(self) -> None:
        with gr.Row():
            upload = gr.File(
                label="Video or audio",
                file_types=["video", "audio"],
                height=150,
                scale=4,
                elem_id="dg-upload",
            )
            if self._clip is not None:
                button = gr.Button(
                    "Try the bundled clip", variant="primary", elem_id="dg-clip", scale=1
                )
        status = gr.HTML("", elem_id="dg-video-status")
        player = gr.HTML("", elem_id="dg-player")
        files = gr.HTML("", elem_id="dg-video-files")
        table = gr.HTML("", elem_id="dg-table")
        gallery = gr.HTML("", elem_id="dg-gallery")
        shown = [status, player, files, table, gallery]
        work = {"concurrency_limit": VIDEOS_AT_ONCE, "concurrency_id": "video", **QUIET}
        upload.upload(self._wait, None, shown, **QUIET).then(self._translate, upload, shown, **work)
        upload.clear(self._close_video, None, shown, **QUIET)
        if self._clip is not None:
            button.click(self._wait, None, shown, **QUIET).then(
                self._translate_clip, None, shown, **work
            )

    # What happens on the Live tab.

    def _greet(self, request: gr.Request) -> str:
        return view.key(self._visitors.key(request.session_hash or ""))

    def _wake(self, request: gr.Request) -> gr.Timer:
        self._of(request).ticked_at = time.monotonic()
        return gr.Timer(active=True)

    def _tick(self, request: gr.Request) -> tuple[Any, ...]:
        visitor = self._of(request)
        visitor.ticked_at = time.monotonic()
        live = visitor.live
        listening = live.listening  # before the captions: what ends meanwhile is shown next time
        captions = live.captions()
        shown = view.live(captions)
        if listening or shown != visitor.shown:
            timer = gr.skip()
        else:
            timer = gr.Timer(active=False)
            visitor.ticked_at = -QUIET_TICKS_S
        changed = gr.skip() if shown == visitor.shown else shown
        files = gr.skip() if shown == visitor.shown else self._live_files(visitor)
        visitor.shown = shown
        line = view.status(live.state, live.heard_s, live.problem)
        return changed, line, files, timer

    def _clear(self, request: gr.Request) -> tuple[Any, ...]:
        visitor = self._of(request)
        visitor.live.clear()
        visitor.shown = view.live([])
        return visitor.shown, view.status("Ready"), "", gr.skip()

    def _live_files(self, visitor: Visitor) -> str:
        captions = visitor.live.captions()
        if not any(caption.kind == "final" for caption in captions):
            return ""
        paths = view.save(
            visitor.folder,
            "live",
            self._visitors.model,
            captions,
            self._options,
            visitor.live.heard_s,
        )
        return view.downloads(paths)

    # What happens on the Video tab.

    def _wait(self) -> tuple[str, ...]:
        return view.progress(0.0, "Waiting for a free place …"), "", "", "", ""

    def _translate_clip(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        assert self._clip is not None
        yield from self._translate(str(self._clip), request)

    def _translate(self, file: str | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        visitor = self._of(request)
        if file is None:
            return
        try:
            video = visitor.open_video(Path(file), Path(file).name)
        except InputError as error:
            yield view.problem(str(error)), "", "", "", ""
            return
        while not video.run.done:
            visitor.seen_at = time.monotonic()
            rows = view.table(video.captions(), self._options)
            line = view.progress(video.share, f"Translating {video.media.name} …")
            yield line, gr.skip(), gr.skip(), rows, gr.skip()
            time.sleep(TICK_S)
        if visitor.video is video:  # not so when another file has taken its place
            yield self._finished(video)

    def _finished(self, video: Video) -> tuple[str, ...]:
        captions = video.captions()
        if video.problem:
            return view.problem(video.problem), "", "", view.table(captions, self._options), ""
        paths = view.save(
            video.media.parent,
            video.media.name,
            self._visitors.model,
            captions,
            self._options,
            video.run.heard_s,
            video.warnings,
        )
        said = " ".join([video.media.name, *(f"· {warning}" for warning in video.warnings)])
        return (
            view.done(said) if captions else view.problem("No speech was heard in this file."),
            view.player(video.media, view.tracks(paths, self._options), video.info.has_video),
            view.downloads(paths),
            view.table(captions, self._options),
            view.gallery(video.pictures()),
        )

    def _close_video(self, request: gr.Request) -> tuple[str, ...]:
        self._of(request).close_video()
        return ("",) * 5

    # Visitors.

    def _of(self, request: gr.Request) -> Visitor:
        return self._visitors.get(request.session_hash or "")

    def _left(self, request: gr.Request) -> None:
        self._visitors.left(request.session_hash or "")


def theme() -> Base:
    """Gradio's plain theme with the system's fonts."""
    return Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=FONT,
        font_mono=MONO,
    )
