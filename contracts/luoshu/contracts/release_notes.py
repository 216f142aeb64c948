"""What is said with every result: what it covers, and what is not claimed of it.

A result is an Arrow IPC stream; its schema's metadata hold the notes, by name. So the receipt
commits to them as it does to the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from luoshu.contracts.localized import LocalizedText

METADATA_KEY: Final = b"luoshu.notes"
_SEPARATOR: Final = ","


class ReleaseNote(StrEnum):
    """A note, by its name in results and explanations."""

    RELEASED_GROUPS = "RELEASED_GROUPS"
    """Said with every result, whether or not anything was withheld."""
    NO_PRIVACY_CLAIM = "NO_PRIVACY_CLAIM"
    """Said with every result of mode ``aggregate``, and of mode ``dp`` once the same holder has
    released something about the same people by mode ``aggregate``."""


NOTES: Final[Mapping[str, LocalizedText]] = MappingProxyType(
    {
        ReleaseNote.RELEASED_GROUPS: LocalizedText(
            "Results cover released groups only.", "结果只包含获准发布的分组。"
        ),
        ReleaseNote.NO_PRIVACY_CLAIM: LocalizedText(
            "No differential privacy is claimed: results about these people are also released "
            "without noise.",
            "不作差分隐私承诺：有关这些人的结果也以不加噪声的方式发布。",
        ),
    }
)
"""Their texts."""


def to_metadata(notes: Iterable[ReleaseNote]) -> dict[bytes | str, bytes | str]:
    """The metadata of a result's schema."""
    return {METADATA_KEY: _SEPARATOR.join(notes).encode()}


def from_metadata(metadata: Mapping[bytes, bytes] | None) -> tuple[str, ...]:
    """Names of the notes in a schema's metadata; of those made by a later version as well."""
    text = (metadata or {}).get(METADATA_KEY, b"").decode("utf-8", "replace")
    return tuple(filter(None, text.split(_SEPARATOR)))
