"""What the service writes to its log: lines for people, or one JSON object per line for machines.

Decisions held here: every record made while a request is handled carries the request's id; what a caller of `logger`
gives as `extra` becomes keys of the object. Whoever logs sees to it that no sound, no key and no query is in it.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

current_request: ContextVar[str] = ContextVar("current_request", default="")

_OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, request_id if there is one, extras, trace."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current_request.get():
            document["request_id"] = current_request.get()
        document |= {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


def configure(level: str, form: Literal["text", "json"], file: TextIO | None = None) -> None:
    """Send every record from `level` on to `file` (default: stderr), in this form and no other."""
    handler = logging.StreamHandler(file or sys.stderr)
    handler.setFormatter(JSONFormatter() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
