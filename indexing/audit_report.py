"""An audit as one HTML page and as JSON."""

import json
from functools import lru_cache
from pathlib import Path

from indexing.audit import FEW, Audit
from indexing.page import in_bytes, picture, printable, templates
from indexing.writing import write_whole

HTML, JSON = "report.html", "report.json"
SHOWN = 60  # findings of a kind that the page has photos of
_LISTED = 500  # lines of a list
_TEMPLATE = "audit.html.jinja"


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write report.json and then report.html, each whole or not at all, and return the path of the second.

    Raises:
        HdmlError: they cannot be written.
    """
    page = folder / HTML
    write_whole(folder / JSON, printable(json.dumps(audit.to_json(), indent=1, ensure_ascii=False, allow_nan=False)) + "\n")
    write_whole(page, to_html(audit))
    return page


def to_html(audit: Audit) -> str:
    """The page, whole, photos included."""
    environment = templates(Path(__file__).parent)
    environment.filters["bytes"] = in_bytes
    gallery = Path(audit.gallery)
    return printable(
        environment.get_template(_TEMPLATE).render(
            audit=audit,
            summary=audit.summary(),
            headline=headline(audit),
            shown=SHOWN,
            listed=_LISTED,
            few=FEW,
            picture=lru_cache(lambda photo: picture(gallery / photo.path)),
        )
    )


def headline(audit: Audit) -> str:
    """What matters most, in a sentence."""
    counts = {
        "duplicate": sum(len(group.copies) for group in audit.duplicates),
        "probable label error": len(audit.label_errors),
        "outlier": len(audit.outliers),
    }
    told = [f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count]
    if not told:
        return "No duplicates, label errors or outliers were found."
    return f"{', '.join(told[:-1])}{' and ' if len(told) > 1 else ''}{told[-1]} in {audit.index}."
