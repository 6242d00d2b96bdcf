"""The page of `dragoman demo`: Gradio's layout and look, and the app that serves it.

In front of :mod:`demos.browser_routes`; its scripts, `browser_*.js`, fill in what changes. Nothing
here calls anybody else: no analytics, and only fonts that the system has.

What is unusual: Gradio is the shell alone, without events. :mod:`demos.browser_guard` closes the
routes by which a page of Gradio's is driven, as they cannot tell the page from other programs.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported

import gradio as gr  # noqa: E402
from fastapi import FastAPI, Request, Response  # noqa: E402
from gradio.themes import Base  # noqa: E402
from starlette.requests import ClientDisconnect  # noqa: E402

from dragoman.demos import browser_view as view  # noqa: E402
from dragoman.demos.browser_guard import Guard  # noqa: E402
from dragoman.demos.browser_routes import routes  # noqa: E402
from dragoman.demos.browser_visitors import Visitors  # noqa: E402
from dragoman.models import languages  # noqa: E402

HERE = Path(__file__).parent
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")
SCRIPT = '<script type="module" src="api/scripts/browser_page.js"></script>'


def application(visitors: Visitors, clip: Path | None, names: Sequence[str] = ()) -> ASGIApp:
    """The page over ``visitors``, for requests to this machine or to hosts called ``names``;
    ``clip`` is the file behind the button for a first try.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(routes(visitors, clip))
    app.add_exception_handler(ClientDisconnect, _left)
    gr.mount_gradio_app(
        app,
        _layout(visitors, clip is not None),
        path="/",
        theme=_theme(),
        css_paths=HERE / "browser_page.css",
        head=SCRIPT,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    return Guard(app, names)


async def _left(request: Request, error: Exception) -> Response:
    """A page that was closed while it sent something: nobody waits for an answer."""
    return Response(status_code=499)


def _layout(visitors: Visitors, has_clip: bool) -> gr.Blocks:
    source = languages.find(visitors.options.language).name
    target = languages.find(visitors.options.target_language).name
    with gr.Blocks(title=f"Dragoman: {source} to {target}", analytics_enabled=False) as blocks:
        gr.HTML(
            f'<header class="dg-header"><h1>Dragoman</h1><p>{source} → {target}</p>'
            f"<small>{Path(visitors.model).name}</small></header>"
        )
        with gr.Tab("Live", id="live"):
            _live_tab()
        with gr.Tab("Video", id="video"):
            _video_tab(visitors, has_clip)
    return blocks


def _live_tab() -> None:
    gr.HTML(view.PROBLEMS)
    with gr.Row(elem_classes="dg-bar"):
        gr.HTML(view.MICROPHONE, elem_id="dg-microphone")
        gr.HTML(view.STATUS, elem_id="dg-status")
        gr.Button("Clear", elem_id="dg-clear", scale=0, min_width=110)
    gr.HTML(view.LIVE, elem_id="dg-captions")
    gr.HTML('<div id="dg-live-links"></div>', elem_id="dg-live-files")


def _video_tab(visitors: Visitors, has_clip: bool) -> None:
    with gr.Row(elem_classes="dg-bar"):
        gr.HTML(view.upload(), elem_id="dg-upload")
        if has_clip:
            gr.Button(
                "Try the bundled clip",
                variant="primary",
                elem_id="dg-clip",
                scale=0,
                min_width=230,
            )
    gr.HTML(view.WORKING, elem_id="dg-video-status")
    gr.HTML('<div id="dg-watch"></div>', elem_id="dg-player")
    gr.HTML('<div id="dg-video-links"></div>', elem_id="dg-video-files")
    gr.HTML(view.table(visitors.options), elem_id="dg-table")
    gr.HTML('<div id="dg-frames"></div>', elem_id="dg-gallery")


def _theme() -> Base:
    """Gradio's plain theme with the system's fonts."""
    return Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=FONT,
        font_mono=MONO,
    )
