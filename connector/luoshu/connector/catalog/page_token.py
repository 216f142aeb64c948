"""Page tokens: opaque, tamper-checked, good only for the search that made them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from luoshu.connector.catalog.search import Cursor

__all__ = ["PageTokenError", "PageTokens"]

_NONCE_BYTES = 12
_MAX_CHARACTERS = 200


class PageTokenError(ValueError):
    """A token that this node didn't make for this search."""


class PageTokens:
    """Seals cursors so that callers can neither read nor change them.

    The seal covers the caller and the search as well: a token of one caller or one text
    doesn't open for another. Nothing is kept on the server, and a token is void after a
    restart.
    """

    def __init__(self, key: bytes) -> None:
        """Builds the seal.

        Args:
            key: 32 random bytes.
        """
        self._cipher = AESGCMSIV(key)

    def seal(
        self, cursor: Cursor, *, viewer: str, text: str, filters: Mapping[str, Sequence[str]]
    ) -> str:
        """Returns the token for a cursor."""
        plain = json.dumps([cursor.tier, cursor.before, cursor.newest]).encode()
        # A fixed nonce is safe with AES-GCM-SIV (RFC 8452 §1): equal cursors of equal searches
        # give equal tokens, and that is all it tells.
        sealed = self._cipher.encrypt(bytes(_NONCE_BYTES), plain, _context(viewer, text, filters))
        return base64.urlsafe_b64encode(sealed).decode()

    def open(
        self, token: str, *, viewer: str, text: str, filters: Mapping[str, Sequence[str]]
    ) -> Cursor:
        """Returns the cursor of a token.

        Raises:
            PageTokenError: Not a token of this node for this caller and this search.
        """
        if len(token) > _MAX_CHARACTERS:
            raise PageTokenError("the page token is too long")
        try:
            sealed = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
            plain = self._cipher.decrypt(
                bytes(_NONCE_BYTES), sealed, _context(viewer, text, filters)
            )
        except (InvalidTag, ValueError) as error:
            raise PageTokenError("the page token is not one of this search") from error
        tier, before, newest = json.loads(plain)
        return Cursor(tier, before, newest)


def _context(viewer: str, text: str, filters: Mapping[str, Sequence[str]]) -> bytes:
    return json.dumps(
        [viewer, text, {field: sorted(values) for field, values in filters.items()}],
        sort_keys=True,
    ).encode()
