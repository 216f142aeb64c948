"""The registry that every feature package's SQLAlchemy Core tables belong to."""

from __future__ import annotations

from sqlalchemy import MetaData

METADATA = MetaData(
    # Names are fixed, so that a migration can name what it changes on every database.
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
