"""Noticing at once that a caller has left.

ASGI tells it only to whoever waits in `receive`, so while an answer is being made somebody has to wait there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Receive


@asynccontextmanager
async def until_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Run the block while the caller is there; when they leave, cancel it and raise ClientDisconnect.

    To be entered after the request body has been read to its end.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:  # else somebody besides us wants the task to end
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
