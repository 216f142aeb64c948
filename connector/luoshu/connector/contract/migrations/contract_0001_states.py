"""States, events and uses of contracts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "contract_0001"
down_revision = None
branch_labels = ("contract",)
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "contract_states",
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("offer_id", sa.String(), nullable=False),
        sa.Column("entry", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("negotiation", sa.String(), nullable=False),
        sa.Column("agreement", sa.String(), nullable=True),
        sa.Column("agreed", sa.JSON(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(), nullable=False),
        sa.Column("changed_at", sa.String(), nullable=False),
        sa.Column("provider_sequence", sa.Integer(), nullable=False),
        sa.Column("consumer_sequence", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("last_moment", sa.BigInteger(), nullable=True),
        sa.Column("begun_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("contract_id", name=op.f("pk_contract_states")),
    )
    op.create_index("ix_contract_states_negotiation", "contract_states", ["negotiation"])
    op.create_index("ix_contract_states_agreement", "contract_states", ["agreement"])
    op.create_table(
        "contract_events",
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("event_digest", sa.String(), nullable=False),
        sa.Column("position_envelope", sa.LargeBinary(), nullable=False),
        sa.Column("position_digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("contract_id", "position", name=op.f("pk_contract_events")),
        sa.UniqueConstraint("log_index", name=op.f("uq_contract_events_log_index")),
    )
    op.create_table(
        "contract_uses",
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("decision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("contract_id", "request_id", name=op.f("pk_contract_uses")),
    )
    op.create_table(
        "contract_cursors",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("cursor", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_contract_cursors")),
    )


def downgrade() -> None:
    """Refuses: a downgrade restores the backup."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
