"""The routes. Each says what it answers and hands over to what does the work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from model.engine.errors import NotReady
from service.detection import Detection
from service.encoding import MEDIA_TYPES
from service.limits import ApiKeys
from service.metrics import MEDIA_TYPE, Metrics
from service.openapi import (
    continue_operation,
    continue_responses,
    detect_operation,
    detect_responses,
    json_answer,
    problems,
)
from service.page import Page
from service.pipeline import Pipeline
from service.progress import ProgressAnswer, progress_of
from service.schemas import Health
from service.worker import Worker

NO_STORE = {"Cache-Control": "no-store"}


def api_router(pipeline: Pipeline, detection: Detection, keys: ApiKeys) -> APIRouter:
    """What callers use; needs a key if there are any."""
    worker = pipeline.worker

    async def require_key(request: Request) -> None:
        keys.check(request.headers.get("authorization"))

    guarded: dict[str, Any] = {"security": [{"key": []}]} if keys else {}
    refusals = problems(401) if keys else {}
    router = APIRouter(dependencies=[Depends(require_key)] if keys else [])

    @router.post(
        "/continue",
        summary="Continue a clip",
        response_class=Response,
        responses={**continue_responses(), **refusals},
        openapi_extra={**continue_operation(pipeline.parameters_model), **guarded},
    )
    async def continue_clip(request: Request) -> Response:
        """Send a few seconds of speech or piano; get them back with a continuation that keeps voice or timbre."""
        return await pipeline.continue_clip(request)

    @router.post(
        "/detect",
        summary="Did this system make it?",
        response_class=Response,
        responses={**detect_responses(), **refusals},
        openapi_extra={**detect_operation(), **guarded},
    )
    async def detect(request: Request) -> Response:
        """Send any clip; learn whether, and which seconds of it, this system made, and what says so."""
        return await detection.detect(request)

    @router.get(
        "/v1/model",
        summary="The model that is served",
        responses={
            200: {
                "description": "The bundle's card.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **problems(500, 503),
            **refusals,
        },
        openapi_extra=guarded,
    )
    async def model_card() -> JSONResponse:
        """Name, version, training data and licences of the bundle, and what this deployment allows."""
        runner = worker.engine.runner
        properties = pipeline.parameters_model.model_json_schema()["properties"]
        limits = {
            "sample_rate": runner.sample_rate,
            "max_prompt_seconds": runner.max_prompt_seconds,
            "max_seconds": properties["seconds"]["maximum"],
            "max_continuations": properties["num_continuations"]["maximum"],
            "max_upload_seconds": pipeline.max_upload_seconds,
            "max_detect_seconds": detection.max_seconds,
            "response_formats": list(MEDIA_TYPES),
        }
        return JSONResponse({**runner.card, "limits": limits})

    @router.get(
        "/v1/progress/{request_id}",
        summary="How far a continuation is",
        responses={**json_answer(ProgressAnswer, "Where it stands."), **problems(500), **refusals},
        openapi_extra=guarded,
    )
    async def progress(request_id: str) -> JSONResponse:
        """Give a request an X-Request-ID of your own that nobody can guess, and ask for it here while it runs."""
        answer = progress_of(request_id, worker.open_tickets)
        return JSONResponse(answer.model_dump(), headers=NO_STORE)

    return router


def probe_router(worker: Worker, metrics: Metrics) -> APIRouter:
    """What orchestrators and Prometheus ask; never needs a key."""
    router = APIRouter()

    @router.get("/livez", summary="Alive?", responses={**json_answer(Health, "Alive."), **problems(500, 503)})
    async def livez() -> JSONResponse:
        """503 once the engine thread has ended or is stuck: only a restart helps."""
        if not worker.alive:
            raise NotReady(
                f"the engine is {worker.state} and its last step was {worker.heartbeat_age:.0f} s ago"
            )
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    @router.get(
        "/readyz", summary="Ready?", responses={**json_answer(Health, "Ready."), **problems(500, 503)}
    )
    async def readyz() -> JSONResponse:
        """503 while loading, warming up, shutting down or stuck."""
        if worker.state != "ready" or not worker.alive:
            raise NotReady(f"the service is {worker.state}", retry_after=5.0)
        return JSONResponse({"status": "ready"}, headers=NO_STORE)

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            200: {
                "description": "Text exposition.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    )
    async def scrape() -> Response:
        return Response(metrics.exposition(), headers={"Content-Type": MEDIA_TYPE})

    return router


def page_router(page: Page) -> APIRouter:
    """What people look at: the page at /, the API description at /docs, their files."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return page.html("index", request.headers)

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        return page.html("docs", request.headers)

    @router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
    async def static(request: Request, path: str) -> Response:
        found = page.file(path, request.headers)
        if found is None:
            raise HTTPException(404, "no such file")
        return found

    return router
