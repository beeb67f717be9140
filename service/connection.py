"""A connection that cannot keep us waiting: how long a request may take to arrive, and how large its head may be.

uvicorn bounds neither: a caller who sends a byte of the head now and then, or nothing at all, would keep a connection
for good (slowloris), and so would one who goes on sending a body that was refused long ago. Here a head has a time and
a size, and a request that has not arrived in full some time after its head ends the connection. That a body comes too
slowly is first the application's to say (`service.limits`); this is what holds below it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0  # from the connection, or the first byte of the next request, to the end of the headers
MAX_HEAD_BYTES = 1 << 16  # of request line and headers
GRACE_SECONDS = 1.0  # beyond the time that a body has, for the application to answer

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for whatever the caller has to send next. `body_seconds`: for a body."""

    def __init__(
        self, *args: Any, body_seconds: float, head_seconds: float = HEAD_SECONDS, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds + GRACE_SECONDS
        self._head_bytes: int | None = None  # read so far of a head that is not complete
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self._head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()
        elif self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect(
                self._head_seconds
            )  # an empty line, which belongs to no request, ended uvicorn's own wait

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._expect(self._head_seconds)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._expect(self._body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._expect(None)
        super().on_message_complete()

    def _expect(self, seconds: float | None) -> None:
        """Close the connection in `seconds` unless something is expected anew by then; None: nothing is."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
