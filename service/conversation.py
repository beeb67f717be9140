"""One conversation with the service: what is sent, when it is sent again, what an answer means. Carries out nothing.

A conversation is a generator: it yields a request to send or a pause to make, and is told what came of it. A refusal
with Retry-After (429, 503) is tried again after that time, a lost connection after a growing one; anything else is
raised. `client.py` carries conversations out, blocking or with asyncio.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from model.errors import AudioLMError

DEFAULT_TIMEOUT = httpx.Timeout(10.0, read=300.0, write=60.0)  # seconds
RETRY_STATUSES = (429, 503)
LONGEST_PAUSE = 60.0  # seconds; a longer Retry-After is not waited for

Clip = str | Path | bytes | BinaryIO


class RequestRefused(AudioLMError):
    """The service answered with a problem. `status`, `code`, `request_id` and `problem`, the whole document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        detail = str(problem.get("detail") or f"the service answered {status}")
        super().__init__(detail, code=str(problem.get("code", "refused")))
        self.status = status
        self.problem = problem
        self.request_id = str(problem.get("request_id", ""))


class ServiceUnreachable(AudioLMError):
    """No connection, or it broke."""

    default_code = "unreachable"


@dataclass(frozen=True)
class Answer:
    """A sound as the service sent it. `audio` is the file; `seed` makes it again."""

    audio: bytes
    media_type: str
    seed: int | None
    generation_id: str
    prompt_seconds: float
    request_id: str
    notes: str
    server_timing: str


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds, then go on."""

    seconds: float


Conversation = Generator[httpx.Request | Pause, httpx.Response | httpx.TransportError | None, httpx.Response]


class Conversations:
    """Builds requests for one service and holds the conversations about them. `retries`: attempts after the first."""

    def __init__(self, url: str, key: str | None, retries: int, rng: random.Random | None) -> None:
        self.url = httpx.URL(url if url.endswith("/") else url + "/")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.retries = retries
        self.rng = rng or random.Random()

    def continue_request(self, clip: Clip, parameters: Mapping[str, Any], accept: str) -> httpx.Request:
        """POST /continue. A clip is a path, the bytes of a file, or an open file."""
        return self._clip_request("continue", clip, parameters, accept)

    def detect_request(self, clip: Clip) -> httpx.Request:
        """POST /detect. A clip as for /continue."""
        return self._clip_request("detect", clip, {}, "application/json")

    def _clip_request(
        self, path: str, clip: Clip, parameters: Mapping[str, Any], accept: str
    ) -> httpx.Request:
        name, data = _read(clip)
        given = {name: _text(value) for name, value in parameters.items() if value is not None}
        return httpx.Request(
            "POST",
            self.url.join(path),
            params=given,
            files={"file": (name, data)},
            headers={**self.headers, "Accept": accept},
            extensions={"timeout": DEFAULT_TIMEOUT.as_dict()},
        )

    def get_request(self, path: str) -> httpx.Request:
        extensions = {"timeout": DEFAULT_TIMEOUT.as_dict()}
        return httpx.Request("GET", self.url.join(path), headers=self.headers, extensions=extensions)

    def converse(self, request: httpx.Request) -> Conversation:
        """Send until there is an answer below 400 or no hope; raises RequestRefused, ServiceUnreachable."""
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            outcome = yield request
            assert outcome is not None
            if isinstance(outcome, httpx.TransportError):
                if last:
                    raise ServiceUnreachable(f"{self.url}: {outcome or type(outcome).__name__}") from outcome
                yield Pause(0.5 * 2**attempt * self.rng.uniform(0.5, 1.5))
                continue
            if outcome.status_code < 400:
                return outcome
            pause = retry_after(outcome)
            if last or pause is None or pause > LONGEST_PAUSE:
                raise RequestRefused(outcome.status_code, _problem(outcome))
            yield Pause(pause * self.rng.uniform(1.0, 1.25))  # never earlier, and not all callers at once
        raise AssertionError("unreachable")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds after which a refused request may be tried again; None when it should not be."""
    if response.status_code not in RETRY_STATUSES:
        return None
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _read(clip: Clip) -> tuple[str, bytes]:
    if isinstance(clip, bytes):
        return "clip", clip
    if isinstance(clip, str | Path):
        return Path(clip).name, Path(clip).read_bytes()
    return "clip", clip.read()


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def read_answer(response: httpx.Response, audio: bytes) -> Answer:
    headers = response.headers
    seed = headers.get("AudioLM-Seed")
    return Answer(
        audio=audio,
        media_type=headers.get("Content-Type", ""),
        seed=None if seed is None else int(seed),
        generation_id=headers.get("X-Generation-ID", ""),
        prompt_seconds=float(headers.get("AudioLM-Prompt-Seconds", 0.0)),
        request_id=headers.get("X-Request-ID", ""),
        notes=headers.get("AudioLM-Notes", ""),
        server_timing=headers.get("Server-Timing", ""),
    )
