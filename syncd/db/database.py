"""The database under the ledger: opening, transactions, and what its errors mean.

SQLite (one file, several processes) or PostgreSQL (several machines); the statements are the same. On SQLite:

* WAL, so that readers never wait for the writer; `synchronous=FULL`, so that a commit that returned is on the disk.
* The driver's own transaction handling is off (`isolation_level=None`). A writer says BEGIN IMMEDIATE: a transaction
  that reads first and writes later is refused at once in WAL, whatever the timeout (sqlite.org/lang_transaction.html).
* One thread of a process writes at a time. The others wait for a lock of ours and are woken at once; SQLite has each
  of them look again and again, and some of many never get their turn.
* Large temporary tables (listings) go to the state directory: the system's temporary directory may be memory.

On PostgreSQL (READ COMMITTED) each statement sees a state of its own anyway, so what only reads has no transaction: two
of three round trips are saved.

Connections come from a pool; any thread may use the methods, a connection belongs to one thread at a time. One that
PostgreSQL has closed is seen without asking it, and replaced. Never carry a Database across a fork.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from syncd import clock
from syncd.db.failures import explain
from syncd.db.migrations import HEAD, create, schema_version, upgrade
from syncd.durable import Step, durable_step
from syncd.errors import ConfigError, LedgerUnusable, Locked, making_error, storage_error

FILE_NAME: Final = "ledger.sqlite"
BUSY_S: Final = 15.0  # longest wait for another process's transaction; ours take milliseconds, a large listing a second
TURNS: Final = 8  # other threads of this process that may each wait as long before it is this one's turn
_PAUSE_S: Final = 0.02  # between two attempts at what SQLite does not wait for by itself
POOL_SPARE: Final = 4  # connections for moments: renewal, queue, schedule, and commits, which take milliseconds
_POOL_KEPT: Final = 16  # where there is no limit: so many are used again, and others closed at once
# PostgreSQL ends a transaction that stands still for as long as a lease lasts; ours stand still for milliseconds. A
# process that was frozen inside one, or vanished, would keep its locks, and nobody could take over its runs.
IDLE_S: Final = 60.0
_RECYCLE_S: Final = 1800  # routers forget connections that are quiet for an hour
# Of libpq, in seconds, and in milliseconds where the server does not confirm what was sent: without the last one a
# thread waits for a quarter of an hour for a server that has vanished, as TCP sends it again and again.
_KEEPALIVE: Final = {
    "keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 45_000,
}  # fmt: skip
_MIGRATION_LOCK: Final = 0x73796E6364  # "syncd": key of PostgreSQL's advisory lock
_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-2048",  # KiB for each connection, as long as the whole process stays below the next line
    "PRAGMA soft_heap_limit=16777216",  # octets of all connections; beyond it each reuses the pages it has
    "PRAGMA journal_size_limit=67108864",  # octets the WAL keeps after a checkpoint; a large listing may grow it
)


class Database:
    """An open database whose schema is the present one. Use `open`; `close` when done."""

    def __init__(self, engine: Engine, place: str, busy_s: float = BUSY_S) -> None:
        self.engine = engine
        self._busy_s = busy_s
        self.place = place  # what error lines call it: a path, or a URL without credentials
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writing = threading.Lock() if self.is_sqlite else None

    @classmethod
    def open(cls, url: str | None, directory: Path, *, busy_s: float = BUSY_S, pool_size: int | None = None) -> Self:
        """Open or create the database and bring its schema up to date.

        `url` is None for SQLite in `directory`, the state directory, which is made (mode 0700) if it is missing.
        `pool_size`: so many connections at most, which others wait for; None: as many as are asked for at once. A run
        keeps one while it takes in a listing, and needs others for moments: runs at a time and POOL_SPARE are enough.
        Raises ConfigError for a URL that is none, LedgerError for a damaged or newer database, Locked, StorageError.
        """
        address = _address(url, directory)
        if address.drivername == "sqlite":
            make_directory(directory)
        database = cls(*_engine(address, busy_s, pool_size), busy_s)
        try:
            if database.is_sqlite:
                database._keep_temporary_files(directory)
            database._migrate(busy_s)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def find(cls, url: str | None, directory: Path) -> Self | None:
        """Open the database as `open` does; None, and nothing is made, where there is none yet."""
        address = _address(url, directory)
        if address.drivername == "sqlite":
            there = _exists(Path(address.database or ""))
        else:
            with cls(*_engine(address, BUSY_S)) as database, database.read() as connection:
                there = bool(schema_version(connection))
        return cls.open(url, directory) if there else None

    @classmethod
    def peek(cls, url: str | None, directory: Path) -> Self | None:
        """Open the database as it is, whatever its schema; None where there is none. For looking at its health."""
        address = _address(url, directory)
        if address.drivername == "sqlite" and not _exists(Path(address.database or "")):
            return None
        return cls(*_engine(address, BUSY_S))

    @contextmanager
    def write(self, session: Connection | None = None) -> Iterator[Connection]:
        """One write transaction: committed at the end of the block, rolled back if it raises.

        `session` runs it on a connection of one's own. Raises Locked, DiskFull, Conflict, LedgerError; what the
        block raises on purpose passes through. After an error nothing of the transaction is left.
        """
        with self._turn(), self._begin("BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN", session) as connection:
            yield connection
            with durable_step(Step.LEDGER_COMMIT):
                connection.commit()

    @contextmanager
    def read(self, session: Connection | None = None) -> Iterator[Connection]:
        """Read. On SQLite everything in the block sees one state; keep it short, the WAL waits for it.

        With `session` it is a transaction, and its temporary tables may be written: they are nobody else's and outlive
        the block.
        """
        with self._begin("BEGIN" if self.is_sqlite or session is not None else "", session) as connection:
            yield connection
            connection.commit()

    @contextmanager
    def session(self, tidy: Callable[[Connection], bool] | None = None) -> Iterator[Connection]:
        """A connection of one's own, for temporary tables: it is closed at the end and takes them with it.

        Where `tidy` has dropped them and returns True, the connection is used again.
        """
        with self._explained(), self.engine.connect() as connection:
            clean = False
            try:
                yield connection
                clean = tidy is not None and tidy(connection)
            finally:
                if not clean:
                    connection.detach()

    def close(self) -> None:
        """Close the pool. Repeatable; connections still in use close when they are given back."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this thread's turn to write."""
        if self._writing is None:
            yield
            return
        if not self._writing.acquire(timeout=TURNS * self._busy_s):
            raise Locked(f"the ledger {self.place} is in use by another process or run; run again later")
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _begin(self, statement: str, session: Connection | None) -> Iterator[Connection]:
        """A connection in a transaction, if a `statement` begins one. Left without a commit, it is rolled back."""
        with self._explained():
            connection = session if session is not None else self.engine.connect()
            try:
                with connection.begin():
                    if statement:
                        connection.exec_driver_sql(statement)
                    yield connection
            finally:
                if session is None:
                    connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:  # the rest of SQLAlchemy's errors are mistakes of ours
            raise explain(error, self.place) from error

    # --- opening ---------------------------------------------------------------------------------------

    def _keep_temporary_files(self, directory: Path) -> None:
        """Have SQLite put the files of temporary tables there, in the whole process.

        SQLITE_TMPDIR would be too late: it is read when the library is loaded.
        """
        quoted = str(directory.absolute()).replace("'", "''")
        with self._explained(), self.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA temp_store_directory = '{quoted}'")

    def _migrate(self, busy_s: float) -> None:
        with self.read() as connection:
            version = schema_version(connection)
        if version != HEAD:
            self._upgrade()
        if self.is_sqlite:
            self._use_wal(busy_s)

    def _upgrade(self) -> None:
        """Several processes may come here at once: the first to get the lock works, the others find it done."""
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            version = schema_version(connection)
            if version > HEAD:
                raise LedgerUnusable(
                    f"the ledger {self.place} was written by a newer syncd (its schema is {version}, this program"
                    f" knows up to {HEAD}): use the newer program"
                )
            if not version and self.is_sqlite:
                create(connection)
            elif version < HEAD:
                upgrade(connection)

    def _use_wal(self, busy_s: float) -> None:
        """WAL is a property of the file. SQLite refuses to set it while others are in, rather than wait: so we do."""
        deadline = clock.monotonic() + busy_s
        while True:
            try:
                with self._explained(), self.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # nothing happens if it is
                    return
            except Locked:
                if clock.monotonic() >= deadline:
                    raise
                clock.sleep(_PAUSE_S)


def make_directory(directory: Path) -> None:
    """Make the state directory for its owner alone. One that is there stays as it is; the files in it are 0600."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise making_error(error, f"cannot make the state directory {directory}") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise storage_error(error, f"cannot look for the ledger {path}") from error


def _address(url: str | None, directory: Path) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(directory / FILE_NAME))
    try:
        address = make_url(url)
    except ArgumentError:
        address = URL.create("none")
    if address.drivername not in {"sqlite", "postgresql", "postgresql+psycopg"} or not address.database:
        raise ConfigError("the database URL must be sqlite:////path/to/file or postgresql://user@host/name")
    return address


def _engine(address: URL, busy_s: float, pool_size: int | None = None) -> tuple[Engine, str]:
    pool = {"pool_size": pool_size or _POOL_KEPT, "max_overflow": 0 if pool_size else -1, "pool_use_lifo": True}
    if address.drivername != "sqlite":
        return _postgresql(address, busy_s, pool), address.render_as_string(hide_password=True)
    assert address.database is not None
    _make_private(Path(address.database))
    engine = create_engine(address, connect_args={"timeout": busy_s, "isolation_level": None}, **pool)
    event.listen(engine, "connect", _set_pragmas)
    return engine, address.database


def _postgresql(address: URL, busy_s: float, pool: Mapping[str, int]) -> Engine:
    limits = {"lock_timeout": busy_s, "idle_in_transaction_session_timeout": IDLE_S}
    options = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in limits.items())
    settings = {"connect_timeout": int(busy_s) or 1, "options": options, **_KEEPALIVE}
    try:
        engine = create_engine(
            address, connect_args=settings, pool_recycle=_RECYCLE_S, isolation_level="AUTOCOMMIT", **pool
        )
    except ModuleNotFoundError as error:
        raise ConfigError("PostgreSQL needs its driver: pip install 'syncd[postgresql]'") from error
    event.listen(engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, *_: object) -> None:  # Any: the driver's connection has no type of its own here
    """Have the pool replace a connection that the server has closed: it has sent the end, or why it closed it.

    Asking each time (`pool_pre_ping`) costs a round trip for every transaction.
    """
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    if look.poll(0):
        raise DisconnectionError


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, for its owner alone; SQLite gives -wal and -shm the mode of the file.

    A file that is there is not opened: to close it would take away the locks that SQLite has on it in this process.
    Another process would then remove the -wal file, as if nobody used the ledger (sqlite.org/howtocorrupt.html §2.2).
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_IMODE(mode) & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise storage_error(error, f"cannot open the ledger {path}") from error


def _set_pragmas(connection: Any, _record: object) -> None:  # Any: the driver's connection has no type of its own here
    for pragma in _PRAGMAS:
        connection.execute(pragma)
