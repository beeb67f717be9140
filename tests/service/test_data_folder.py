"""Secrets that are made at the first start and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import ConfigError
from service.certificates import make_chain
from service.data_folder import DataFolder


def test_kept_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "data")
    first = folder.keep("signing.pem", make_chain)
    assert folder.keep("signing.pem", make_chain) == first
    assert (folder.path / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.path.iterdir()] == ["signing.pem"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="AUDIOLM_DATA_DIR"):
        DataFolder(tmp_path / "file").keep("signing.pem", make_chain)


def test_processes_that_start_together_keep_one_secret(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    def beaten() -> bytes:
        DataFolder(tmp_path).keep("key", lambda: b"the first")
        return b"the second"

    assert folder.keep("key", beaten) == b"the first"
