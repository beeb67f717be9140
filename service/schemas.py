"""What goes in and out of the routes: the parameters of /continue, its JSON answer, the problem document.

Parameters arrive as strings, in the query or as form fields, and are held to the letter of the description in
OpenAPI: an unknown name, a name given twice, `yes` for a boolean or `1_000` for a number are refused with the
name of the parameter. Knows neither routes nor the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from service.errors import Unprocessable

ResponseFormat = Literal["wav", "flac", "ogg", "mp3", "pcm"]
MAX_SEED = 2**31 - 1  # so that every client language holds it exactly

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


def _integer(text: Any) -> Any:
    if isinstance(text, str) and not (_INTEGER.fullmatch(text) and len(text) < 20):
        raise ValueError("write a whole number such as 5")
    return text


def _number(text: Any) -> Any:
    if isinstance(text, str) and not (_NUMBER.fullmatch(text) and len(text) < 40):
        raise ValueError("write a number such as 5 or 0.8")
    return text


def _boolean(text: Any) -> Any:
    if isinstance(text, str) and text not in ("true", "false"):
        raise ValueError("write true or false")
    return text


Integer = Annotated[int, BeforeValidator(_integer)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]

P = TypeVar("P", bound=BaseModel)


class ContinueParameters(BaseModel):
    """How to continue. `bounded` narrows the limits to what a deployment allows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Number = Field(5.0, ge=0.1, description="Length of the continuation in seconds.", examples=[5])
    temperature: Number = Field(
        1.0,
        ge=0,
        le=2,
        description="How adventurous: multiplies each stage's own temperature; 0 always takes the likeliest token.",
        examples=[0.9],
    )
    top_k: Annotated[int, Field(ge=1, le=65536), BeforeValidator(_integer)] | None = Field(
        None, description="Sample from the k likeliest tokens only.", examples=[50]
    )
    top_p: Annotated[float, Field(gt=0, le=1), BeforeValidator(_number)] | None = Field(
        None,
        description="Sample from the likeliest tokens that hold this probability.",
        examples=[0.95],
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_integer)] | None = Field(
        None,
        description="The same clip, parameters and seed give the same sound. Drawn at random if left out, and told in"
        " the answer; the i-th of several continuations uses seed + i.",
        examples=[7],
    )
    num_continuations: Integer = Field(
        1, ge=1, description="More than one are answered as JSON.", examples=[1]
    )
    include_prompt: Boolean = Field(
        True, description="Begin the answer with the part of the clip that was continued.", examples=[True]
    )
    response_format: ResponseFormat | None = Field(
        None,
        description="Format of the sound; by default the one that `Accept` names, else wav. pcm is 16-bit"
        " little-endian mono without a header. Ogg holds Opus.",
        examples=["wav"],
    )
    stream: Boolean = Field(
        False,
        description="Send sound while later seconds are being made. For one continuation as audio only.",
        examples=[False],
    )


class DetectParameters(BaseModel):
    """There are none: the thresholds are part of what is measured, not of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def bounded(max_seconds: float, max_continuations: int) -> type[ContinueParameters]:
    """ContinueParameters with a deployment's own limits, so that OpenAPI states them."""
    fields = ContinueParameters.model_fields
    seconds, count = fields["seconds"], fields["num_continuations"]
    narrowed: dict[str, Any] = {
        "seconds": (
            Number,
            Field(
                min(seconds.default, max_seconds),
                ge=0.1,
                le=max_seconds,
                description=seconds.description,
                examples=[min(5.0, max_seconds)],
            ),
        ),
        "num_continuations": (
            Integer,
            Field(1, ge=1, le=max_continuations, description=count.description, examples=count.examples),
        ),
    }
    return create_model("ContinueParameters", __base__=ContinueParameters, **narrowed)


def parse_parameters(
    model: type[P], query: Iterable[tuple[str, str]], fields: Iterable[tuple[str, str]] = ()
) -> P:
    """Validate query and form fields together. Raises Unprocessable that lists every offending parameter."""
    given: dict[str, str] = {}
    for name, value in (*query, *fields):
        if name in given:
            raise Unprocessable(f"{shown(name)} is given more than once", code="duplicate_parameter")
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _invalid(error, model) from None


def _invalid(error: ValidationError, model: type[BaseModel]) -> Unprocessable:
    errors = []
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown; the parameters are {', '.join(model.model_fields) or 'none'}"
        elif isinstance(item["input"], str):
            message = f"{message}, not {shown(item['input'])}"
        errors.append({"parameter": name[:64], "message": message})
    first = errors[0]
    return Unprocessable(f"{shown(first['parameter'])}: {first['message']}", errors=errors)


def shown(text: str) -> str:
    """Text from a caller, short and printable, for a message."""
    return ascii(text if len(text) <= 64 else text[:61] + "...")


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """OpenAPI's `parameters` for the fields of `model`."""
    described = []
    for name, schema in model.model_json_schema()["properties"].items():
        schema = _plain(schema)
        example = schema.pop("examples")[0]
        parameter = {"name": name, "in": "query", "required": False, "description": schema.pop("description")}
        described.append({**parameter, "schema": schema, "example": example})
    return described


def form_properties(model: type[BaseModel]) -> dict[str, Any]:
    """The same fields as properties of a multipart body."""
    return {name: _plain(schema) for name, schema in model.model_json_schema()["properties"].items()}


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """One property without `title`, and an optional one as just its type: in a query it is given or left out."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if "anyOf" in schema:
        (choice,) = (option for option in schema.pop("anyOf") if option != {"type": "null"})
        schema.pop("default")
        schema = {**choice, **schema}
    return schema


class Problem(BaseModel):
    """RFC 9457 problem document; `code` is for programs, `detail` for people."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Content Too Large"])
    status: int = Field(examples=[413])
    detail: str = Field(examples=["the audio lasts 7200 s; at most 1800 s can be used"])
    code: str = Field(examples=["too_long"])
    request_id: str = Field(examples=["5f0c6e2f9b1d4a7c"])
    errors: list[dict[str, str]] | None = Field(
        None, description="Every offending parameter, if parameters offend."
    )


class PromptInfo(BaseModel):
    """What was read from the upload and what of it was used."""

    seconds: float = Field(description="Seconds of the clip that were continued.")
    original_seconds: float
    original_sample_rate: int
    original_channels: int
    notes: list[str] = Field(description="What was done to the clip, one sentence each.")


class ContinuationInfo(BaseModel):
    """One continuation."""

    seed: int
    generation_id: str = Field(description="What the ledger knows it by.")
    seconds: float = Field(description="Seconds made, without the prompt.")
    audio: str = Field(description="The sound file, base64.")


class ContinueAnswer(BaseModel):
    """The JSON answer of /continue."""

    request_id: str
    model: dict[str, Any] = Field(description="Name and version of the bundle.")
    sample_rate: int
    media_type: str
    include_prompt: bool = Field(description="Whether each sound begins with the prompt.")
    prompt: PromptInfo
    continuations: list[ContinuationInfo]
    timings: dict[str, float] = Field(description="Seconds spent in each step.")


class Health(BaseModel):
    """State of the service."""

    status: str = Field(examples=["ready"])
