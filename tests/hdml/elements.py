"""What an HTML page is made of."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image

_ADDRESSES = ("src", "href", "xlink:href", "srcset", "action", "poster")


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def pictures(self) -> list[Image.Image]:
        """The photos inside the page, decoded."""
        sources = [attributes["src"] or "" for tag, attributes in self.elements if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]

    def addresses(self) -> list[str]:
        """Wherever an element takes or sends something."""
        return [attributes[name] or "" for _, attributes in self.elements for name in _ADDRESSES if name in attributes]
