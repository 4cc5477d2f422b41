"""The encoders that an index has vectors of, and the change from the one that searches compare by to another."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexing.encoder import ENCODER
from indexing.errors import HdmlError
from indexing.gallery import Failure
from indexing.recording import EmbeddedPhoto, find_known
from indexing.schema import LIVE
from indexing.sequence import next_sequence

MODELS = "models"  # folder of the encoders that came after the first
_MODELS = f"""
SELECT id, fingerprint, dimension, (SELECT COUNT(*) FROM vectors WHERE model = models.id), id = ({LIVE}) FROM models ORDER BY id
"""
LACKING = """
FROM items WHERE state = 'ready' AND NOT EXISTS (SELECT 1 FROM vectors WHERE item = items.id AND model = ?)
"""


@dataclass(frozen=True)
class Model:
    """An encoder that an index has vectors of.

    Attributes:
        id: of the index's own.
        fingerprint: of the encoder.
        dimension: length of its vectors.
        vectors: how many there are, those of photos that are gone included.
        live: whether searches compare by it.
        encoder: its file.
    """

    id: int
    fingerprint: str
    dimension: int
    vectors: int
    live: bool
    encoder: Path


def encoder_file(index_dir: Path, number: int, fingerprint: str) -> Path:
    """Where an index keeps the encoder of the model of a number."""
    # That the first one lies in the index's own folder is of before an index could have several.
    return (index_dir if number == 1 else index_dir / MODELS / fingerprint) / ENCODER


def list_models(connection: sqlite3.Connection, index_dir: Path) -> list[Model]:
    """As :meth:`indexing.catalogue.Catalogue.models`."""
    return [
        Model(number, fingerprint, dimension, vectors, bool(live), encoder_file(index_dir, number, fingerprint))
        for number, fingerprint, dimension, vectors, live in connection.execute(_MODELS)
    ]


def enter_model(connection: sqlite3.Connection, index_dir: Path, fingerprint: str, dimension: int) -> Model:
    """As :meth:`indexing.catalogue.Catalogue.add_model`, within a transaction of its caller."""
    connection.execute("INSERT OR IGNORE INTO models (fingerprint, dimension) VALUES (?, ?)", (fingerprint, dimension))
    (model,) = (model for model in list_models(connection, index_dir) if model.fingerprint == fingerprint)
    if model.dimension != dimension:
        raise HdmlError(
            f"the encoder {fingerprint} must give vectors of {model.dimension} values, as those that the index "
            f"{index_dir.name} has of it, but gives {dimension}; export it again"
        )
    return model


def store_vectors(connection: sqlite3.Connection, model: Model, photos: Iterable[tuple[str, EmbeddedPhoto]]) -> list[Failure]:
    """As :meth:`indexing.catalogue.Catalogue.add_vectors`, within a transaction of its caller."""
    failed = []
    for path, photo in photos:
        query = "SELECT id, hash FROM items WHERE path = ? AND state = 'ready'"
        item_id, digest = connection.execute(query, (path,)).fetchone()
        if photo.reason is not None or digest not in (None, photo.hash):
            failed.append(Failure(path, photo.reason or "its file has changed since it was indexed"))
            continue
        norm, vector = photo.norm, photo.vector
        if vector is None:
            known = find_known(connection, photo.hash, model=model.id)
            assert known is not None
            *_, norm, vector = known
        connection.execute("INSERT INTO vectors VALUES (?, ?, ?, ?)", (item_id, model.id, norm, bytes(vector)))
    return failed


def swap_model(
    connection: sqlite3.Connection, path: Path, model: Model, *, sequence: int, failed: Iterable[Failure], found: dict[str, Any]
) -> None:
    """As :meth:`indexing.catalogue.Catalogue.swap`, within a transaction of its caller."""
    changed = next_sequence(connection)
    for failure in failed:
        connection.execute(
            "UPDATE items SET state = 'failed', reason = ?, changed = ? WHERE path = ? AND state = 'ready'",
            (failure.reason, changed, failure.path),
        )
    ((lacking,),) = connection.execute(f"SELECT COUNT(*) {LACKING}", (model.id,))
    if lacking or changed != sequence + 1:
        raise HdmlError(
            f"{path} must stay as it is while it is changed over to {model.fingerprint}, but has changed; run the command again"
        )
    connection.execute("UPDATE meta SET value = ? WHERE key = 'model'", (model.id,))
    connection.execute("DELETE FROM meta WHERE key = 'calibration'")  # scores of another model mean something else
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('migration', ?)", (json.dumps(found),))


def delete_models(connection: sqlite3.Connection, index_dir: Path) -> list[Model]:
    """As :meth:`indexing.catalogue.Catalogue.forget_models`, within a transaction of its caller."""
    forgotten = [model for model in list_models(connection, index_dir) if not model.live]
    connection.execute(f"DELETE FROM vectors WHERE model != ({LIVE})")
    connection.execute(f"DELETE FROM models WHERE id != ({LIVE})")
    return forgotten
