"""Which photos a search may find: by label, attributes, path, time and size, all of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from typing import Any

from indexing.errors import HdmlError

_LAST = 2**63 - 1  # in nanoseconds, the largest number that SQLite can hold


@dataclass(frozen=True)
class Filter:
    """What every result has to be.

    Attributes:
        labels: one of these; empty for any.
        attributes: names and values; of several values for a name, one of them.
        path: glob of the path relative to the gallery; ``*`` matches slashes too.
        since, until: when the file was last changed, both included, in UTC.
        min_side: pixels of the photo's shorter side at least.
    """

    labels: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    path: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_side: int | None = None

    @classmethod
    def asked(
        cls,
        *,
        labels: Iterable[str] | None = None,
        attributes: Iterable[str] | None = None,
        path: str | None = None,
        since: str | None = None,
        until: str | None = None,
        min_side: int | None = None,
    ) -> "Filter | None":
        """From words such as ``colour=red``, ``2026-01-31`` or ``2026-01-31T12:00``; None when nothing is asked.

        Raises:
            HdmlError: an attribute or a date cannot be read.
        """
        found = cls(
            tuple(labels or ()),
            tuple(map(_attribute, attributes or ())),
            path,
            _moment(since, clock.min),
            _moment(until, clock.max),
            min_side,
        )
        return None if found == cls() else found

    def sql(self) -> tuple[str, list[Any]]:
        """A condition on the catalogue's items, and its values."""
        conditions: list[tuple[str, list[Any]]] = []
        if self.labels:
            conditions.append((f"label IN ({', '.join('?' * len(self.labels))})", list(self.labels)))
        for name in sorted({name for name, _ in self.attributes}):
            values = [value for each, value in self.attributes if each == name]
            marks = ", ".join("?" * len(values))
            conditions.append((f"json_extract(attributes, ?) IN ({marks})", [f'$."{name}"', *values]))
        if self.path is not None:
            conditions.append(("path GLOB ?", [self.path]))
        if self.since is not None:
            conditions.append(("mtime_ns >= ?", [_nanoseconds(self.since)]))
        if self.until is not None:
            conditions.append(("mtime_ns <= ?", [_nanoseconds(self.until)]))
        if self.min_side is not None:
            conditions.append(("MIN(width, height) >= ?", [self.min_side]))
        return " AND ".join(text for text, _ in conditions) or "TRUE", [value for _, values in conditions for value in values]


def _attribute(words: str) -> tuple[str, str]:
    name, equals, value = words.partition("=")
    if not name or not equals or '"' in name:
        raise HdmlError(f"an attribute must be given as name=value, such as colour=red, not {words}")
    return name, value


def _moment(words: str | None, of_a_day: clock) -> datetime | None:
    """The moment that a user means; of a day alone, its first or its last."""
    if words is None:
        return None
    try:
        day_alone = len(words) == len("2026-01-31")
        found = datetime.combine(date.fromisoformat(words), of_a_day) if day_alone else datetime.fromisoformat(words)
    except ValueError as error:
        raise HdmlError(f"a date must be given as 2026-01-31 or 2026-01-31T12:00, not {words}") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _nanoseconds(moment: datetime) -> int:
    # No file is so old or so new that SQLite could not hold its time.
    return max(-_LAST, min(int(moment.timestamp() * 1_000_000) * 1000, _LAST))
