"""Errors that callers can act on.

AudioLMError
├── AudioError       a clip that cannot be used: unreadable, empty, not finite, silent
├── ConfigError      a preset, setting or config file that names something unknown
├── BundleError      a bundle folder that is missing, incomplete or changed
├── GenerationError  a request the stages cannot carry out
└── TrainingError    a training run that cannot start or resume

Every error's text is one line that names the offending value; `code` is stable, for programs.
"""

from __future__ import annotations


class AudioLMError(Exception):
    """Base of every error this package raises for input from outside."""

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code


class AudioError(AudioLMError):
    default_code = "unreadable_audio"


class ConfigError(AudioLMError):
    default_code = "bad_config"


class BundleError(AudioLMError):
    default_code = "bad_bundle"


class GenerationError(AudioLMError):
    default_code = "bad_request"


class TrainingError(AudioLMError):
    default_code = "training"
