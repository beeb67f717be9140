"""A running app around a fake engine, an in-process client for it, and clips to send."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from service.app import create_app
from service.layers import build_provenance
from service.provenance import Provenance
from service.settings import Settings
from service.worker import Worker
from tests.service.fakes import FakeRunner, fake_worker

Samples = npt.NDArray[np.float32]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("AUDIOLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AUDIOLM_DATA_DIR", str(tmp_path / "data"))  # not the home of whoever runs the tests


@pytest.fixture
def provenance() -> Provenance:
    """Every layer, real, in a data folder of this test's own."""
    return build_provenance(Settings())


@asynccontextmanager
async def serving(
    runner: FakeRunner | None = None,
    *,
    worker: Worker | None = None,
    provenance: Provenance | None = None,
    **settings: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that is ready. `settings` as in Settings."""
    given = Settings(**settings)
    worker = worker or fake_worker(
        runner, max_queue_size=given.max_queue_size, max_window_jobs=given.max_detections
    )
    app = create_app(given, worker, provenance=provenance)
    async with app.router.lifespan_context(app):
        await worker.ready()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            client.worker = worker  # type: ignore[attr-defined]
            yield client


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> Samples:
    """[N] or [N, channels] in steps of 16 bits, so that a lossless file gives the same values back."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.rint(0.4 * np.sin(2 * np.pi * 330 * time) * 32768) / 32768
    return (
        np.repeat(wave[:, None], channels, axis=1).astype(np.float32)
        if channels > 1
        else wave.astype(np.float32)
    )


def sound_file(
    samples: Samples, rate: int = 16_000, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """`samples` as the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def clip(seconds: float = 1.0, **kwargs: Any) -> bytes:
    """A WAV of `seconds`."""
    return sound_file(tone(seconds), **kwargs)


def samples_of(data: bytes) -> Samples:
    """The samples of an answer that is a sound file."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 16_000
    return np.asarray(samples)


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one shape of an error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["code"] == code, document
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["title"]
    assert "Traceback" not in response.text
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
    return document


Post = Callable[..., Any]
