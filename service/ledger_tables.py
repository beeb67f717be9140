"""The tables of the ledger, their version, and how a database is opened for them. Knows no generations as such."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from model.errors import ConfigError

SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0  # how long a writer waits for another one
_CHECKPOINT_PAGES = 8000  # 32 MB: the words of one fingerprint lie on pages all over a large index
ATTEMPTS, PAUSE_SECONDS = 4, 0.05  # to make the tables, where several processes start together

_tables = sql.MetaData()
schema = sql.Table(
    "ledger_schema",
    _tables,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),  # always 1
    sql.Column("version", sql.Integer, nullable=False),
)
generations = sql.Table(
    "generations",
    _tables,
    sql.Column("row", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
    sql.Column("id", sql.String(32), nullable=False, unique=True),
    sql.Column("created_at", sql.Double, nullable=False, index=True),  # seconds since 1970, UTC
    sql.Column("bundle", sql.String(200), nullable=False),
    sql.Column("seed", sql.BigInteger, nullable=False),
    sql.Column("parameters", sql.JSON, nullable=False),
    sql.Column("payload", sql.Integer, index=True),  # of the watermark; null where there is none
    sql.Column("start", sql.Double, nullable=False),
    sql.Column("seconds", sql.Double, nullable=False),
    sql.Column("digest", sql.LargeBinary(32), index=True),  # null while a streamed answer is under way
    sql.Column("fingerprint", sql.LargeBinary),  # words, 32 bits each, little-endian
)
words = sql.Table(  # where each word of a fingerprint occurs
    "fingerprint_words",
    _tables,
    sql.Column("word", sql.Integer, primary_key=True, autoincrement=False),  # 32 bits, signed
    sql.Column("generation", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("frame", sql.Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)


def open_database(url: str) -> Engine:
    """Not connected yet. Raises ConfigError for a URL that means nothing, without showing what may be a password."""
    try:
        location = sql.make_url(url)
        arguments = {"timeout": BUSY_SECONDS} if location.get_backend_name() == "sqlite" else {}
        engine = sql.create_engine(
            location,
            connect_args=arguments,
            pool_pre_ping=True,
            pool_timeout=BUSY_SECONDS,
            hide_parameters=True,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(f"AUDIOLM_LEDGER_URL needs the Python package {error.name}") from None
    except (SQLAlchemyError, TypeError, ValueError) as error:
        raise ConfigError(f"AUDIOLM_LEDGER_URL cannot be used ({type(error).__name__})") from None
    if engine.dialect.name == "sqlite":
        sql.event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: Any, _: object) -> None:
    """SQLite: readers and a writer do not wait for each other, and a row that was answered survives a power cut."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")


def make_tables(engine: Engine) -> None:
    """Make the tables if there are none. Raises ConfigError for those of another version, SQLAlchemyError."""
    for attempt in range(ATTEMPTS):
        try:
            with engine.begin() as connection:
                _make(connection)
            return
        except SQLAlchemyError:  # perhaps another process is making them at this moment
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_SECONDS)


def _make(connection: Connection) -> None:
    """Each step may have been done by somebody else before."""
    if _version(connection) is None:
        _tables.create_all(connection)
        if _version(connection) is None:
            connection.execute(schema.insert().values(id=1, version=SCHEMA_VERSION))
    elif _version(connection) != SCHEMA_VERSION:
        raise ConfigError(
            f"the ledger has schema version {_version(connection)}, this service knows version {SCHEMA_VERSION}:"
            " use the service that wrote it, or point AUDIOLM_LEDGER_URL elsewhere"
        )


def _version(connection: Connection) -> int | None:
    if not sql.inspect(connection).has_table(schema.name):
        return None
    return connection.execute(sql.select(schema.c.version)).scalar_one_or_none()
