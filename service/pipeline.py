"""The way of one request, from its bytes to its answer.

    parameters -> room? -> upload -> parameters of the form -> place in the queue -> decode -> provenance begins
        -> engine -> mark, encode, sign, ledger

Whatever happens on the way, leaving the place gives it back and cancels what still runs. Up to the first byte of the
answer an error has a status of its own; after it, an error breaks the answer off.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from model.audiolm import GenerationSettings
from service.answers import open_answer, whole_answer
from service.audio import Prompt, decode_upload
from service.disconnect import until_disconnect
from service.encoding import Samples
from service.limits import ByteBudget
from service.metrics import Metrics
from service.negotiation import Form, choose_form
from service.places import Place
from service.provenance import Generation, Origin, Provenance
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
from service.timings import Timings
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
        provenance: Provenance,
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
        self.provenance = provenance
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
                settings = _settings(parameters)
                prompt, generations, parent = await self._on_audio_thread(
                    self._begin, upload.audio, parameters, settings, form, timings
                )
                upload.free()
                self.metrics.prompt_audio.observe(prompt.seconds)
                tickets = self._submit(place, prompt, settings, request.state.request_id, deadline)
                if form.stream:
                    return await self._stream(
                        tickets[0], generations[0], prompt, parameters, form, timings, held.pop_all()
                    )
                results = [await ticket.result() for ticket in tickets]
                timings.stages(*(result.stage_seconds for result in results))
                for result in results:
                    self._count(result, parameters)
                lead = _lead(prompt, parameters)
                sounds = [
                    await self._on_audio_thread(
                        whole_answer, generation, lead, result.waveform, form.format, prompt.bit_depth, parent
                    )
                    for generation, result in zip(generations, results, strict=True)
                ]
                timings.mark("write")
                timings.stages(*(generation.seconds for generation in generations))
        if form.json:
            made = [
                ContinuationInfo(
                    seed=result.seed,
                    generation_id=generation.id,
                    seconds=parameters.seconds,
                    audio=base64.b64encode(sound).decode(),
                )
                for result, generation, sound in zip(results, generations, sounds, strict=True)
            ]
            return self._json(request.state.request_id, prompt, parameters, form, made, timings)
        headers = _headers(prompt, parameters, form, results[0].seed, generations[0], timings)
        return Response(sounds[0], media_type=form.media_type, headers=headers)

    def _begin(
        self,
        clip: BytesIO,
        parameters: ContinueParameters,
        settings: GenerationSettings,
        form: Form,
        timings: Timings,
    ) -> tuple[Prompt, list[Generation], bytes | None]:
        """The decoded `clip`, a generation for each continuation, and what they keep of the clip's file.

        Raises UnsupportedMedia, TooLarge, AudioError, ProvenanceUnavailable."""
        prompt = decode_upload(
            clip, keep_seconds=self.max_prompt_seconds, max_seconds=self.max_upload_seconds
        )
        timings.mark("read")
        card = self.worker.engine.runner.card
        origins = [
            Origin(
                prompt=prompt.samples,
                model=str(card.get("name")),
                model_version=str(card.get("version")),
                seed=settings.seed + i,
                parameters=settings.sampling,
                start=prompt.seconds if parameters.include_prompt else 0.0,
                seconds=parameters.seconds,
            )
            for i in range(parameters.num_continuations)
        ]
        generations = [self.provenance.begin(origin, self.metrics.count_layer) for origin in origins]
        parent = None if form.stream else self.provenance.describe_parent(clip.getvalue(), form.format)
        timings.mark("begin")
        return prompt, generations, parent

    def _submit(
        self, place: Place, prompt: Prompt, settings: GenerationSettings, request_id: str, deadline: float
    ) -> list[Ticket]:
        runner = self.worker.engine.runner
        usable = round(runner.max_prompt_seconds * runner.sample_rate)
        return place.submit(prompt.samples[-usable:], settings, request_id=request_id, deadline=deadline)

    async def _stream(
        self,
        ticket: Ticket,
        generation: Generation,
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
            lead, num_samples = _lead(prompt, parameters), self._new_samples(parameters)
            answer, begun = await self._on_audio_thread(
                open_answer, generation, lead, num_samples, form.format, prompt.bit_depth, first
            )
        except BaseException:
            held.close()
            raise

        async def body() -> AsyncIterator[bytes]:
            yield begun
            async for chunk in chunks:
                yield await self._on_audio_thread(answer.piece, chunk)
            result = await ticket.result()
            timings.stages(result.stage_seconds, generation.seconds)
            self._count(result, parameters)

        headers = _headers(prompt, parameters, form, ticket.seed, generation, timings)
        if answer.num_bytes is not None:
            headers["Content-Length"] = str(answer.num_bytes)
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
        made: list[ContinuationInfo],
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
            continuations=made,
            timings=timings.seconds,
        )
        return JSONResponse(
            answer.model_dump(), headers={"Server-Timing": timings.header(), "Cache-Control": "no-store"}
        )


def _settings(parameters: ContinueParameters) -> GenerationSettings:
    return GenerationSettings(
        seconds=parameters.seconds,
        temperature=parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        seed=secrets.randbelow(MAX_SEED) if parameters.seed is None else parameters.seed,
    )


def _lead(prompt: Prompt, parameters: ContinueParameters) -> Samples:
    """What an answer begins with."""
    return prompt.samples if parameters.include_prompt else prompt.samples[:0]


def _headers(
    prompt: Prompt,
    parameters: ContinueParameters,
    form: Form,
    seed: int,
    generation: Generation,
    timings: Timings,
) -> dict[str, str]:
    """What an audio answer tells beside the sound."""
    headers: Mapping[str, str] = {
        "X-Generation-ID": generation.id,
        "AudioLM-Seed": str(seed),
        "AudioLM-Prompt-Seconds": f"{prompt.seconds:.4f}",
        "AudioLM-Continuation-Seconds": f"{parameters.seconds:g}",
        "Cache-Control": "no-store",
        "Content-Disposition": f'inline; filename="continuation.{form.format}"',
        "Server-Timing": timings.header(),
    }
    return {**headers, **({"AudioLM-Notes": "; ".join(prompt.notes)} if prompt.notes else {})}
