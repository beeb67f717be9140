"""Errors of the engine: why a request was not accepted, or ended without its sound.

AudioLMError
├── Unavailable        nothing is accepted now; `retry_after` seconds say when to come back
│   ├── Overloaded       the queue or the backlog is full
│   ├── NotReady         still loading and warming up
│   ├── Draining         shutting down, finishing what was accepted
│   ├── EngineStopped    stopped before this request ended
│   └── EngineFailed     the engine thread ended with an error
└── RequestFailed      an accepted request that ended early
    ├── DeadlineExceeded
    ├── Cancelled
    ├── OutOfMemory      even alone and after one retry
    └── StageFailed      a stage raised for this request; the cause is chained
"""

from __future__ import annotations

from model.errors import AudioLMError


class Unavailable(AudioLMError):
    """Nothing is accepted now; `retry_after` is in seconds."""

    default_code = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    default_code = "overloaded"


class NotReady(Unavailable):
    default_code = "not_ready"


class Draining(Unavailable):
    default_code = "draining"


class EngineStopped(Unavailable):
    default_code = "stopped"


class EngineFailed(Unavailable):
    default_code = "engine_failed"


class RequestFailed(AudioLMError):
    default_code = "request_failed"


class DeadlineExceeded(RequestFailed):
    default_code = "deadline_exceeded"


class Cancelled(RequestFailed):
    default_code = "cancelled"


class OutOfMemory(RequestFailed):
    default_code = "out_of_memory"


class StageFailed(RequestFailed):
    default_code = "stage_failed"
