"""The way of one request, from its bytes to its answer.

    parameters -> room? -> upload -> parameters of the form -> place in the queue -> decode -> engine -> encode

Whatever happens on the way, leaving the place gives it back and cancels what still runs. Up to the first byte of the
answer an error has a status of its own; after it, an error breaks the answer off.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from model.audiolm import GenerationSettings
from service.audio import Prompt, decode_upload
from service.disconnect import until_disconnect
from service.encoding import Samples, encode, open_encoder
from service.limits import ByteBudget
from service.metrics import Metrics
from service.negotiation import Form, choose_form
from service.places import Place
from service.schemas import (
    MAX_SEED,
    ContinuationInfo,
    ContinueAnswer,
    ContinueParameters,
    PromptInfo,
    parse_parameters,
)
from service.streaming import SoundStream
from service.tickets import EngineResult, Ticket
from service.upload import read_upload
from service.worker import Worker

T = TypeVar("T")


class Pipeline:
    """Everything a request passes through, built once."""

    def __init__(
        self,
        worker: Worker,
        audio_threads: Executor,
        upload_budget: ByteBudget,
        metrics: Metrics,
        parameters_model: type[ContinueParameters],
        *,
        max_upload_seconds: float,
        max_prompt_seconds: float,
        deadline_seconds: float,
        send_timeout_seconds: float,
    ) -> None:
        self.worker = worker
        self.audio_threads = audio_threads
        self.upload_budget = upload_budget
        self.metrics = metrics
        self.parameters_model = parameters_model
        self.max_upload_seconds = max_upload_seconds
        self.max_prompt_seconds = max_prompt_seconds
        self.deadline_seconds = deadline_seconds
        self.send_timeout_seconds = send_timeout_seconds

    async def continue_clip(self, request: Request) -> Response:
        """Answer POST /continue."""
        timings = Timings()
        request.state.timings = timings.seconds
        query = request.query_params.multi_items()
        parameters = parse_parameters(self.parameters_model, query)
        self.worker.admit(
            parameters.seconds, parameters.num_continuations
        ).release()  # full: say so before the upload
        with ExitStack() as held:
            content_type = request.headers.get("content-type", "")
            upload = held.enter_context(await read_upload(content_type, request.stream(), self.upload_budget))
            timings.mark("upload")
            parameters = parse_parameters(self.parameters_model, query, upload.fields)
            form = choose_form(parameters, ",".join(request.headers.getlist("accept")))
            deadline = self.worker.now() + self.deadline_seconds
            place = held.enter_context(
                self.worker.admit(parameters.seconds, parameters.num_continuations, deadline=deadline)
            )
            async with until_disconnect(request.receive):
                prompt = await self._on_audio_thread(
                    decode_upload,
                    upload.audio,
                    keep_seconds=self.max_prompt_seconds,
                    max_seconds=self.max_upload_seconds,
                )
                upload.free()
                timings.mark("read")
                self.metrics.prompt_audio.observe(prompt.seconds)
                tickets = self._submit(place, prompt, parameters, request.state.request_id, deadline)
                if form.stream:
                    return await self._stream(tickets[0], prompt, parameters, form, timings, held.pop_all())
                results = [await ticket.result() for ticket in tickets]
                timings.stages(results)
                for result in results:
                    self._count(result, parameters)
                sounds = [
                    await self._on_audio_thread(
                        encode,
                        _joined(prompt, result.waveform, parameters.include_prompt),
                        form.format,
                        prompt.bit_depth,
                    )
                    for result in results
                ]
                timings.mark("write")
        if form.json:
            return self._json(request.state.request_id, prompt, parameters, form, results, sounds, timings)
        headers = _headers(prompt, parameters, form, results[0].seed, timings)
        return Response(sounds[0], media_type=form.media_type, headers=headers)

    def _submit(
        self, place: Place, prompt: Prompt, parameters: ContinueParameters, request_id: str, deadline: float
    ) -> list[Ticket]:
        settings = GenerationSettings(
            seconds=parameters.seconds,
            temperature=parameters.temperature,
            top_k=parameters.top_k,
            top_p=parameters.top_p,
            seed=secrets.randbelow(MAX_SEED) if parameters.seed is None else parameters.seed,
        )
        runner = self.worker.engine.runner
        usable = round(runner.max_prompt_seconds * runner.sample_rate)
        return place.submit(prompt.samples[-usable:], settings, request_id=request_id, deadline=deadline)

    async def _stream(
        self,
        ticket: Ticket,
        prompt: Prompt,
        parameters: ContinueParameters,
        form: Form,
        timings: Timings,
        held: ExitStack,
    ) -> Response:
        """An answer that begins when the first sound exists. `held` stays open until its last byte."""
        try:
            chunks = aiter(ticket)
            first = await anext(chunks)
            timings.mark("first_audio")
        except BaseException:
            held.close()
            raise
        lead = prompt.samples if parameters.include_prompt else prompt.samples[:0]
        encoder = open_encoder(form.format, len(lead) + self._new_samples(parameters), prompt.bit_depth)

        async def body() -> AsyncIterator[bytes]:
            yield await self._on_audio_thread(encoder.feed, np.concatenate([lead, first]))
            async for chunk in chunks:
                yield await self._on_audio_thread(encoder.feed, chunk)
            yield await self._on_audio_thread(encoder.close)
            result = await ticket.result()
            timings.stages([result])
            self._count(result, parameters)

        headers = _headers(prompt, parameters, form, ticket.seed, timings)
        if encoder.num_bytes is not None:
            headers["Content-Length"] = str(encoder.num_bytes)
        return SoundStream(body(), form.media_type, headers, held, self.send_timeout_seconds)

    def _new_samples(self, parameters: ContinueParameters) -> int:
        return round(parameters.seconds * self.worker.engine.runner.sample_rate)

    def _count(self, result: EngineResult, parameters: ContinueParameters) -> None:
        rate = self.worker.engine.runner.sample_rate
        self.metrics.observe_continuation(result, parameters.seconds, rate, streamed=parameters.stream)

    async def _on_audio_thread(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self.audio_threads, partial(call, *args, **kwargs)
        )

    def _json(
        self,
        request_id: str,
        prompt: Prompt,
        parameters: ContinueParameters,
        form: Form,
        results: list[EngineResult],
        sounds: list[bytes],
        timings: Timings,
    ) -> Response:
        card = self.worker.engine.runner.card
        answer = ContinueAnswer(
            request_id=request_id,
            model={key: card.get(key) for key in ("name", "version")},
            sample_rate=self.worker.engine.runner.sample_rate,
            media_type=form.media_type,
            include_prompt=parameters.include_prompt,
            prompt=PromptInfo(
                seconds=prompt.seconds,
                original_seconds=prompt.original_seconds,
                original_sample_rate=prompt.original_sample_rate,
                original_channels=prompt.original_channels,
                notes=list(prompt.notes),
            ),
            continuations=[
                ContinuationInfo(
                    seed=result.seed, seconds=parameters.seconds, audio=base64.b64encode(sound).decode()
                )
                for result, sound in zip(results, sounds, strict=True)
            ],
            timings=timings.seconds,
        )
        return JSONResponse(
            answer.model_dump(), headers={"Server-Timing": timings.header(), "Cache-Control": "no-store"}
        )


class Timings:
    """Seconds of each step, as the Server-Timing header tells them.

    upload, read (the clip from its file), the engine's queue, encode, semantic, coarse, fine, decode, then write.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, step: str) -> None:
        """`step` ended now."""
        now = time.perf_counter()
        self.seconds[step] = now - self._last
        self._last = now

    def stages(self, results: list[EngineResult]) -> None:
        """The engine's stages; of several continuations the longest time counts, since they run side by side."""
        for result in results:
            for stage, taken in result.stage_seconds.items():
                self.seconds[stage] = max(taken, self.seconds.get(stage, 0.0))
        self._last = time.perf_counter()

    def header(self) -> str:
        """Durations in milliseconds, as the Server Timing specification has it."""
        return ", ".join(f"{step};dur={taken * 1000:.1f}" for step, taken in self.seconds.items())


def _joined(prompt: Prompt, continuation: Samples, include_prompt: bool) -> Samples:
    return np.concatenate([prompt.samples, continuation]) if include_prompt else continuation


def _headers(
    prompt: Prompt, parameters: ContinueParameters, form: Form, seed: int, timings: Timings
) -> dict[str, str]:
    """What an audio answer tells beside the sound."""
    headers: Mapping[str, str] = {
        "AudioLM-Seed": str(seed),
        "AudioLM-Prompt-Seconds": f"{prompt.seconds:.4f}",
        "AudioLM-Continuation-Seconds": f"{parameters.seconds:g}",
        "Cache-Control": "no-store",
        "Content-Disposition": f'inline; filename="continuation.{form.format}"',
        "Server-Timing": timings.header(),
    }
    return {**headers, **({"AudioLM-Notes": "; ".join(prompt.notes)} if prompt.notes else {})}
