"""SQLite as the catalogue uses it: connecting, transactions, and its failures put into words."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexing.errors import HdmlError

LOCK_WAIT_S = 10.0


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that several threads may use in turn; transactions are begun and ended by hand.

    One whose folder may not be written is opened for reading.
    """
    uri = path.absolute().as_uri() + _options(path)
    return sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)


def _options(path: Path) -> str:
    if os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return ""
    # SQLite wants to make a log and an index of it beside the database even to read, unless it is told that nothing changes.
    return "?mode=ro" if path.with_name(f"{path.name}-wal").exists() else "?mode=ro&immutable=1"


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Commit what happens inside, or undo it when anything is raised; ``kind`` is DEFERRED (to read) or IMMEDIATE (to write)."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the database at ``path`` into an HdmlError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise HdmlError(f"{path} {_explanation(error)}") from error


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn what reading values from the database at ``path`` raises that are not as they were written into an HdmlError."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HdmlError(f"{path} is damaged ({error}); remove its folder and index the photos anew") from error


def _explanation(error: sqlite3.DatabaseError) -> str:
    # The low byte is the kind of error, the rest says more; errors of Python's own module carry no code.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "cannot grow because the disk is full; free some space and run the command again, what is stored stays"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"has been in use by another process for {LOCK_WAIT_S:g} s; wait until that ends and run the command again"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "is damaged; remove its folder and index the photos anew"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return f"must be writable, together with its folder, but SQLite reports: {error}; change the permissions"
        case sqlite3.SQLITE_IOERR:
            return f"cannot be read or written ({error}); check that the disk is neither full nor failing, what is stored stays"
    return f"cannot be used: {error}; if it is damaged, remove its folder and index the photos anew"
