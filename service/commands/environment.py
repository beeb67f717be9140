"""Settings as commands read them: a malformed AUDIOLM_* variable is one line, not a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.settings import Settings


def read_settings(**given: Any) -> Settings:
    """From AUDIOLM_* variables; what is `given` and not None goes before them. Raises ConfigError."""
    from pydantic import ValidationError

    from model.errors import ConfigError
    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"AUDIOLM_{str(first['loc'][0]).upper()}: {first['msg']}") from None
