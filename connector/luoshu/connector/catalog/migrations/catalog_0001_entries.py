"""Entries, their search index, products of this node, versions seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "catalog_0001"
down_revision = None
branch_labels = ("catalog",)
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "catalog_entries",
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("product_id", name=op.f("pk_catalog_entries")),
        sa.UniqueConstraint("log_index", name=op.f("uq_catalog_entries_log_index")),
    )
    op.create_table(
        "catalog_audience",
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("participant_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("product_id", "participant_id", name=op.f("pk_catalog_audience")),
    )
    op.create_table(
        "catalog_facets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("personal_information", sa.String(), nullable=False),
        sa.Column("theme", sa.String(), nullable=False),
        sa.Column("release_mode", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_facets")),
        sa.UniqueConstraint(
            "issuer",
            "level",
            "personal_information",
            "theme",
            "release_mode",
            name=op.f("uq_catalog_facets_issuer"),
        ),
    )
    op.create_table(
        "catalog_listing",
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("facets", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("log_index", name=op.f("pk_catalog_listing")),
    )
    op.create_table(
        "catalog_products",
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("prepared_digest", sa.String(), nullable=False),
        sa.Column("prepared_index", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("envelope", sa.LargeBinary(), nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("product", name=op.f("pk_catalog_products")),
        sa.UniqueConstraint("product_id", name=op.f("uq_catalog_products_product_id")),
    )
    op.create_table(
        "catalog_seen",
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("product_id", name=op.f("pk_catalog_seen")),
    )
    op.create_table(
        "catalog_signed",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_catalog_signed")),
    )
    # Its row ids are log indexes: newest first is the order that it is read in. It holds terms
    # only, no texts. The token characters are those that no text produces.
    op.execute(
        "CREATE VIRTUAL TABLE catalog_index USING fts5("
        "terms, content='', columnsize=0, tokenize=\"ascii tokenchars '_~^@='\")"
    )


def downgrade() -> None:
    """Refuses: a downgrade restores the backup."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
