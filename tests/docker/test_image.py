"""The script that builds the image and proves it: what it says where it cannot, and how it starts the image.

The build itself takes minutes and gigabytes: `docker/check_image.sh`, by hand.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docker.conftest import DOCKER, ROOT, program

SCRIPT = DOCKER / "check_image.sh"


def check_image(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("bash"), str(SCRIPT), *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with the tools of any host, but none that makes images."""
    for name in ("dirname", "sed"):
        (tmp_path / name).symlink_to(program(name))
    return tmp_path


def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run([program("shellcheck"), SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_help_is_the_head_of_the_script(tools: Path) -> None:
    done = check_image("--help", path=str(tools))
    assert done.returncode == 0
    assert done.stdout.startswith("Builds the image of docker/Dockerfile")
    assert "--store FOLDER" in done.stdout and "set -euo" not in done.stdout


def test_it_names_what_is_missing(tools: Path) -> None:
    assert "podman is not installed" in check_image(path=str(tools)).stderr
    (tools / "podman").symlink_to(program("false"))
    done = check_image(path=str(tools))
    assert done.returncode == 1
    assert "mmdebstrap is not installed" in done.stderr


def test_it_refuses_what_it_does_not_know(tools: Path) -> None:
    assert "unknown option --fast" in check_image("--fast", path=str(tools)).stderr
    assert "no .requirements/gpu.lock" in check_image("--lock", "gpu", path=str(tools)).stderr


def test_it_starts_the_image_as_compose_does() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["audiolm"]
    text = SCRIPT.read_text()
    assert service["read_only"] and "--read-only " in text
    assert service["cap_drop"] == ["ALL"] and "--cap-drop all" in text
    assert (
        service["security_opt"] == ["no-new-privileges:true"] and "--security-opt no-new-privileges" in text
    )
    assert service["tmpfs"] == ["/tmp"] and "--tmpfs /tmp" in text and "--read-only-tmpfs=false" in text


def test_what_was_compiled_here_stays_out_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("**/*.so") > ignored.index("!model")  # a later line wins
