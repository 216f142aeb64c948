"""Alembic's environment: runs on the connection that ``store.schema`` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    # The caller holds one transaction over all revisions: an upgrade happens fully or not.
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
