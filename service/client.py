"""Calling the service from Python, blocking or with asyncio.

    with Client("http://localhost:8000") as client:
        answer = client.continue_clip("clip.wav", seconds=5)
        Path("longer.wav").write_bytes(answer.audio)

Both clients only carry out what `conversation.py` says. Knows HTTP only: no model, no sound files.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from service.conversation import (
    DEFAULT_TIMEOUT,
    Answer,
    Clip,
    Conversation,
    Conversations,
    Pause,
    ServiceUnreachable,
    read_answer,
)


class Client(Conversations):
    """Blocking. `transport` is the seam for tests; `retries` counts attempts after the first."""

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        key: str | None = None,
        retries: int = 4,
        rng: random.Random | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, retries, rng)
        self._http = httpx.Client(transport=transport, timeout=DEFAULT_TIMEOUT)

    def continue_clip(self, clip: Clip, **parameters: Any) -> Answer:
        """One continuation as a sound file. Parameters as in the API: seconds, temperature, top_k, seed ..."""
        response = self._carry_out(self.converse(self.continue_request(clip, parameters, "audio/*")))
        return read_answer(response, response.content)

    def continue_clip_json(self, clip: Clip, **parameters: Any) -> dict[str, Any]:
        """One or several continuations as the service's JSON answer."""
        request = self.continue_request(clip, parameters, "application/json")
        return dict(self._carry_out(self.converse(request)).json())

    @contextmanager
    def stream(self, clip: Clip, **parameters: Any) -> Iterator[Iterator[bytes]]:
        """The sound file piece by piece while it is made; raises ServiceUnreachable when it breaks off."""
        request = self.continue_request(clip, {**parameters, "stream": True}, "audio/*")
        response = self._carry_out(self.converse(request), whole=False)
        try:
            with _broken_stream(self.url):
                yield response.iter_bytes()
        finally:
            response.close()

    def detect(self, clip: Clip) -> dict[str, Any]:
        """Whether, and which seconds of it, the service's system made the clip: the JSON answer of /detect."""
        return dict(self._carry_out(self.converse(self.detect_request(clip))).json())

    def model(self) -> dict[str, Any]:
        """The card of the bundle that is served."""
        return dict(self._carry_out(self.converse(self.get_request("v1/model"))).json())

    def _carry_out(self, conversation: Conversation, *, whole: bool = True) -> httpx.Response:
        outcome: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                wish = conversation.send(outcome)
            except StopIteration as end:
                response: httpx.Response = end.value
                return response
            if isinstance(wish, Pause):
                outcome = None
                time.sleep(wish.seconds)
                continue
            try:
                outcome = self._http.send(wish, stream=True)
                if whole or outcome.status_code >= 400:
                    outcome.read()
            except httpx.TransportError as error:
                outcome = error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Conversations):
    """The same with asyncio."""

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        key: str | None = None,
        retries: int = 4,
        rng: random.Random | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, retries, rng)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._http = httpx.AsyncClient(transport=transport, timeout=DEFAULT_TIMEOUT, limits=limits)

    async def continue_clip(self, clip: Clip, **parameters: Any) -> Answer:
        """See Client.continue_clip."""
        response = await self._carry_out(self.converse(self.continue_request(clip, parameters, "audio/*")))
        return read_answer(response, response.content)

    async def continue_clip_json(self, clip: Clip, **parameters: Any) -> dict[str, Any]:
        """See Client.continue_clip_json."""
        request = self.continue_request(clip, parameters, "application/json")
        return dict((await self._carry_out(self.converse(request))).json())

    @asynccontextmanager
    async def stream(self, clip: Clip, **parameters: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """See Client.stream."""
        request = self.continue_request(clip, {**parameters, "stream": True}, "audio/*")
        response = await self._carry_out(self.converse(request), whole=False)
        try:
            with _broken_stream(self.url):
                yield response.aiter_bytes()
        finally:
            await response.aclose()

    async def detect(self, clip: Clip) -> dict[str, Any]:
        """See Client.detect."""
        return dict((await self._carry_out(self.converse(self.detect_request(clip)))).json())

    async def model(self) -> dict[str, Any]:
        """See Client.model."""
        return dict((await self._carry_out(self.converse(self.get_request("v1/model")))).json())

    async def _carry_out(self, conversation: Conversation, *, whole: bool = True) -> httpx.Response:
        outcome: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                wish = conversation.send(outcome)
            except StopIteration as end:
                response: httpx.Response = end.value
                return response
            if isinstance(wish, Pause):
                outcome = None
                await asyncio.sleep(wish.seconds)
                continue
            try:
                outcome = await self._http.send(wish, stream=True)
                if whole or outcome.status_code >= 400:
                    await outcome.aread()
            except httpx.TransportError as error:
                outcome = error

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@contextmanager
def _broken_stream(url: httpx.URL) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ServiceUnreachable(f"{url}: the answer broke off: {error or type(error).__name__}") from error
