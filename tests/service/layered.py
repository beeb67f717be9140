"""Answers with every layer of provenance, and the ledger behind them, which can be taken away."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import httpx

from service.settings import Settings
from tests.service.conftest import clip


def database(settings: Settings | None = None) -> Path:
    folder = (settings or Settings()).data_dir
    assert folder is not None
    return folder / "ledger.sqlite"


def kill_ledger() -> None:
    with sqlite3.connect(database()) as connection:
        connection.execute("ALTER TABLE generations RENAME TO gone")


def revive_ledger() -> None:
    with sqlite3.connect(database()) as connection:
        connection.execute("ALTER TABLE gone RENAME TO generations")


async def ask(client: httpx.AsyncClient, query: str = "", **headers: str) -> httpx.Response:
    response = await client.post(f"/continue?{query}", files={"file": clip(1.5)}, headers=headers)
    assert response.status_code == 200, response.text
    return response
