"""Settings of the service: environment variables AUDIOLM_*, read once, frozen.

Every field has a description; the table in the README is made from them (`python -m service.settings`) and a test
compares the two. Only `app.py` and the commands that start it read settings; everything else is given values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "AUDIOLM_"


class Settings(BaseSettings):
    """An unknown or malformed AUDIOLM_* value stops the start with one message."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    bundle: Path | None = Field(
        None, description="bundle folder to serve; unset: the starter bundle in the repository"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device of the engine; auto takes CUDA if present"
    )
    host: str = Field("127.0.0.1", description="address `audiolm serve` listens on")
    port: int = Field(8000, ge=0, le=65535, description="port `audiolm serve` listens on")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="comma-separated bearer keys; unset: no key is asked for"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated origins allowed to call from a browser; unset: none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe message logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="lines for people, or one JSON object per line"
    )
    traces_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL of an OpenTelemetry collector (OTLP over HTTP) for traces; needs the extra `otel`",
    )

    max_upload_bytes: int = Field(32 * 2**20, gt=0, description="bytes of one uploaded clip")
    upload_memory_bytes: int = Field(
        128 * 2**20, gt=0, description="bytes of all uploads held at once; above it new ones get 429"
    )
    max_upload_seconds: float = Field(
        1800.0, gt=0, description="seconds of one uploaded clip, by header and as decoded"
    )
    max_prompt_seconds: float = Field(
        30.0,
        ge=1,
        description="seconds kept of the end of a clip; answers begin with them, the model uses what it can",
    )
    body_timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="time a caller has to send the request body, and to take in each piece of the answer",
    )
    max_seconds: float = Field(30.0, ge=0.1, description="longest continuation one request may ask for")
    max_continuations: int = Field(8, ge=1, description="most continuations one request may ask for")

    slots: int = Field(
        16, ge=1, description="continuations made side by side; each needs memory for its past"
    )
    max_queue_size: int = Field(64, ge=1, description="continuations waiting or running; above it 429")
    max_backlog_seconds: float = Field(
        60.0, gt=0, description="estimated time to finish all accepted work; above it 429"
    )
    deadline_seconds: float = Field(
        120.0, gt=0, description="time a request has from admission to its last sample; then 504"
    )
    stall_seconds: float = Field(
        30.0, gt=0, description="time the engine may work on one step before /livez fails"
    )
    drain_seconds: float = Field(
        120.0, gt=0, description="time accepted requests have to finish after SIGTERM"
    )
    audio_workers: int = Field(2, ge=1, description="threads that decode and encode audio")
    torch_threads: int | None = Field(
        None,
        ge=1,
        description="threads of the engine's arithmetic on a CPU, one steps, others fill windows; unset: all cores",
    )

    max_detect_seconds: float = Field(
        600.0, ge=1, description="seconds of one clip that /detect examines, by header and as decoded"
    )
    max_detections: int = Field(16, ge=1, description="clips that /detect examines or holds; above it 429")
    detect_workers: int = Field(
        1,
        ge=1,
        description="threads that read clips for /detect and look for signature, ledger row and watermark",
    )

    data_dir: Path | None = Field(
        None,
        description="folder for keys and the ledger made at first start; unset: `audiolm` in the user's data folder",
    )
    provenance: Literal["required", "best_effort"] = Field(
        "required",
        description="what becomes of an answer without ledger row or signature: refused (503), or sent and counted",
    )
    watermark: bool = Field(True, description="mark generated seconds with the keyed watermark")
    watermark_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="comma-separated hexadecimal keys: the first marks, /detect looks for all; unset: one made at"
        " first start",
    )
    ledger: bool = Field(True, description="enter every generation in the ledger")
    ledger_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the ledger; unset: SQLite in the data folder"
    )
    ledger_retention_days: float | None = Field(
        None, gt=0, description="days after which rows of the ledger are deleted; unset: never"
    )
    content_credentials: bool = Field(True, description="sign WAV, FLAC and MP3 answers (C2PA)")
    signing_cert: Path | None = Field(
        None,
        description="PEM file with the signer's certificate chain; unset: a development chain made at first start",
    )
    signing_key: Path | None = Field(
        None, description="PEM file with the signer's private key, not encrypted"
    )
    signing_anchors: Path | None = Field(
        None, description="PEM file with the root certificates that are trusted, the signer's own among them"
    )
    signing_former_certs: Path | None = Field(
        None, description="PEM file with earlier signers' certificates, whose files still count as ours"
    )

    @field_validator("api_keys", "cors_origins", "watermark_key", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """A comma-separated variable as a tuple; blanks around and between commas do not count."""
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            if len(key.get_secret_value()) < 16 or not key.get_secret_value().isascii():
                raise ValueError("an API key needs at least 16 ASCII characters")
        return keys


def settings_table() -> str:
    """The README's table: one row per setting."""
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, info in Settings.model_fields.items():
        default = info.default
        shown = "unset" if default in (None, ()) else f"`{default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {info.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(settings_table())
