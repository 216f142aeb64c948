"""SQL tables of contracts: states, events, uses, each made again from the log at need; cursors."""

from __future__ import annotations

import sqlalchemy as sa

from luoshu.connector.store.metadata import METADATA

__all__ = ["contracts", "cursors", "events", "uses"]

contracts = sa.Table(
    "contract_states",
    METADATA,
    sa.Column("contract_id", sa.String, primary_key=True),
    sa.Column("product_id", sa.String, nullable=False),
    sa.Column("offer_id", sa.String, nullable=False),
    sa.Column("entry", sa.String, nullable=False),
    sa.Column("provider", sa.String, nullable=False),
    sa.Column("consumer", sa.String, nullable=False),
    sa.Column("terms", sa.JSON, nullable=False),
    sa.Column("negotiation", sa.String, nullable=False, index=True),
    sa.Column("agreement", sa.String, index=True),
    sa.Column("agreed", sa.JSON(none_as_null=True)),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("head", sa.String, nullable=False),
    sa.Column("changed_at", sa.String, nullable=False),
    sa.Column("provider_sequence", sa.Integer, nullable=False),
    sa.Column("consumer_sequence", sa.Integer, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # Unix milliseconds of the last moment of use; NULL if the terms set none.
    sa.Column("last_moment", sa.BigInteger),
    sa.Column("begun_index", sa.BigInteger, nullable=False),
    comment="The newest state of each contract, its request ids (contract_uses) apart.",
)

events = sa.Table(
    "contract_events",
    METADATA,
    sa.Column("contract_id", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("log_index", sa.BigInteger, nullable=False, unique=True),
    sa.Column("event", sa.LargeBinary, nullable=False),
    sa.Column("event_digest", sa.String, nullable=False),
    sa.Column("position_envelope", sa.LargeBinary, nullable=False),
    sa.Column("position_digest", sa.String, nullable=False),
    comment="Events and their positions, as signed.",
)

uses = sa.Table(
    "contract_uses",
    METADATA,
    sa.Column("contract_id", sa.String, primary_key=True),
    sa.Column("request_id", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("decision", sa.BigInteger, nullable=False),
    comment="Uses that were debited, one a request; `ordinal` counts from 1.",
)

cursors = sa.Table(
    "contract_cursors",
    METADATA,
    sa.Column("provider", sa.String, primary_key=True),
    sa.Column("cursor", sa.String, nullable=False),
    comment="How far each provider's stream was read. Losing it costs a second reading.",
)
