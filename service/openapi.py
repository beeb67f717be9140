"""How the routes describe themselves in OpenAPI, beyond what FastAPI derives.

/continue takes its parameters from the query or the form and its body as a form or raw, which no function signature
can say; it is said here, from the same models that validate. Knows no requests.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from service.encoding import MEDIA_TYPES
from service.errors import PROBLEM_MEDIA_TYPE
from service.findings import DetectAnswer
from service.openapi_examples import DETECT_EXAMPLES
from service.progress import ProgressAnswer
from service.schemas import (
    ContinueAnswer,
    ContinueParameters,
    Health,
    Problem,
    form_properties,
    query_parameters,
)

TITLE = "AudioLM as a service"
DESCRIPTION = (
    "Upload a few seconds of speech or piano, get their continuation; upload any clip, learn whether this system made "
    "it, and which seconds. "
    "Every error is an RFC 9457 problem document with a stable `code` and the `request_id`."
)
CLIP_TYPES = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "application/octet-stream")

_BINARY = {"type": "string", "format": "binary"}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which a new attempt makes sense.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_REQUEST_ID = {
    "X-Request-ID": {
        "description": "The caller's own id if well-formed, else a new one.",
        "schema": {"type": "string"},
    }
}
_PROBLEMS = {
    400: (
        "The body or the form is malformed.",
        "bad_form",
        "the multipart form ends before its last boundary",
    ),
    401: ("No key, or one that is not known.", "unauthorized", "the key is not known"),
    408: ("The body came too slowly.", "body_too_slow", "the request body did not arrive within 30 s"),
    413: (
        "Too many bytes or too many seconds.",
        "too_long",
        "the audio lasts 7200 s; at most 1800 s can be used",
    ),
    415: (
        "Not audio, or audio of a kind that is not read.",
        "unsupported_audio",
        "the upload begins with b'PK'",
    ),
    422: (
        "A parameter or the clip cannot be used.",
        "silent",
        "the audio is silent: its peak is 0 of full scale",
    ),
    429: ("Full.", "overloaded", "58.2 s of work are in the queue"),
    500: ("A fault of the service.", "internal_error", "the service made a mistake; it has been logged"),
    503: ("Loading, shutting down or out of memory.", "not_ready", "the model is still loading"),
    504: ("The deadline passed.", "deadline_exceeded", "the request's deadline passed before it was done"),
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these error statuses."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        description, code, detail = _PROBLEMS[status]
        example = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
        }
        described[status] = {
            "description": description,
            "headers": {**_REQUEST_ID, **(_RETRY_AFTER if status in (429, 503) else {})},
            "content": {
                PROBLEM_MEDIA_TYPE: {
                    "schema": _ref(Problem),
                    "example": {**example, "request_id": "8c1d2e3f"},
                }
            },
        }
    return described


def json_answer(model: type[BaseModel], description: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI response 200 with a JSON body."""
    content = {"application/json": {"schema": _ref(model)}}
    return {200: {"description": description, "headers": _REQUEST_ID, "content": content}}


def detect_responses() -> dict[int | str, dict[str, Any]]:
    """All answers of POST /detect."""
    header = {
        "Server-Timing": {"description": "Time of each step in milliseconds.", "schema": {"type": "string"}}
    }
    content = {"application/json": {"schema": _ref(DetectAnswer)}}
    ok = {"description": "What was found.", "headers": {**_REQUEST_ID, **header}, "content": content}
    return {200: ok, **problems(400, 408, 413, 415, 422, 429, 500, 503, 504)}


def detect_operation() -> dict[str, Any]:
    """Body of POST /detect; it has no parameters."""
    return _clip_body({}, "A form with the clip in `file`, or the clip itself as the body.")


def continue_responses() -> dict[int | str, dict[str, Any]]:
    """All answers of POST /continue."""
    header = {"schema": {"type": "string"}}
    headers = {
        **_REQUEST_ID,
        "X-Generation-ID": {"description": "What the ledger knows the continuation by.", **header},
        "AudioLM-Seed": {"description": "The seed that was used.", **header},
        "AudioLM-Prompt-Seconds": {"description": "Seconds of the clip that were continued.", **header},
        "AudioLM-Continuation-Seconds": {"description": "Seconds that were made.", **header},
        "AudioLM-Notes": {"description": "What was done to the clip.", **header},
        "Server-Timing": {"description": "Time of each step in milliseconds.", **header},
    }
    content: dict[str, Any] = {media_type: {"schema": _BINARY} for media_type in MEDIA_TYPES.values()}
    content["application/json"] = {"schema": _ref(ContinueAnswer)}
    ok = {"description": "The sound, or JSON that holds it.", "headers": headers, "content": content}
    return {200: ok, **problems(400, 408, 413, 415, 422, 429, 500, 503, 504)}


def continue_operation(model: type[ContinueParameters]) -> dict[str, Any]:
    """Parameters and body of POST /continue."""
    description = (
        "A form with the clip in `file` (parameters may be fields too), or the clip itself as the body."
    )
    return {"parameters": query_parameters(model), **_clip_body(form_properties(model), description)}


def _clip_body(fields: dict[str, Any], description: str) -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {"file": {**_BINARY, "description": "The clip."}, **fields},
    }
    encoding = {"file": {"contentType": ", ".join(CLIP_TYPES)}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form, "encoding": encoding}}
    content |= {media_type: {"schema": _BINARY} for media_type in CLIP_TYPES}
    return {"requestBody": {"required": True, "description": description, "content": content}}


def complete(document: dict[str, Any], *, keys: bool) -> dict[str, Any]:
    """Add the schemas that responses refer to, sample answers, and bearer keys if the deployment asks for them."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (Problem, ContinueAnswer, DetectAnswer, Health, ProgressAnswer):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    detect = document["paths"]["/detect"]["post"]["responses"]["200"]["content"]["application/json"]
    detect["examples"] = {  # here, because FastAPI drops what is null
        name: {"summary": answer["summary"], "value": answer} for name, answer in DETECT_EXAMPLES.items()
    }
    if keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
