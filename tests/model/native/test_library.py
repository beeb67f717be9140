"""Where kernels come from, and what happens where they cannot be had."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from model.native.library import COMPILERS, _compiled, cpu_has_what_is_needed

needs_compiler = pytest.mark.skipif(
    not cpu_has_what_is_needed() or not any(map(shutil.which, COMPILERS)),
    reason="no compiler, or no such CPU",
)


@needs_compiler
def test_what_was_compiled_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = _compiled(tmp_path / "cache")
    assert target.stat().st_size > 10_000 and target.parent.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("PATH", "")
    assert _compiled(tmp_path / "cache") == target
    assert sorted(path.suffix for path in target.parent.iterdir() if path.name != ".lock") == [".so"]


def test_no_compiler_is_an_error_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(subprocess.SubprocessError, match="gcc"):
        _compiled(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        _compiled(tmp_path / "file")
