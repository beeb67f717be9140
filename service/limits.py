"""What a caller may cost us before anything is parsed: bytes, time, keys.

BodyLimit is a plain ASGI layer that holds every request body to a size and a time; ByteBudget bounds the memory of
all uploads together; ApiKeys compares bearer keys in constant time. Knows nothing of audio.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BadRequest, RequestTimeout, TooLarge, TooManyRequests, Unauthorized


class BodyLimit:
    """Refuse a body that is longer than `max_bytes` or takes longer than `timeout_seconds` to arrive.

    The refusal is raised out of `receive`, where the reader of the body meets it; a length that is announced too
    large is met at the first read, before a byte is taken in.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        received = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self.timeout_seconds

        async def limited_receive() -> Message:
            nonlocal received, complete
            if complete:  # what follows the body is the disconnect, which may take any time
                return await receive()
            if announced.isascii() and announced.isdigit() and int(announced[:20]) > self.max_bytes:
                raise self._too_large(int(announced[:20]))
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout(
                    f"the request body did not arrive within {self.timeout_seconds:g} s; {received} bytes had come"
                ) from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if received > self.max_bytes:
                    raise self._too_large(received)
            else:
                complete = True
            return message

        await self.app(scope, limited_receive, send)

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"the request body has {size} bytes or more; at most {self.max_bytes} are read")


class ByteBudget:
    """Bytes that all uploads in memory may take together."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, count: int) -> None:
        """Raises TooManyRequests when `count` more bytes do not fit."""
        if self.used + count > self.total:
            raise TooManyRequests(
                "too many uploads are being read at once", code="upload_memory_full", retry_after=2.0
            )
        self.used += count

    def give_back(self, count: int) -> None:
        assert count <= self.used
        self.used -= count


class ApiKeys:
    """The keys that may call. No keys: everyone may."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, authorization: str | None) -> None:
        """Raises Unauthorized. Takes the same time whichever key is near the one given."""
        if not self._digests:
            return
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("send your key as 'Authorization: Bearer KEY'")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized("the key is not known")


def _digest(key: str) -> bytes:
    """All keys at one length, so that not even a key's length shows in the time of a comparison."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def require_small(count: int, limit: int, what: str, code: str) -> None:
    """Raises BadRequest when `count` of `what` exceeds `limit`."""
    if count > limit:
        raise BadRequest(f"the form has more than {limit} {what}", code=code)
