"""SQL tables of the catalog.

Times are Unix milliseconds. ``log_index`` is the index of the usage-log entry that
a row comes from, so every row can be made again from the log. The search index, an
FTS5 virtual table named ``catalog_index``, is made by the migration.
"""

from __future__ import annotations

import sqlalchemy as sa

from luoshu.connector.store.metadata import METADATA

__all__ = [
    "audience",
    "entries",
    "facets",
    "listing",
    "products",
    "seen",
    "signed",
]

entries = sa.Table(
    "catalog_entries",
    METADATA,
    sa.Column("product_id", sa.String, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    sa.Column("log_index", sa.BigInteger, nullable=False, unique=True),
    sa.Column("valid_until", sa.BigInteger, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    comment="Newest version of each entry, or its tombstone, and its index terms.",
)

audience = sa.Table(
    "catalog_audience",
    METADATA,
    sa.Column("product_id", sa.String, primary_key=True),
    sa.Column("participant_id", sa.String, primary_key=True),
    comment="Who may see an entry: the union of its offers' audiences, or `*`.",
)

facets = sa.Table(
    "catalog_facets",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("level", sa.String, nullable=False),
    sa.Column("personal_information", sa.String, nullable=False),
    sa.Column("theme", sa.String, nullable=False),
    sa.Column("release_mode", sa.String, nullable=False),
    sa.UniqueConstraint("issuer", "level", "personal_information", "theme", "release_mode"),
    comment="Combinations of facet values that occur.",
)

listing = sa.Table(
    "catalog_listing",
    METADATA,
    sa.Column("log_index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("product_id", sa.String, nullable=False),
    sa.Column("valid_until", sa.BigInteger, nullable=False),
    sa.Column("facets", sa.Integer, nullable=False),
    comment="One narrow row for each indexed entry: what counting thousands of them reads.",
)

products = sa.Table(
    "catalog_products",
    METADATA,
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("product_id", sa.String, nullable=False, unique=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("prepared_digest", sa.String, nullable=False),
    sa.Column("prepared_index", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.String),
    sa.Column("envelope", sa.LargeBinary),
    sa.Column("confirmed", sa.Boolean, nullable=False),
    comment="Products of this node; `confirmed` once the operator holds the newest version.",
)

seen = sa.Table(
    "catalog_seen",
    METADATA,
    sa.Column("product_id", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    comment="Newest version of each entry that this node was ever shown.",
)

signed = sa.Table(
    "catalog_signed",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("product_id", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
    comment="Every entry that this node signed: contracts outlive the versions they rest on.",
)
