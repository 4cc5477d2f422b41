"""The sequence number of a catalogue: it grows with every change that searches have to learn of, which is kept with the item."""

import sqlite3


def read_sequence(connection: sqlite3.Connection) -> int:
    """The number of the last change."""
    ((sequence,),) = connection.execute("SELECT value FROM meta WHERE key = 'sequence'")
    return int(sequence)


def next_sequence(connection: sqlite3.Connection) -> int:
    """The number of one more change."""
    query = "UPDATE meta SET value = value + 1 WHERE key = 'sequence' RETURNING value"
    ((sequence,),) = connection.execute(query).fetchall()
    return int(sequence)


def take_away(connection: sqlite3.Connection, ids: list[int]) -> None:
    """Items leave the search, but keep their ids and vectors."""
    for item_id in ids:
        connection.execute("UPDATE items SET state = 'gone', changed = ? WHERE id = ?", (next_sequence(connection), item_id))
