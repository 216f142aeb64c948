"""SQL table of privacy budgets: what each domain has spent, under each contract."""

from __future__ import annotations

import sqlalchemy as sa

from luoshu.connector.store.metadata import METADATA

__all__ = ["spent"]

spent = sa.Table(
    "compute_privacy_spent",
    METADATA,
    sa.Column("domain", sa.String, primary_key=True),
    sa.Column("contract_id", sa.String, primary_key=True),
    # Without a value once anything was spent that has no pure guarantee.
    sa.Column("epsilon", sa.BigInteger),
    sa.Column("rho", sa.BigInteger, nullable=False),
    sa.Column("delta", sa.BigInteger, nullable=False),
    sa.Column("computations", sa.BigInteger, nullable=False),
    comment="Holder: privacy spent, epsilon and rho in 10^-12, delta in 10^-15.",
)
