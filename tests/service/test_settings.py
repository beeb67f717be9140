"""Settings come from AUDIOLM_* only, are frozen, and every one is in the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import PREFIX, Settings, settings_table

README = Path(__file__).parents[2] / "README.md"


def test_every_setting_is_documented_in_the_readme() -> None:
    readme = README.read_text().splitlines()
    missing = [row for row in settings_table().splitlines() if row not in readme]
    assert not missing, "put the output of 'python -m service.settings' into the README"
    stale = [
        line
        for line in readme
        if line.startswith(f"| `{PREFIX}") and line not in settings_table().splitlines()
    ]
    assert not stale


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOLM_MAX_QUEUE_SIZE", "7")
    monkeypatch.setenv("AUDIOLM_API_KEYS", " first-key-0123456, second-key-012345 ,")
    settings = Settings()
    assert settings.max_queue_size == 7
    assert [key.get_secret_value() for key in settings.api_keys] == ["first-key-0123456", "second-key-012345"]
    assert "first-key" not in repr(settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("API_KEYS", "short"),
        ("MAX_SECONDS", "0"),
        ("DEVICE", "tpu"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_nonsense_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
