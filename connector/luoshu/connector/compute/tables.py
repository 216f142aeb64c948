"""SQL tables of computations: what the log's entries say, ready to be asked."""

from __future__ import annotations

import sqlalchemy as sa

from luoshu.connector.store.metadata import METADATA

__all__ = ["computations", "debits", "history", "relayed"]

computations = sa.Table(
    "compute_computations",
    METADATA,
    # An id is its consumer's own: one that another organisation took is free.
    sa.Column("consumer", sa.String, primary_key=True),
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("request_digest", sa.String, nullable=False),
    sa.Column("contract_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("message", sa.String),
    sa.Column("rule", sa.String),
    sa.Column("decision_index", sa.BigInteger, nullable=False, unique=True),
    sa.Column("outcome_index", sa.BigInteger),
    sa.Column("result_digest", sa.String),
    comment="Holder: each decided request and how it ended.",
)
sa.Index("ix_compute_computations_state", computations.c.state)

relayed = sa.Table(
    "compute_relayed",
    METADATA,
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("request_digest", sa.String, nullable=False),
    sa.Column("contract_id", sa.String, nullable=False),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("user_id", sa.String, nullable=False),
    sa.Column("request_index", sa.BigInteger, nullable=False),
    sa.Column("receipt_index", sa.BigInteger),
    comment="Analyst's organisation: requests taken to a holder, and the receipts that came.",
)

history = sa.Table(
    "compute_history",
    METADATA,
    sa.Column("domain", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("history_index", sa.BigInteger, nullable=False),
    comment="Holder: files of the release history that the log knows.",
)

debits = sa.Table(
    "compute_debits",
    METADATA,
    sa.Column("contract_id", sa.String, primary_key=True),
    sa.Column("debits", sa.Integer, nullable=False),
    comment="Holder: computations since the contract began or was resumed that were withheld "
    "from by the history, or failed while they ran. Not for the analyst.",
)
