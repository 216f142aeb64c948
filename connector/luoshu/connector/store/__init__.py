"""The SQL store: engine, table registry and migrations.

Here lives how tables are kept, not which: a feature package contributes ``tables.py``, whose
tables register in ``store.metadata.METADATA``, and ``migrations/``, its own Alembic branch. Every
table is a projection of the journal or can be lost without harm; nothing here may be the only
place of something that was acknowledged.
"""
