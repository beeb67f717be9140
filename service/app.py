"""The application: parts are built from settings here and nowhere else, errors get their form here once.

`create_app` starts nothing; the engine thread starts with the lifespan, and until it is warm every caller is told 503.
A fake engine goes in through `worker`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from model.engine.loading import load_engine
from model.errors import AudioLMError, ConfigError
from service import openapi
from service.context import CLIENT_CLOSED_REQUEST, RequestContext
from service.detection import Detection
from service.engine_metrics import WorkerCollector
from service.errors import PROBLEM_MEDIA_TYPE, ServiceError, as_service_error, problem, problem_headers
from service.examiner import Examiner
from service.limits import ApiKeys, BodyLimit, ByteBudget
from service.metrics import Metrics
from service.page import Page
from service.pipeline import Pipeline
from service.provenance import Provenance
from service.routes import api_router, page_router, probe_router
from service.schemas import bounded
from service.settings import Settings
from service.worker import Worker

if TYPE_CHECKING:
    from service.traces import Traces

logger = logging.getLogger(__name__)

FORM_OVERHEAD_BYTES = 1 << 18  # what a form may add to a clip of the largest size


def build_worker(settings: Settings) -> Worker:
    """The worker that these settings ask for, not started yet: the bundle is loaded in its thread."""
    cores = len(os.sched_getaffinity(0))
    build = partial(
        load_engine,
        settings.bundle,
        device=_device(settings.device),
        slots=settings.slots,
        max_seconds=settings.max_seconds,
        threads=settings.torch_threads or cores,
    )
    return Worker(
        build,
        max_queue_size=settings.max_queue_size,
        max_window_jobs=settings.max_detections,
        max_backlog_seconds=settings.max_backlog_seconds,
        stall_seconds=settings.stall_seconds,
    )


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _traces(endpoint: str | None) -> Traces | None:
    if endpoint is None:
        return None
    try:
        from service.traces import traces_to
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"traces_endpoint is {endpoint}, but {error.name} of the extra 'otel' is missing"
        ) from error
    return traces_to(endpoint)


def create_app(
    settings: Settings,
    worker: Worker,
    traces: Traces | None = None,
    provenance: Provenance | None = None,
) -> FastAPI:
    """The service around `worker`, not started yet. `traces` is where spans go, if not where the settings say;
    `provenance` marks answers and knows them again (`service.layers` builds it from settings; without it neither)."""
    provenance = provenance or Provenance()
    traces = traces or _traces(settings.traces_endpoint)
    metrics = Metrics()
    metrics.registry.register(WorkerCollector(worker))
    uploads = ByteBudget(settings.upload_memory_bytes)
    metrics.watch_uploads(lambda: uploads.used)
    keys = ApiKeys(key.get_secret_value() for key in settings.api_keys)
    audio_threads = ThreadPoolExecutor(settings.audio_workers, thread_name_prefix="audio")
    pipeline = Pipeline(
        worker,
        audio_threads,
        uploads,
        metrics,
        bounded(settings.max_seconds, settings.max_continuations),
        provenance,
        max_upload_seconds=settings.max_upload_seconds,
        max_prompt_seconds=settings.max_prompt_seconds,
        deadline_seconds=settings.deadline_seconds,
        send_timeout_seconds=settings.body_timeout_seconds,
    )

    detect_threads = ThreadPoolExecutor(settings.detect_workers, thread_name_prefix="detect")
    detection = Detection(
        worker,
        Examiner.of(provenance, on_ledger_failure=metrics.ledger_failures.labels("look_up").inc),
        detect_threads,
        uploads,
        metrics,
        max_seconds=settings.max_detect_seconds,
        deadline_seconds=settings.deadline_seconds,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await worker.drain(settings.drain_seconds)
            await worker.stop()
            for threads in (audio_threads, detect_threads):
                threads.shutdown(wait=False, cancel_futures=True)
            provenance.close()
            if traces is not None:
                await asyncio.to_thread(traces.close)

    app = FastAPI(
        title=openapi.TITLE,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load from other hosts
        redoc_url=None,
    )
    app.include_router(api_router(pipeline, detection, keys))
    app.include_router(probe_router(worker, metrics))
    app.include_router(page_router(Page()))
    _map_errors(app)
    _describe(app, keys=bool(keys))
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_upload_bytes + FORM_OVERHEAD_BYTES,
        timeout_seconds=settings.body_timeout_seconds,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["*"],
        )
    app.add_middleware(RequestContext, metrics=metrics, traces=traces)
    return app


def _map_errors(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        return _answer(request, error)

    @app.exception_handler(AudioLMError)
    async def model_error(request: Request, error: AudioLMError) -> Response:
        return _answer(request, as_service_error(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        refusal = ServiceError(f"{request.method} here: {error.detail}", code=code)
        refusal.status = error.status_code
        return _answer(request, refusal, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_left(request: Request, _: ClientDisconnect) -> Response:
        request.state.client_left = True
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def mistake(request: Request, _: Exception) -> Response:
        """Ours; Starlette raises it again after the answer, for the server to log with its trace."""
        return _answer(request, ServiceError("the service made a mistake; it has been logged"))


def _answer(request: Request, error: ServiceError, headers: Any = None) -> Response:
    request.state.problem_code = error.code
    request_id = request.state.request_id
    return JSONResponse(
        problem(error, request_id),
        error.status,
        headers={**(headers or {}), **problem_headers(error, request_id)},
        media_type=PROBLEM_MEDIA_TYPE,
    )


def _describe(app: FastAPI, *, keys: bool) -> None:
    derived = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.complete(derived(), keys=keys)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
