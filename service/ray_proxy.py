"""What Ray Serve's proxies answer when a replica is lost: 503 and Retry-After, as the service itself would.

Serve's own words for it are a bare 500, which no client retries. Set
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=service.ray_proxy:middlewares` on every node. Knows the shape of our errors,
no Ray: whatever says `application/problem+json` comes from a replica and passes.
"""

from __future__ import annotations

import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import PROBLEM_MEDIA_TYPE, ServiceError, problem, problem_headers

RETRY_SECONDS = 2


class LostReplica:
    """ASGI middleware around a Serve proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = replaced = False

        async def send_honestly(message: Message) -> None:
            nonlocal started, replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                headers = Headers(scope=message)
                started = True
                if message["status"] >= 500 and headers.get("content-type") != PROBLEM_MEDIA_TYPE:
                    replaced = True
                    await _refuse(send, headers.get("x-request-id", ""))
                    return
                _keep_first(message, "x-request-id")
            await send(message)

        try:
            await self.app(scope, receive, send_honestly)
        except Exception:
            if started:
                raise  # the body has begun: the connection breaks, nobody takes it for whole
        if not started:
            await _refuse(send, Headers(scope=scope).get("x-request-id", ""))


async def _refuse(send: Send, request_id: str) -> None:
    error = ServiceError(
        "the machine that worked on this was lost; send it again",
        code="replica_lost",
        retry_after=RETRY_SECONDS,
    )
    error.status = 503
    headers = {"content-type": PROBLEM_MEDIA_TYPE, **problem_headers(error, request_id)}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 503, "headers": raw})
    await send({"type": "http.response.body", "body": json.dumps(problem(error, request_id)).encode()})


def _keep_first(message: Message, name: str) -> None:
    """Serve adds an id of its own to the one that the service answers with."""
    headers = MutableHeaders(scope=message)
    values = headers.getlist(name)
    if len(values) > 1:
        headers[name] = values[0]


def middlewares() -> list[Middleware]:
    """What the proxies call at their start."""
    return [Middleware(LostReplica)]
