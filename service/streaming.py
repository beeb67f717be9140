"""An answer whose sound leaves while later sound is being made.

An error after the first byte is raised out of the response, so the server closes the connection in the middle: the
caller sees a broken transfer, never a short sound that looks complete. A caller who leaves, or who stops reading for
too long, ends the work behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.disconnect import until_disconnect


class StreamBroken(Exception):
    """The sound could not be finished; the cause is chained."""


class SoundStream(Response):
    """Sends `body` piece by piece, then closes `held`, which it owns."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        media_type: str,
        headers: Mapping[str, str],
        held: ExitStack,
        send_timeout_seconds: float,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.body_pieces = body
        self.held = held
        self.send_timeout_seconds = send_timeout_seconds
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            try:
                async with until_disconnect(receive):
                    await self._send_all(send)
            except ClientDisconnect:
                scope["state"]["client_left"] = True
            except Exception as error:
                raise StreamBroken(f"the answer broke off: {error}") from error

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self.body_pieces:
            if piece:
                async with asyncio.timeout(self.send_timeout_seconds):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
