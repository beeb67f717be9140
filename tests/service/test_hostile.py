"""Broken and malicious uploads: each gets a 4xx with a problem document and costs little; the next is served."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import hostile
from tests.service.conftest import clip
from tests.service.processes import Process, process

MAX_SECONDS = 120
EXTRA_MIB = 256


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with process(max_upload_seconds=MAX_SECONDS) as running:
        assert running.http.post("/continue?seconds=0.5", content=clip()).status_code == 200  # all is loaded
        yield running


def peak_mib(server: Process) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def send(server: Process, body: bytes, content_type: str = "audio/wav") -> tuple[int, str]:
    headers = {"Content-Type": content_type.encode("latin-1")}
    response = server.http.post("/continue?seconds=0.5", content=body, headers=headers)
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
        return response.status_code, response.json()["code"]
    return response.status_code, ""


GROUPS = {
    "not audio": hostile.not_audio,
    "damaged": hostile.damaged,
    "lying": hostile.lying,
    "bombs": lambda: hostile.bombs(MAX_SECONDS),
}


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
@pytest.mark.parametrize("group", GROUPS)
def test_hostile_audio(server: Process, group: str) -> None:
    before = peak_mib(server)
    wrong = []
    for name, data, right in GROUPS[group]():
        status, code = send(server, data)
        print(f"{name}: {len(data)} bytes, {status} {code}")
        if status not in right:
            wrong.append((name, status, code))
    assert not wrong
    extra = peak_mib(server) - before
    print(f"{group}: {extra:.0f} MiB more at the peak")
    assert extra < EXTRA_MIB
    assert server.http.post("/continue?seconds=0.5", content=clip()).status_code == 200


def test_hostile_forms(server: Process) -> None:
    before = peak_mib(server)
    wrong = []
    for name, content_type, body, right in hostile.forms():
        status, code = send(server, body, content_type)
        print(f"{name}: {len(body)} bytes, {status} {code}")
        if status not in right:
            wrong.append((name, status, code))
    assert not wrong
    assert peak_mib(server) - before < EXTRA_MIB


def test_bytes_are_capped_with_and_without_a_length(server: Process) -> None:
    before = peak_mib(server)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(2**20)

    assert send(server, bytes(64 * 2**20))[0] == 413
    response = server.http.post("/continue", content=endless())
    assert response.status_code == 413
    assert peak_mib(server) - before < EXTRA_MIB
