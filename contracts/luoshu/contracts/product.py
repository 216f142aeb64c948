"""Catalog entries: what a holder signs about a data product.

Terms follow DCAT 3 (https://www.w3.org/TR/vocab-dcat-3/) and the Chinese catalog
specification (TC609-6-2025-16):

| field | DCAT 3 / specification |
|---|---|
| ``id`` | ``dcterms:identifier`` of a ``dcat:Dataset`` |
| ``version``, ``previous`` | ``dcat:version``, ``dcat:previousVersion`` |
| ``issuer`` | ``dcterms:publisher`` |
| ``title``, ``description`` | ``dcterms:title``, ``dcterms:description`` |
| ``keywords``, ``theme`` | ``dcat:keyword``, ``dcat:theme`` |
| ``columns`` | ``dcterms:conformsTo`` (the schema) |
| ``offers`` | ``odrl:hasPolicy`` |
| ``issued_at``, ``valid_until`` | ``dcterms:issued``, ``dcterms:valid`` |
| ``source``, ``update_cycle`` | data source 数据来源, ``dcterms:accrualPeriodicity`` 更新周期 |
| ``delivery_form`` | 交付方式: 001 dataset … 006 other |
| ``classification`` | 分类分级: GB/T 43697-2024 level; personal information; subjects |
| ``quality_grade``, ``security_level`` | 质量等级 A–D, 安全等级 1–5 |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.documents import CATALOG_ENTRY, TOMBSTONE
from luoshu.contracts.envelope import Envelope, sign
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_text, check_token
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.offer import AnswerMode, Limits, Offer
from luoshu.contracts.product_facts import (
    Classification,
    ClassificationLevel,
    Column,
    ColumnUse,
    DeliveryForm,
    PersonalInformation,
    QualityGrade,
    Table,
    TableKey,
    check_column,
)
from luoshu.contracts.release_terms import ReleaseTerms
from luoshu.contracts.times import format_time

__all__ = [
    "AnswerMode",
    "CatalogEntry",
    "Classification",
    "ClassificationLevel",
    "Column",
    "ColumnUse",
    "DeliveryForm",
    "Limits",
    "Offer",
    "PersonalInformation",
    "QualityGrade",
    "Table",
    "TableKey",
    "Tombstone",
]

_MAX_COLUMNS = 256
_MAX_TABLES = 100


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One version of a product's entry.

    Attributes:
        id: Product id; its holder is the issuer.
        version: From 1, each version one more than the one before.
        previous: Digest of the entry or tombstone before, None for version 1.
        issuer: The holder's participant id.
        title: Title for people.
        description: What the product is.
        keywords: Distinct words to find it by.
        theme: One term of a thematic vocabulary.
        classification: How protected the data is.
        quality_grade: A to D.
        security_level: 1 to 5.
        delivery_form: How it is delivered.
        source: Where the data comes from, in words.
        update_cycle: How often it is renewed, a term.
        columns: What analysts can use.
        privacy_unit: Name of the column that identifies whom to protect; None if
            the product protects nobody.
        release: The floor: no contract may release more.
        offers: Distinct ids, each no weaker than the floor.
        issued_at: When this version was signed.
        valid_until: End of its validity, exclusive.
        tables: The tables of a product of several, each column's `table` among them; empty for a
            product of one.
    """

    id: str
    version: int
    previous: str | None
    issuer: str
    title: LocalizedText
    description: LocalizedText
    keywords: tuple[str, ...]
    theme: str
    classification: Classification
    quality_grade: QualityGrade
    security_level: int
    delivery_form: DeliveryForm
    source: str
    update_cycle: str
    columns: tuple[Column, ...]
    privacy_unit: str | None
    release: ReleaseTerms
    offers: tuple[Offer, ...]
    issued_at: datetime
    valid_until: datetime
    tables: tuple[Table, ...] = ()

    def __post_init__(self) -> None:
        _check_version(self.id, self.issuer, self.version, self.previous)
        if not self.issued_at < self.valid_until:
            raise DocumentError("an entry ends before it is issued")
        places = {(column.table, column.name.casefold()) for column in self.columns}
        if len(places) != len(self.columns):
            raise DocumentError("an entry names a column twice")
        if len({table.name.casefold() for table in self.tables}) != len(self.tables):
            raise DocumentError("an entry names a table twice")
        named: set[str | None] = {table.name for table in self.tables}
        if {column.table for column in self.columns} != (named or {None}):
            raise DocumentError("an entry's columns are of other tables than it names")
        if len({offer.id for offer in self.offers}) != len(self.offers):
            raise DocumentError("an entry names an offer twice")
        for offer in self.offers:
            if not offer.terms.stricter_or_equal(self.release):
                raise DocumentError("an offer releases more than the product's floor allows")

    def offer(self, offer_id: str) -> Offer | None:
        """The offer of an id, if there is one."""
        return next((offer for offer in self.offers if offer.id == offer_id), None)

    def is_visible_to(self, participant_id: str) -> bool:
        """Whether the entry exists for a participant: some offer does, or it is its own."""
        return participant_id == self.issuer or any(
            offer.is_visible_to(participant_id) for offer in self.offers
        )

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether ``moment`` lies before the end of its validity."""
        return moment < self.valid_until

    def to_payload(self) -> JsonObject:
        """The JSON form that the holder signs; a product of one table lists none."""
        payload: JsonObject = {
            "schema": CATALOG_ENTRY.schema,
            "id": self.id,
            "version": self.version,
            "previous": self.previous,
            "issuer": self.issuer,
            "title": self.title.to_payload(),
            "description": self.description.to_payload(),
            "keywords": list(self.keywords),
            "theme": self.theme,
            "classification": self.classification.to_payload(),
            "quality_grade": self.quality_grade.value,
            "security_level": self.security_level,
            "delivery_form": self.delivery_form.value,
            "source": self.source,
            "update_cycle": self.update_cycle,
            "columns": [column.to_payload() for column in self.columns],
            "privacy_unit": self.privacy_unit,
            "release": self.release.to_payload(),
            "offers": [offer.to_payload() for offer in self.offers],
            "issued_at": format_time(self.issued_at),
            "valid_until": format_time(self.valid_until),
        }
        if self.tables:
            payload["tables"] = [table.to_payload() for table in self.tables]
        return payload

    @classmethod
    def from_payload(cls, value: JsonObject) -> CatalogEntry:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, of another schema, or against a rule above.
        """
        CATALOG_ENTRY.check_schema(value)
        fields = Fields(
            value,
            CATALOG_ENTRY.name,
            {
                *("schema", "id", "version", "previous", "issuer", "title", "description"),
                *("keywords", "theme", "classification", "quality_grade", "security_level"),
                *("delivery_form", "source", "update_cycle", "columns", "privacy_unit"),
                *("release", "offers", "issued_at", "valid_until"),
            },
            {"tables"},
        )
        return cls(
            id=fields.string("id", ids.parse_product_id),
            version=fields.integer("version", minimum=1),
            previous=fields.nullable("previous", ids.check_digest),
            issuer=fields.participant("issuer"),
            title=LocalizedText.from_payload(fields.raw("title")),
            description=LocalizedText.from_payload(fields.raw("description")),
            keywords=fields.strings("keywords", _check_keyword, maximum=32),
            theme=fields.string("theme", check_token),
            classification=Classification.from_payload(fields.raw("classification")),
            quality_grade=fields.choice("quality_grade", QualityGrade),
            security_level=fields.integer("security_level", minimum=1, maximum=5),
            delivery_form=fields.choice("delivery_form", DeliveryForm),
            source=fields.text("source", max_length=400),
            update_cycle=fields.string("update_cycle", check_token),
            columns=fields.array("columns", Column.from_payload, minimum=1, maximum=_MAX_COLUMNS),
            privacy_unit=fields.nullable("privacy_unit", check_column),
            release=ReleaseTerms.from_payload(fields.raw("release")),
            offers=fields.array("offers", Offer.from_payload, maximum=32),
            issued_at=fields.time("issued_at"),
            valid_until=fields.time("valid_until"),
            tables=fields.array("tables", Table.from_payload, minimum=1, maximum=_MAX_TABLES)
            if "tables" in fields
            else (),
        )

    def sign(self, events_key: SigningKey) -> Envelope:
        """Signs with the holder's events key."""
        return sign(self.to_payload(), CATALOG_ENTRY.payload_type, events_key)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A product's withdrawal: takes the place of its next version.

    Attributes:
        id: Product id.
        version: One more than the entry withdrawn.
        previous: Digest of that entry.
        issuer: The holder's participant id.
        issued_at: When it was signed.
    """

    id: str
    version: int
    previous: str
    issuer: str
    issued_at: datetime

    def __post_init__(self) -> None:
        _check_version(self.id, self.issuer, self.version, self.previous)

    def to_payload(self) -> JsonObject:
        """The JSON form that the holder signs."""
        return {
            "schema": TOMBSTONE.schema,
            "id": self.id,
            "version": self.version,
            "previous": self.previous,
            "issuer": self.issuer,
            "issued_at": format_time(self.issued_at),
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> Tombstone:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
        """
        TOMBSTONE.check_schema(value)
        fields = Fields(
            value,
            TOMBSTONE.name,
            {"schema", "id", "version", "previous", "issuer", "issued_at"},
        )
        return cls(
            id=fields.string("id", ids.parse_product_id),
            version=fields.integer("version", minimum=2),
            previous=fields.digest("previous"),
            issuer=fields.participant("issuer"),
            issued_at=fields.time("issued_at"),
        )

    def sign(self, events_key: SigningKey) -> Envelope:
        """Signs with the holder's events key."""
        return sign(self.to_payload(), TOMBSTONE.payload_type, events_key)


def _check_version(product_id: str, issuer: str, version: int, previous: str | None) -> None:
    if ids.parse_product_id(product_id).participant_id != issuer:
        raise DocumentError("a product's entry is issued by another than its holder")
    if (version == 1) != (previous is None):
        raise DocumentError("version 1, and only it, has no previous version")


def _check_keyword(text: str) -> None:
    check_text(text, max_length=60)
