"""The error catalogue: every reason a caller can meet, its gRPC status, and what it is told.

One table maps a *reason* (UPPER_SNAKE, stable, for programs) to a gRPC status name and to
two public sentences, in English and Chinese: what happened, and what to do next. Code that
fails raises `NodeError`; ``rpc.errors`` turns it into a status with ``google.rpc.ErrorInfo``.
This module imports no grpc, so that services stay free of wire types.

Rules enforced here:

* Public text and private text are apart. Only `NodeError.public` may leave the node; the
  private text goes to the operational log.
* A *sealed* reason has one constant public text. What a caller passes in is not shown: for
  QUERY_FAILED and INTERNAL any detail could carry a protected value, and for NOT_FOUND a
  detail would tell "unknown" from "not yours to see".
* A reason that the catalogue doesn't know becomes INTERNAL with an incident id.
* ``GUARD_…`` codes belong to the query guard. They share one entry by prefix, and the
  guard's own sentence is shown, which names the construct and never a value.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from luoshu.connector.error_catalogue import CATALOGUE, CatalogueEntry, Language, Text, lookup

__all__ = [
    "CATALOGUE",
    "DOMAIN",
    "CatalogueEntry",
    "Language",
    "NodeError",
    "Text",
    "lookup",
    "new_incident_id",
]

DOMAIN: Final = "luoshu"
"""The ``domain`` of every ``google.rpc.ErrorInfo`` this node sends."""

_METADATA_KEY = re.compile(r"[a-z][a-zA-Z0-9_-]{0,63}")  # google.rpc.ErrorInfo.metadata


def new_incident_id() -> str:
    """Returns a fresh incident id, ``inc-`` and 12 hexadecimal digits."""
    return f"inc-{secrets.token_hex(6)}"


class NodeError(Exception):
    """A failure with a catalogued reason.

    ``str(error)`` is the public English text, so that a careless log line or an uncaught
    error shows nothing private.

    Attributes:
        reason: The catalogued reason.
        status: Name of its gRPC status code.
        private: For the operational log only; empty when there is nothing to add.
        metadata: For ``ErrorInfo.metadata``: short, public, such as ``decision`` and ``rule``.
    """

    def __init__(
        self,
        reason: str,
        public: str | None = None,
        *,
        private: str = "",
        metadata: Mapping[str, str] | None = None,
        incident_id: Callable[[], str] = new_incident_id,
    ) -> None:
        """Builds the error.

        Args:
            reason: A catalogued reason; an unknown one becomes INTERNAL.
            public: What happened, more precisely than the catalogue says; the catalogue's
                next step is added. Not shown when the reason is sealed. It must name no
                protected value.
            private: Detail for the operational log.
            metadata: Public key-value pairs; keys as in google.rpc.ErrorInfo.
            incident_id: Source of incident ids, for INTERNAL.

        Raises:
            ValueError: If a metadata key is not allowed in ErrorInfo.
        """
        entry = lookup(reason)
        if entry is None:
            private = f"unknown reason {reason!r}: {private or public or ''}"
            entry = CATALOGUE["INTERNAL"]
        pairs = dict(metadata or {})
        for key in pairs:
            if not _METADATA_KEY.fullmatch(key):
                raise ValueError(f"metadata key {key!r} is not allowed in ErrorInfo")
        if entry.reason == "INTERNAL":
            # Nothing of an unexpected failure leaves but the number to find it by.
            pairs = {"incident": incident_id()}
        self._entry = entry
        self._what = None if entry.sealed else public
        self.reason: str = entry.reason
        self.status: str = entry.status
        self.private = private if not entry.sealed or not public else f"{public} {private}".strip()
        self.metadata: Mapping[str, str] = MappingProxyType(pairs)
        super().__init__(self.localized("en"))

    @property
    def public(self) -> str:
        """What may leave the node, in English: what happened and what to do next."""
        return self.localized("en")

    @property
    def incident(self) -> str | None:
        """The incident id, for INTERNAL only."""
        return self.metadata.get("incident") if self.reason == "INTERNAL" else None

    def localized(self, language: Language) -> str:
        """Returns the public text in ``language``.

        The raiser's own words, when it gave any, stay as they are; the next step is
        translated.
        """
        what = self._what or self._entry.what.in_language(language)
        step = self._entry.next_step.in_language(language)
        if self.incident:
            what = f"{what} ({self.incident})"
        if step in what:
            return what
        return f"{what}{'' if language == 'zh' and not self._what else ' '}{step}"

    @classmethod
    def from_reason(
        cls,
        error: BaseException,
        *,
        metadata: Mapping[str, str] | None = None,
        incident_id: Callable[[], str] = new_incident_id,
    ) -> "NodeError":
        """Carries over an error of ``contracts``, ``policies`` or ``sandbox``.

        Those name a catalogued ``reason`` (the guard calls it ``code``) and hold a public
        text in ``public`` or ``message``, or in their ``str()``. An error without a
        catalogued reason becomes INTERNAL and its text stays private.

        Args:
            error: What was raised.
            metadata: Public key-value pairs to add.
            incident_id: Source of incident ids, for INTERNAL.
        """
        if isinstance(error, NodeError):
            return error
        reason = _text_of(error, "reason") or _text_of(error, "code")
        if reason is None or lookup(reason) is None:
            return cls.internal(error, incident_id=incident_id)
        public = _text_of(error, "public") or _text_of(error, "message") or str(error) or None
        carried = cls(
            reason,
            public,
            private=_text_of(error, "private") or _text_of(error, "detail") or "",
            metadata=metadata,
            incident_id=incident_id,
        )
        carried.__cause__ = error
        return carried

    @classmethod
    def internal(
        cls, error: BaseException, *, incident_id: Callable[[], str] = new_incident_id
    ) -> "NodeError":
        """Wraps an unexpected failure: INTERNAL, an incident id, no detail.

        The private text names the error's type only, since its message may hold a value.
        """
        wrapped = cls("INTERNAL", private=type(error).__qualname__, incident_id=incident_id)
        wrapped.__cause__ = error
        return wrapped


def _text_of(error: BaseException, name: str) -> str | None:
    value = getattr(error, name, None)
    return value if isinstance(value, str) and value else None
