"""SQL tables of the ledger: how far each projection has got, the anchor, the entry index."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from luoshu.connector.store.metadata import METADATA

projection = Table(
    "projection",
    METADATA,
    Column("name", String(80), primary_key=True),
    Column("version", Integer, nullable=False),
    # Index of the last entry applied; -1 before the first.
    Column("last_index", BigInteger, nullable=False),
)

log_anchor = Table(
    "log_anchor",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("origin", String(200), nullable=False),
    # Size and root of the log as of this database's last commit.
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    CheckConstraint("id = 1", name="single_row"),
)

log_entry = Table(
    "log_entry",
    METADATA,
    Column("entry_index", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(40), nullable=False),
    Column("time", String(24), nullable=False),
    Column("contract_id", String(80), nullable=True),
    Index("ix_log_entry_contract_id", "contract_id", "entry_index"),
    Index("ix_log_entry_kind", "kind", "entry_index"),
)
