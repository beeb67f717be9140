"""Which form an answer takes: a sound file or JSON, and in which format. `response_format` goes before `Accept`.

An `Accept` that names nothing we make is answered with the default (RFC 9110 section 12.5.1 allows it), since the
commonest such header is a client's own habit.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.encoding import MEDIA_TYPES, Format
from service.errors import Unprocessable
from service.schemas import ContinueParameters

JSON = "application/json"
_ALIASES: dict[str, Format] = {
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/x-flac": "flac",
    "audio/mp3": "mp3",
    "audio/opus": "ogg",
    "application/ogg": "ogg",
    **{media_type: format for format, media_type in MEDIA_TYPES.items()},
}


@dataclass(frozen=True)
class Form:
    """How the answer is given."""

    format: Format
    json: bool
    stream: bool

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]


def choose_form(parameters: ContinueParameters, accept: str) -> Form:
    """Raises Unprocessable for a stream of what can only be sent whole."""
    wanted = _preferred(accept)
    many = parameters.num_continuations > 1
    json = many or wanted == JSON
    if parameters.stream and json:
        why = "several continuations" if many else "JSON"
        raise Unprocessable(
            f"'stream': {why} cannot be streamed; ask for one continuation as audio", code="cannot_stream"
        )
    format = parameters.response_format or _ALIASES.get(wanted, "wav")
    return Form(format, json, parameters.stream)


def _preferred(accept: str) -> str:
    """The best-ranked type of `Accept` that we make, or an empty string."""
    best, best_quality = "", 0.0
    for item in accept.split(","):
        media_type, *options = (part.strip().lower() for part in item.split(";"))
        quality = next((_quality(option[2:]) for option in options if option.startswith("q=")), 1.0)
        if quality > best_quality and (media_type == JSON or media_type in _ALIASES):
            best, best_quality = media_type, quality
    return best


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
