"""Broken and malicious uploads: each gets a 4xx with a problem document and costs little; the next is served."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import pytest

from tests.service import hostile
from tests.service.conftest import clip
from tests.service.processes import Process, process

MAX_SECONDS = 120
EXTRA_MIB = 256


ROUTES = ("/continue?seconds=0.5", "/detect")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    limits = {"max_upload_seconds": MAX_SECONDS, "max_detect_seconds": MAX_SECONDS}
    with process({"layers": True}, data_dir=tmp_path_factory.mktemp("data"), **limits) as running:
        for route in ROUTES:  # all is loaded
            assert running.http.post(route, content=clip(20)).status_code == 200
        yield running


def peak_mib(server: Process) -> float:
    return server.resident_mib("VmHWM")


def send(server: Process, route: str, body: bytes, content_type: str = "audio/wav") -> tuple[int, str]:
    headers = {"Content-Type": content_type.encode("latin-1")}
    response = server.http.post(route, content=body, headers=headers)
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


@cache
def cases(group: str) -> list[hostile.Case]:
    return list(GROUPS[group]())


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("group", GROUPS)
def test_hostile_audio(server: Process, group: str, route: str) -> None:
    server.forget_peak()
    before = peak_mib(server)
    wrong = []
    for name, data, right in cases(group):
        status, code = send(server, route, data)
        print(f"{name}: {len(data)} bytes, {status} {code}")
        if status not in right:
            wrong.append((name, status, code))
    assert not wrong
    extra = peak_mib(server) - before
    print(f"{group}: {extra:.0f} MiB more at the peak")
    assert extra < EXTRA_MIB
    assert server.http.post(route, content=clip()).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_hostile_forms(server: Process, route: str) -> None:
    server.forget_peak()
    before = peak_mib(server)
    wrong = []
    for name, content_type, body, right in hostile.forms():
        status, code = send(server, route, body, content_type)
        print(f"{name}: {len(body)} bytes, {status} {code}")
        if status not in right:
            wrong.append((name, status, code))
    assert not wrong
    assert peak_mib(server) - before < EXTRA_MIB


@pytest.mark.parametrize("route", ROUTES)
def test_bytes_are_capped_with_and_without_a_length(server: Process, route: str) -> None:
    server.forget_peak()
    before = peak_mib(server)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(2**20)

    assert send(server, route, bytes(64 * 2**20))[0] == 413
    response = server.http.post(route, content=endless())
    assert response.status_code == 413
    extra = peak_mib(server) - before
    print(f"64 MiB and an endless body: {extra:.0f} MiB more at the peak")
    assert extra < EXTRA_MIB
