"""What a caller is told when a request cannot be answered: RFC 9457 problem documents.

ServiceError                 status, code, detail, retry_after
├── BadRequest        400    the request itself is malformed
├── Unauthorized      401    no key, or a wrong one
├── RequestTimeout    408    the body came too slowly
├── TooLarge          413    bytes or seconds above the limit
├── UnsupportedMedia  415    not audio, or a kind of audio we do not read
├── Unprocessable     422    well-formed, but a value or the audio is unusable
└── TooManyRequests   429    full; `retry_after` seconds

Errors of the model keep their own classes and are given a status here by their `code`. Nothing in this file
knows of routes or of FastAPI; `app.py` installs the mapping once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from model.errors import AudioError, AudioLMError, ConfigError, GenerationError

PROBLEM_MEDIA_TYPE = "application/problem+json"


class ServiceError(Exception):
    """A refusal with a status of its own. `detail` is one sentence naming the offending value."""

    status = 500
    default_code = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.errors = errors


class BadRequest(ServiceError):
    status = 400
    default_code = "bad_request"


class Unauthorized(ServiceError):
    status = 401
    default_code = "unauthorized"


class RequestTimeout(ServiceError):
    status = 408
    default_code = "body_too_slow"


class TooLarge(ServiceError):
    status = 413
    default_code = "too_large"


class UnsupportedMedia(ServiceError):
    status = 415
    default_code = "unsupported_media_type"


class Unprocessable(ServiceError):
    status = 422
    default_code = "invalid_parameter"


class TooManyRequests(ServiceError):
    status = 429
    default_code = "overloaded"


# Codes of errors raised by the engine and its worker (model/engine/errors.py).
STATUS_OF_CODE: dict[str, int] = {
    "overloaded": 429,
    "not_ready": 503,
    "draining": 503,
    "stopped": 503,
    "out_of_memory": 503,
    "engine_failed": 503,
    "provenance_unavailable": 503,
    "deadline_exceeded": 504,
}

DEFAULT_RETRY_AFTER = 5.0  # seconds, for a 503 that does not know better


def status_of(error: AudioLMError) -> int:
    """HTTP status of an error of the model: by code, else 422 for what the caller sent, else 500."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return 422 if type(error) in (AudioError, GenerationError, ConfigError) else 500


def as_service_error(error: AudioLMError) -> ServiceError:
    """An error of the model as one of the service; the text of a 500 stays inside."""
    status = status_of(error)
    detail = str(error) if status != 500 else "the model could not finish this request"
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and status == 503:
        retry_after = DEFAULT_RETRY_AFTER
    answer = ServiceError(detail, code=error.code, retry_after=retry_after)
    answer.status = status
    return answer


def problem(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The RFC 9457 document for `error`."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    if error.errors:
        document["errors"] = error.errors
    return document


def problem_headers(error: ServiceError, request_id: str) -> Mapping[str, str]:
    """Headers that go with the document. Retry-After is whole seconds, rounded up (RFC 9110 section 10.2.3)."""
    headers = {"X-Request-ID": request_id, "Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers
