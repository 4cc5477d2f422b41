"""The token that a server may ask for, and the sessions of those who have logged in with it."""

import hashlib
import hmac
from pathlib import Path

from indexing.errors import HdmlError

LEAST_TOKEN = 16  # characters; fewer could be guessed, even at a few tries a minute
SESSION = 7 * 24 * 3600  # seconds


class Token:
    """The secret. It is compared in a time that tells nothing, and shown nowhere, not even in a traceback's values."""

    def __init__(self, secret: str) -> None:
        """Raises HdmlError when it is short, or cannot be sent in a header."""
        if len(secret) < LEAST_TOKEN or not all("!" <= character <= "~" for character in secret):
            raise HdmlError(
                f"the token must have at least {LEAST_TOKEN} letters, digits or signs of ASCII and no spaces, but has "
                f'{len(secret)} characters or others; "openssl rand -hex 32" makes a good one'
            )
        self._secret = secret.encode()

    def matches(self, given: str) -> bool:
        # Digests have one length, so that not even the token's can be found out.
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(self._secret).digest())

    def new_session(self, *, now: float) -> str:
        """What a cookie holds: until when it is good, signed by the token, which cannot be found from it."""
        until = f"{int(now) + SESSION}"
        return f"{until}.{self._signature(until)}"

    def is_session(self, cookie: str, *, now: float) -> bool:
        until, _, signature = cookie.partition(".")
        genuine = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return genuine and now < int(until)

    def _signature(self, until: str) -> str:
        return hmac.new(self._secret, f"hdml session until {until}".encode(), hashlib.sha256).hexdigest()


def read_token(file: Path) -> Token:
    """The token in a file, without white space around it; raises HdmlError when there is none."""
    try:
        return Token(file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise HdmlError(f"the token file {file} must be a text file that can be read, but it is not: {error}") from error
