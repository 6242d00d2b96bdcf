"""The routes by which a page sends what its microphone hears.

Beside Gradio's own, in front of :mod:`demos.browser_visitors`. A page sends one request after the
other and repeats one that was not answered, so sound arrives whole and in order.
"""

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from starlette.concurrency import run_in_threadpool

from dragoman.demos.browser_visitors import Visitor, Visitors

LOWEST_HZ, HIGHEST_HZ = 8_000, 192_000
MOST_BYTES = 10 * HIGHEST_HZ * 2


def add_routes(app: FastAPI, visitors: Visitors) -> None:
    """Adds `POST /hear/KEY?rate=&take=&at=` (int16, mono, little-endian) and `POST /stop/KEY`.

    Both answer whether the page must wake its timer; 403 for a key that is not known here.
    """

    def visitor_of(key: str) -> Visitor:
        visitor = visitors.of_key(key)
        if visitor is None:
            raise HTTPException(403, "unknown key: reload the page")
        return visitor

    async def hear(
        key: str,
        request: Request,
        take: str = Query(max_length=40),
        rate: int = Query(ge=LOWEST_HZ, le=HIGHEST_HZ),
        at: int = Query(ge=0),
    ) -> dict[str, bool]:
        visitor = visitor_of(key)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"more than {MOST_BYTES} bytes: send smaller pieces")
        if len(body) % 2:
            raise HTTPException(400, f"{len(body)} bytes are no int16 samples")
        samples = np.frombuffer(bytes(body), "<i2")
        await run_in_threadpool(visitor.live.hear, rate, samples, take, at)
        return {"asleep": visitor.asleep}

    async def stop(key: str) -> dict[str, bool]:
        visitor = visitor_of(key)
        await run_in_threadpool(visitor.live.stop)
        return {"asleep": visitor.asleep}

    app.add_api_route("/hear/{key}", hear, methods=["POST"], include_in_schema=False)
    app.add_api_route("/stop/{key}", stop, methods=["POST"], include_in_schema=False)
