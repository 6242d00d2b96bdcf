"""The page of `dragoman demo`: Gradio's layout and look, and the app that serves it.

In front of :mod:`demos.browser_routes`; its scripts, `browser_*.js`, fill in what changes. Nothing
here calls anybody else: no analytics, and only fonts that the system has.

What is unusual: Gradio is the shell alone, without events. :mod:`demos.browser_guard` closes the
routes by which a page of Gradio's is driven, as they cannot tell the page from other programs.
"""

import os
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported

import gradio as gr  # noqa: E402
from fastapi import FastAPI, Request, Response  # noqa: E402
from gradio.themes import Base  # noqa: E402
from starlette.requests import ClientDisconnect  # noqa: E402

from dragoman.demos import browser_parts as parts  # noqa: E402
from dragoman.demos.browser_guard import Guard  # noqa: E402
from dragoman.demos.browser_routes import routes  # noqa: E402
from dragoman.demos.browser_visitors import Visitors  # noqa: E402
from dragoman.server.access import answer  # noqa: E402
from dragoman.server.limits import Limits, Places  # noqa: E402
from dragoman.server.refusals import Refusal  # noqa: E402
from dragoman.server.viewers import Viewers, asset  # noqa: E402

HERE = Path(__file__).parent
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")
VIEWERS = Limits().viewers
SCRIPT = '<script type="module" src="api/scripts/browser_page.js"></script>'


def application(visitors: Visitors, clip: Path | None, names: Sequence[str] = ()) -> ASGIApp:
    """The page over ``visitors``, for requests to this machine or to hosts called ``names``;
    ``clip`` is the file behind the button for a first try.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(routes(visitors, clip))
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Refusal, _refused)
    _add_viewers(app, visitors)
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


def _add_viewers(app: FastAPI, visitors: Visitors) -> None:
    """The server's own routes for who watches."""
    viewers = Viewers(visitors.watched, Places(VIEWERS, "viewers"))
    add: Callable[..., None] = app.add_api_route
    add("/v1/captions/{key}", viewers.stream, response_model=None)
    add("/captions/{key}", viewers.page, response_model=None)
    add("/captions/assets/{name}", asset, response_model=None)


async def _refused(request: Request, error: Any) -> Response:
    return answer(error)


async def _left(request: Request, error: Exception) -> Response:
    """A page that was closed while it sent something: nobody waits for an answer."""
    return Response(status_code=499)


def _layout(visitors: Visitors, has_clip: bool) -> gr.Blocks:
    with gr.Blocks(title="Dragoman", analytics_enabled=False) as blocks:
        gr.HTML(parts.HEADER.format(model=escape(visitors.choices.model)))
        with gr.Tab("Live", id="live"):
            gr.HTML(parts.PROBLEMS)
            gr.HTML(parts.LIVE_BAR)
            gr.HTML(parts.LIVE, elem_id="dg-captions")
            gr.HTML(parts.LIVE_FILES, elem_id="dg-live-files")
        with gr.Tab("Video", id="video"):
            clip = parts.CLIP if has_clip else ""
            gr.HTML(parts.UPLOAD.format(clip=clip), elem_id="dg-upload")
            gr.HTML(parts.WORKING, elem_id="dg-video-status")
            gr.HTML('<div id="dg-watch"></div>', elem_id="dg-player")
            gr.HTML('<div id="dg-video-links"></div>', elem_id="dg-video-files")
            gr.HTML(parts.TABLE, elem_id="dg-table")
            gr.HTML('<div id="dg-frames"></div>', elem_id="dg-gallery")
        with gr.Tab("Inside", id="inside"):
            gr.HTML(parts.INSIDE)
        gr.HTML(parts.SHARE + parts.KEYS, elem_id="dg-dialogs")
    return blocks


def _theme() -> Base:
    """Gradio's plain theme with the system's fonts."""
    return Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=FONT,
        font_mono=MONO,
    )
