"""What is wrong with a catalogue in itself, whatever the photos and the bases are like."""

import sqlite3

import numpy as np

from indexing.schema import SEARCHABLE
from indexing.vectors import all_vectors


def find_faults(connection: sqlite3.Connection) -> list[str]:
    """As :meth:`indexing.catalogue.Catalogue.find_faults`, within a transaction of its caller."""
    faults = [f"SQLite says: {found}" for (found,) in connection.execute("PRAGMA integrity_check") if found != "ok"]
    orphans = connection.execute("PRAGMA foreign_key_check")
    faults += [f"a row of {table} belongs to none of {parent}" for table, _, parent, _ in orphans]
    query = f"SELECT id FROM items WHERE state = 'ready' AND id NOT IN (SELECT items.id {SEARCHABLE})"
    faults += [f"item {item_id} has no vector" for (item_id,) in connection.execute(query)]
    wrong = "SELECT item FROM vectors JOIN models ON models.id = model WHERE length(vector) != 4 * dimension"
    if misshapen := connection.execute(wrong).fetchall():
        return faults + [f"the vector of item {item_id} has another length than its model's" for (item_id,) in misshapen]
    for ids, page in all_vectors(connection, None).pages():
        lengths = np.linalg.norm(page, axis=1)
        faults += [f"the vector of item {item_id} is not of unit length" for item_id in ids[~(abs(lengths - 1) < 1e-3)]]
    return faults
