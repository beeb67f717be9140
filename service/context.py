"""The outermost layer of every request: its id, its duration, its outcome. Plain ASGI, so a disconnect stays visible.

An X-Request-ID that is well-formed is kept, any other is replaced; either is echoed and goes into logs, problem
documents and the engine. Outcomes and route templates are few, so they may label metrics; raw paths never do.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import current_request
from service.metrics import Metrics

if TYPE_CHECKING:
    from service.traces import Traces

logger = logging.getLogger("audiolm.access")

_WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
CLIENT_CLOSED_REQUEST = 499  # what proxies log for it; it is never sent


class RequestContext:
    """Gives `scope["state"]["request_id"]`, answers X-Request-ID; counts, logs and traces the request.

    Whoever handles it may leave seconds by step in `scope["state"]["timings"]`."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, traces: Traces | None) -> None:
        self.app = app
        self.metrics = metrics
        self.traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = self._request_id(Headers(scope=scope).get("x-request-id", ""))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        token = current_request.set(request_id)
        status = 0
        complete = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            left = state.get("client_left", False)
            code = state.get("problem_code", "")
            outcome = "cancelled" if left else outcome_of(status if complete else 0, code)
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.observe_request(route, outcome, code, seconds)
            logger.info(
                "%s %s %s %s in %.3f s, request %s",
                scope["method"],
                route,
                status,
                outcome,
                seconds,
                request_id,
                extra={
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "outcome": outcome,
                    "code": code,
                    "seconds": round(seconds, 6),
                },
            )
            if self.traces is not None:
                attributes: dict[str, str | int | float] = {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                    "audiolm.outcome": outcome,
                    "audiolm.request_id": request_id,
                    **{f"audiolm.seconds.{step}": taken for step, taken in state.get("timings", {}).items()},
                }
                failed = outcome in ("error", "oom", "deadline")
                name = f"{scope['method']} {route}"
                self.traces.record(name, Headers(scope=scope), seconds, attributes, failed=failed)
            current_request.reset(token)

    @staticmethod
    def _request_id(given: str) -> str:
        return given if _WELL_FORMED.fullmatch(given) else secrets.token_hex(8)


def outcome_of(status: int, code: str) -> str:
    """One of ok, client_error, rejected, deadline, cancelled, oom, error. `status` 0: the answer broke off."""
    if code == "out_of_memory":
        return "oom"
    if code == "deadline_exceeded":
        return "deadline"
    if status in (429, 503):
        return "rejected"
    if status == CLIENT_CLOSED_REQUEST:
        return "cancelled"
    if 200 <= status < 400:
        return "ok"
    return "client_error" if 400 <= status < 500 else "error"
