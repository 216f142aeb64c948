"""From a holder's product file and prepared data to the entry that it signs.

What the file leaves out is filled by the cautious choice, never by something learnt from
the data: the grade that claims least, the security level that the classification calls for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from luoshu.connector.errors import NodeError
from luoshu.connector.release_rules import floor_of
from luoshu.contracts.canonical import JsonValue, parse_object
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.ids import product_id
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import MembershipCredential
from luoshu.contracts.product import (
    CatalogEntry,
    Classification,
    ClassificationLevel,
    Column,
    ColumnUse,
    DeliveryForm,
    Offer,
    PersonalInformation,
    QualityGrade,
    Table,
    TableKey,
)
from luoshu.contracts.release_terms import ReleaseTerms
from luoshu.contracts.times import to_milliseconds
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import ProductFile

__all__ = ["ENTRY_VALIDITY", "ShelvedProduct", "build_entry", "read_offers"]

ENTRY_VALIDITY: Final = timedelta(days=365)
"""How long an entry is valid from its signing."""

MAX_OFFERS_BYTES: Final = 128 << 10

_SECURITY_LEVEL: Final = {
    ("core", "none"): 5,
    ("core", "non-sensitive"): 5,
    ("core", "sensitive"): 5,
    ("important", "none"): 4,
    ("important", "non-sensitive"): 4,
    ("important", "sensitive"): 4,
    ("general", "sensitive"): 3,
    ("general", "non-sensitive"): 2,
    ("general", "none"): 1,
}


@dataclass(frozen=True, slots=True)
class ShelvedProduct:
    """A product of this node: what its holder declared, and the data prepared from it."""

    file: ProductFile
    prepared: PreparedProduct


def read_offers(data: bytes) -> tuple[Offer, ...]:
    """Reads offers from JSON: a list of them, or an object with the list as ``offers``.

    Raises:
        NodeError: TERMS_INVALID, naming the field.
    """
    try:
        if data.lstrip()[:1] == b"[":
            data = b'{"offers":' + data + b"}"
        document = parse_object(data, max_bytes=MAX_OFFERS_BYTES)
        offers = document.get("offers")
        if set(document) != {"offers"} or not isinstance(offers, list) or not offers:
            raise NodeError("TERMS_INVALID", "A list with at least one offer is expected.")
        return tuple(_offer(value) for value in offers)
    except ContractsError as error:
        raise NodeError("TERMS_INVALID", f"An offer is not valid: {error.message}.") from error


def build_entry(
    shelved: ShelvedProduct,
    offers: Sequence[Offer],
    *,
    holder: MembershipCredential,
    version: int,
    previous: str | None,
    now: datetime,
) -> CatalogEntry:
    """Builds the entry of a prepared product.

    Args:
        shelved: What was declared and prepared.
        offers: At least one; none weaker than the product's release floor.
        holder: This node's credential.
        version: Of the entry.
        previous: Digest of the version before, None for the first.
        now: Time of signing.

    Raises:
        NodeError: PRODUCT_FILE_INVALID or TERMS_INVALID, naming the field.
    """
    declared, prepared = shelved.file, shelved.prepared
    title = declared.title
    heading = LocalizedText(title.en, title.zh) if title else LocalizedText(declared.id, "")
    described = declared.description
    floor = floor_of(prepared)
    offers = tuple(_completed(offer, floor) for offer in offers)
    classification = declared.classification
    try:
        entry = CatalogEntry(
            id=product_id(holder.participant_id, declared.id),
            version=version,
            previous=previous,
            issuer=holder.participant_id,
            title=heading,
            description=LocalizedText(described.en, described.zh) if described else heading,
            keywords=declared.keywords,
            theme=declared.theme or "unspecified",
            classification=Classification(
                ClassificationLevel(classification.level),
                PersonalInformation(classification.personal_information),
                classification.subjects,
            ),
            quality_grade=QualityGrade(declared.quality_grade or "D"),
            security_level=declared.security_level
            or _SECURITY_LEVEL[classification.level, classification.personal_information],
            delivery_form=DeliveryForm(declared.delivery_form or "001"),
            source=holder.name.in_language("en"),
            update_cycle=declared.update_cycle or "irregular",
            columns=_columns(shelved),
            privacy_unit=prepared.privacy_unit or None,
            tables=_tables(shelved),
            release=floor,
            offers=offers,
            issued_at=to_milliseconds(now),
            valid_until=to_milliseconds(now + ENTRY_VALIDITY),
        )
        # The reader's checks, before anything is signed that nobody would accept.
        return CatalogEntry.from_payload(entry.to_payload())
    except (ContractsError, ValueError) as error:
        detail = error.message if isinstance(error, ContractsError) else str(error)
        if not all(offer.terms.stricter_or_equal(floor) for offer in offers):
            raise NodeError("TERMS_INVALID", f"{detail[:1].upper()}{detail[1:]}.") from error
        raise NodeError(
            "PRODUCT_FILE_INVALID", f"The product can't be published: {detail}."
        ) from error


def _completed(offer: Offer, floor: ReleaseTerms) -> Offer:
    """The offer, with what its release section leaves open as the product has it."""
    release = offer.terms.release.completed_by(floor)
    return replace(offer, terms=replace(offer.terms, release=release))


def _columns(shelved: ShelvedProduct) -> tuple[Column, ...]:
    of_several = shelved.file.tables is not None
    return tuple(
        Column(
            column.name,
            str(column.type),
            tuple(use for use in ColumnUse if use.value in {str(u) for u in column.uses}),
            table.name if of_several else None,
        )
        for table in shelved.prepared.tables
        for column in (table.columns if of_several else table.declared)
    )


def _tables(shelved: ShelvedProduct) -> tuple[Table, ...]:
    if shelved.file.tables is None:
        return ()
    # The unit's column as declared: where it comes by a key, its name is none of the holder's.
    units = {source.table: source.column for source in shelved.file.unit_sources}
    return tuple(
        Table(
            table.name,
            units.get(table.name),
            tuple(TableKey(key.domain, key.columns) for key in table.keys),
        )
        for table in shelved.prepared.tables
    )


def _offer(value: JsonValue) -> Offer:
    return Offer.from_payload(value)
