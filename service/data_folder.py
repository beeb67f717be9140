"""The folder where this deployment keeps what it made for itself: keys and, by default, the ledger.

What is kept is made once: of several processes that start for the first time together, one wins and all read its file.
Only the owner may read it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from model.errors import ConfigError

APPLICATION = "audiolm"


def default_data_folder() -> Path:
    """A folder of the user's own, as the XDG base directory specification has it."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / APPLICATION


class DataFolder:
    """Made when something is first kept in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What is kept under `name`; if there is nothing, what `make` makes, from now on. Raises ConfigError."""
        path = self.path / name
        try:
            self.ensure()
            if not path.exists():
                self._write_once(path, make())
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be kept: {error.strerror or error}; AUDIOLM_DATA_DIR names another folder"
            ) from error

    def ensure(self) -> None:
        """Make the folder if there is none. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @staticmethod
    def _write_once(path: Path, data: bytes) -> None:
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was first
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)
