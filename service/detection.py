"""The way of one clip through POST /detect, from its bytes to its answer.

    room? -> upload -> place in the queue -> decode -> file and sound to the examiner, windows to the engine -> verdict

The examiner (content credentials, ledger, watermark) works on a pool of threads of its own, beside the engine, so that
clips to examine hold up no continuation. Whatever happens on the way, leaving the place gives it back and cancels what
still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from model.engine.errors import DeadlineExceeded
from model.engine.loading import DETECT
from service.audio import Samples, decode_upload, media_type_of
from service.classifier import Classifier
from service.disconnect import until_disconnect
from service.examiner import Examiner
from service.findings import DetectAnswer, Versions
from service.limits import ByteBudget
from service.metrics import Metrics
from service.places import Place
from service.schemas import DetectParameters, parse_parameters
from service.timings import Timings
from service.upload import Upload, read_upload
from service.verdict import ClassifierFinding, answer_of
from service.worker import Worker

T = TypeVar("T")

BYTES_PER_SECOND = {  # as clips usually come: what admission goes by before a clip is decoded
    "audio/wav": 32_000,
    "audio/flac": 16_000,
    "audio/mpeg": 8_000,
    "audio/ogg": 3_000,
}


class Detection:
    """Everything a clip passes through, built once."""

    def __init__(
        self,
        worker: Worker,
        examiner: Examiner,
        threads: Executor,
        upload_budget: ByteBudget,
        metrics: Metrics,
        *,
        max_seconds: float,
        deadline_seconds: float,
    ) -> None:
        self.worker = worker
        self.examiner = examiner
        self.threads = threads
        self.upload_budget = upload_budget
        self.metrics = metrics
        self.max_seconds = max_seconds
        self.deadline_seconds = deadline_seconds

    async def detect(self, request: Request) -> Response:
        """Answer POST /detect."""
        timings = Timings()
        request.state.timings = timings.seconds
        query = request.query_params.multi_items()
        parse_parameters(DetectParameters, query)
        self._admit(0.0).release()  # full: say so before the upload
        content_type = request.headers.get("content-type", "")
        with await read_upload(content_type, request.stream(), self.upload_budget) as upload:
            timings.mark("upload")
            parse_parameters(DetectParameters, query, upload.fields)
            deadline = self.worker.now() + self.deadline_seconds
            with self._admit(self._seconds_of(upload), deadline) as place:
                async with until_disconnect(request.receive), self._until(deadline):
                    answer = await self._examine(upload, place, request.state.request_id, deadline, timings)
        self.metrics.observe_detection(answer, timings.seconds)
        headers = {"Server-Timing": timings.header(), "Cache-Control": "no-store"}
        return JSONResponse(answer.model_dump(), headers=headers)

    async def _examine(
        self, upload: Upload, place: Place, request_id: str, deadline: float, timings: Timings
    ) -> DetectAnswer:
        clip = await self._on_thread(
            decode_upload, upload.audio, keep_seconds=self.max_seconds, max_seconds=self.max_seconds
        )
        timings.mark("read")
        (findings, taken), classifier = await asyncio.gather(
            self._on_thread(self.examiner.examine, upload.audio.getvalue(), clip.samples),
            self._listen(place, clip.samples, request_id, deadline, timings),
        )
        timings.stages(taken)
        detector = self._classifier()
        versions = Versions(
            service=version("audiolm-service"),
            bundle=str(self.worker.engine.runner.card.get("version", "")),
            detector=None if detector is None else detector.version,
            watermark=self.examiner.watermark_version,
        )
        return answer_of(request_id, replace(findings, classifier=classifier), versions)

    async def _listen(
        self, place: Place, samples: Samples, request_id: str, deadline: float, timings: Timings
    ) -> ClassifierFinding | None:
        """What the classifier says, through the engine; None where the bundle has none."""
        classifier = self._classifier()
        if classifier is None:
            return None
        windows = classifier.windows_of(samples)
        ticket = place.submit_windows(DETECT, windows, request_id=request_id, deadline=deadline)
        probabilities = await ticket.result()
        timings.stages(ticket.task.stage_seconds)
        return await asyncio.to_thread(classifier.finding, samples, probabilities)

    def _classifier(self) -> Classifier | None:
        runner = self.worker.engine.runner
        if runner.detector is None:
            return None
        return Classifier(runner.detector, str(runner.card.get("version", "")))

    def _seconds_of(self, upload: Upload) -> float:
        """About how long an upload lasts, before it is decoded."""
        media_type = media_type_of(bytes(upload.audio.getbuffer()[:12]))
        return min(self.max_seconds, upload.size / BYTES_PER_SECOND.get(media_type or "", 1))

    def _admit(self, seconds: float, deadline: float = float("inf")) -> Place:
        classifier = self._classifier() if self.worker.state == "ready" else None
        num_windows = 0 if classifier is None else classifier.num_windows(seconds)
        return self.worker.admit_windows(DETECT, num_windows, deadline=deadline)

    @asynccontextmanager
    async def _until(self, deadline: float) -> AsyncIterator[None]:
        """The engine keeps deadlines itself; this is for everything else on the way."""
        try:
            async with asyncio.timeout(deadline - self.worker.now()):
                yield
        except TimeoutError:
            raise DeadlineExceeded("the request's deadline passed before it was done") from None

    async def _on_thread(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *args, **kwargs))
