"""POST /continue against the real worker and engine around a model that only echoes its seed."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest

from tests.service.conftest import assert_problem, clip, samples_of, serving, sound_file, tone
from tests.service.fakes import FakeRunner, Gate, expected_sound, pause

pytestmark = pytest.mark.anyio


async def test_answer_is_the_clip_and_then_exactly_so_many_seconds() -> None:
    async with serving() as client:
        response = await client.post("/continue?seconds=1.3&seed=7", files={"file": ("a.wav", clip(0.8))})
    assert response.status_code == 200
    assert response.headers["content-type"] == "audio/wav"
    samples = samples_of(response.content)
    assert len(samples) == round(0.8 * 16_000) + round(1.3 * 16_000)
    assert np.array_equal(samples[:12_800], tone(0.8)), "the prompt's own samples come back untouched"
    assert np.abs(samples[12_800:] - expected_sound(7, 20_800)).max() <= 2**-15
    assert response.headers["audiolm-seed"] == "7"
    assert response.headers["audiolm-prompt-seconds"] == "0.8000"
    for step in ("upload", "read", "queue", "encode", "decode", "write"):
        assert f"{step};dur=" in response.headers["server-timing"]


async def test_body_may_be_the_audio_itself() -> None:
    async with serving() as client:
        form = await client.post("/continue?seed=1", files={"file": clip()})
        raw = await client.post("/continue?seed=1", content=clip(), headers={"Content-Type": "audio/wav"})
        untyped = await client.post("/continue?seed=1", content=clip())
    assert form.content == raw.content == untyped.content


async def test_parameters_may_be_form_fields() -> None:
    async with serving() as client:
        query = await client.post("/continue?seed=3&seconds=0.5", files={"file": clip()})
        fields = await client.post("/continue", files={"file": clip()}, data={"seed": "3", "seconds": "0.5"})
    assert query.status_code == 200
    assert query.content == fields.content


async def test_prompt_can_be_left_out() -> None:
    async with serving() as client:
        response = await client.post("/continue?seconds=0.5&include_prompt=false", files={"file": clip()})
    assert len(samples_of(response.content)) == 8_000


async def test_24_bit_prompts_come_back_untouched() -> None:
    fine = (tone(0.8) + 2.0**-20).astype(np.float32)
    async with serving() as client:
        response = await client.post("/continue", files={"file": sound_file(fine, subtype="PCM_24")})
    assert np.abs(samples_of(response.content)[:12_800] - fine).max() < 2.0**-23


async def test_seed_is_drawn_and_told_when_left_out() -> None:
    async with serving() as client:
        first = await client.post("/continue?seconds=0.5", files={"file": clip()})
        again = await client.post(
            f"/continue?seconds=0.5&seed={first.headers['audiolm-seed']}", files={"file": clip()}
        )
        other = await client.post("/continue?seconds=0.5", files={"file": clip()})
    assert first.content == again.content
    assert first.headers["audiolm-seed"] != other.headers["audiolm-seed"]


async def test_several_continuations_are_json() -> None:
    async with serving() as client:
        response = await client.post(
            "/continue?seconds=0.5&seed=5&num_continuations=3&response_format=flac", files={"file": clip()}
        )
        alone = await client.post("/continue?seconds=0.5&seed=6&response_format=flac", files={"file": clip()})
    answer = response.json()
    assert response.headers["content-type"] == "application/json"
    assert answer["media_type"] == "audio/flac"
    assert answer["model"] == {"name": "fake", "version": "0"}
    assert answer["request_id"] == response.headers["x-request-id"]
    assert [item["seed"] for item in answer["continuations"]] == [5, 6, 7]
    sounds = [base64.b64decode(item["audio"]) for item in answer["continuations"]]
    assert np.array_equal(samples_of(sounds[1]), samples_of(alone.content)), (
        "each can be had alone by its seed"
    )


async def test_json_by_accept() -> None:
    async with serving() as client:
        response = await client.post(
            "/continue", files={"file": clip()}, headers={"Accept": "application/json"}
        )
    answer = response.json()
    assert len(answer["continuations"]) == 1
    assert answer["prompt"] == {
        "seconds": 1.0,
        "original_seconds": 1.0,
        "original_sample_rate": 16_000,
        "original_channels": 1,
        "notes": [],
    }
    assert answer["timings"]["read"] >= 0


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("?response_format=flac", "audio/wav", "audio/flac"),
        ("?response_format=mp3", "*/*", "audio/mpeg"),
        ("?response_format=pcm", "*/*", "audio/pcm"),
        ("", "audio/ogg", "audio/ogg"),
        ("", "audio/mpeg;q=0.5, audio/flac;q=0.9", "audio/flac"),
        ("", "audio/x-wav", "audio/wav"),
        ("", "text/html,*/*;q=0.8", "audio/wav"),
        ("", "audio/flac;q=nonsense", "audio/wav"),
    ],
)
async def test_format_by_parameter_and_by_accept(query: str, accept: str, media_type: str) -> None:
    async with serving() as client:
        response = await client.post(f"/continue{query}", files={"file": clip()}, headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    if media_type == "audio/pcm":
        assert len(response.content) == 2 * 6 * 16_000
    else:
        assert len(samples_of(response.content)) == 6 * 16_000


async def test_long_stereo_clip_is_cut_mixed_and_told() -> None:
    data = sound_file(tone(8, 44_100, channels=2), 44_100)
    async with serving(max_prompt_seconds=3) as client:
        response = await client.post("/continue?seconds=0.5", files={"file": data})
    assert len(samples_of(response.content)) == 3 * 16_000 + 8_000
    for said in ("mixed 2 channels", "resampled from 44100 Hz", "kept the last 3.0 s of 8.0 s"):
        assert said in response.headers["audiolm-notes"]


@pytest.mark.parametrize("format", ["wav", "flac", "pcm"])
async def test_streamed_samples_equal_the_unstreamed(format: str) -> None:
    async with serving() as client:
        url = f"/continue?seconds=2&seed=4&response_format={format}"
        whole = await client.post(url, files={"file": clip()})
        streamed = await client.post(f"{url}&stream=true", files={"file": clip()})
    assert streamed.status_code == 200
    assert streamed.headers["content-type"] == whole.headers["content-type"]
    if format == "flac":
        assert np.array_equal(samples_of(streamed.content), samples_of(whole.content))
    else:
        assert streamed.content == whole.content
        assert streamed.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("seconds=0", "seconds"),
        ("seconds=31", "seconds"),
        ("seconds=nan", "seconds"),
        ("seconds=1e999", "seconds"),
        ("seconds=five", "seconds"),
        ("seconds=", "seconds"),
        ("seed=-1", "seed"),
        ("seed=1_000", "seed"),
        ("seed=2147483648", "seed"),
        ("temperature=2.1", "temperature"),
        ("top_k=0", "top_k"),
        ("top_p=0", "top_p"),
        ("stream=yes", "stream"),
        ("num_continuations=9", "num_continuations"),
        ("response_format=aiff", "response_format"),
        ("second=5", "second"),
    ],
)
async def test_bad_parameters_are_named(query: str, parameter: str) -> None:
    async with serving() as client:
        in_query = await client.post(f"/continue?{query}", files={"file": clip()})
        name, _, value = query.partition("=")
        in_form = await client.post("/continue", files={"file": clip()}, data={name: value})
    for response in (in_query, in_form):
        document = assert_problem(response, 422, "invalid_parameter")
        assert [item["parameter"] for item in document["errors"]] == [parameter]
        assert parameter in document["detail"]


async def test_parameter_given_twice_is_refused() -> None:
    async with serving() as client:
        assert_problem(
            await client.post("/continue?seed=1&seed=1", content=clip()), 422, "duplicate_parameter"
        )
        response = await client.post("/continue?seed=1", files={"file": clip()}, data={"seed": "2"})
        assert_problem(response, 422, "duplicate_parameter")


@pytest.mark.parametrize("how", ["num_continuations=2", "accept"])
async def test_what_is_sent_whole_cannot_be_streamed(how: str) -> None:
    headers = {"Accept": "application/json"} if how == "accept" else {}
    query = "stream=true" if how == "accept" else f"stream=true&{how}"
    async with serving() as client:
        response = await client.post(f"/continue?{query}", files={"file": clip()}, headers=headers)
    assert_problem(response, 422, "cannot_stream")


async def test_full_queue_is_told_before_the_upload_is_read() -> None:
    gate = Gate()
    async with serving(FakeRunner(slots=1, before=gate), max_queue_size=2) as client:
        accepted = [asyncio.create_task(client.post("/continue?seed=1", content=clip())) for _ in range(2)]
        await asyncio.to_thread(gate.reached.wait, 60)
        async with asyncio.timeout(60):
            while client.worker.open_continuations < 2:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
        read = 0

        async def body():  # type: ignore[no-untyped-def]
            nonlocal read
            read += 1
            yield clip()

        assert_problem(await client.post("/continue", content=body()), 429, "overloaded")
        assert read == 0
        gate.open()
        assert [response.status_code for response in await asyncio.gather(*accepted)] == [200, 200]


async def test_deadline_is_504() -> None:
    async with serving(FakeRunner(before=pause(0.1)), deadline_seconds=0.25) as client:
        response = await client.post("/continue?seconds=5", files={"file": clip()})
    assert_problem(response, 504, "deadline_exceeded")


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_failing_stage_is_500_for_that_request_only(stream: str) -> None:
    def fail_seed_13(batch) -> None:  # type: ignore[no-untyped-def]
        if any(task.seed == 13 for task in batch.tasks):
            raise RuntimeError("a secret of the inside")

    async with serving(FakeRunner(before=fail_seed_13)) as client:
        good, bad = await asyncio.gather(
            client.post(f"/continue?seed=12&stream={stream}", content=clip()),
            client.post(f"/continue?seed=13&stream={stream}", content=clip()),
        )
        after = await client.post("/continue?seed=12", content=clip())
    assert good.content == after.content
    assert_problem(bad, 500, "stage_failed")
    assert "secret" not in bad.text


async def test_out_of_memory_is_503() -> None:
    def never_fits(batch) -> None:  # type: ignore[no-untyped-def]
        raise MemoryError

    async with serving(FakeRunner(before=never_fits)) as client:
        assert_problem(await client.post("/continue", content=clip()), 503, "out_of_memory")
