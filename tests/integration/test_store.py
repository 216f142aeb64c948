"""The SQL store: migrations by feature, backup, a newer schema refused."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from luoshu.connector.errors import NodeError
from luoshu.connector.store import schema
from luoshu.connector.store.engine import Store
from luoshu.connector.store.features import (
    feature_packages,
    load_metadata,
    migration_directories,
)


def revisions(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


def managed(connection: Connection) -> set[str]:
    """Tables, but not virtual ones (full-text search) and their shadows."""
    rows = connection.execute(text("pragma table_list"))
    return {row.name for row in rows if row.type == "table"}


def test_migrations_make_the_tables_that_the_code_names(tmp_path: Path) -> None:
    with Store.open(tmp_path / "luoshu.db") as store, store.writer.begin() as connection:
        names = managed(connection)
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _parents: kind != "table" or name in names,
            },
        )
        assert compare_metadata(context, load_metadata()) == []


def test_every_feature_with_tables_has_migrations() -> None:
    assert len(migration_directories()) == len(feature_packages())
    assert "luoshu.connector.journal" in feature_packages()


def test_second_opening_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state" / "luoshu.db"
    with Store.open(path) as store, store.writer.begin() as connection:
        first = revisions(connection)
    with Store.open(path) as store, store.writer.begin() as connection:
        assert revisions(connection) == first
    assert [each.name for each in path.parent.glob("*before*")] == []


def test_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "luoshu.db"
    with Store.open(path) as store, store.writer.begin() as connection:
        connection.execute(text("insert into alembic_version values ('journal_9999')"))
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(NodeError, match="journal_9999") as caught:
        Store.open(path)
    assert caught.value.reason == "SCHEMA_TOO_NEW"
    assert hashlib.sha256(path.read_bytes()).digest() == before


def older(path: Path) -> None:
    """A database with content but without one feature's schema, as an older version leaves it."""
    with Store.open(path) as store, store.writer.begin() as connection:
        connection.execute(text("drop table log_entry"))
        connection.execute(text("drop table log_anchor"))
        connection.execute(text("drop table projection"))
        connection.execute(text("delete from alembic_version where version_num like 'journal%'"))
        connection.execute(text("create table kept (x)"))
        connection.execute(text("insert into kept values (42)"))


def test_upgrade_keeps_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "luoshu.db"
    older(path)
    with Store.open(path) as store, store.writer.begin() as connection:
        assert connection.execute(text("select x from kept")).scalar_one() == 42
        assert "log_entry" in managed(connection)
    (backup,) = tmp_path.glob("luoshu.db.before-*")
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("select x from kept").fetchone() == (42,)
        names = {row[0] for row in connection.execute("select name from sqlite_master")}
        assert "log_entry" not in names


def test_failed_upgrade_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "luoshu.db"
    older(path)
    run = schema._run

    def fails(*arguments: object) -> None:
        run(*arguments)
        raise OSError("the disk is full")

    monkeypatch.setattr(schema, "_run", fails)
    with pytest.raises(OSError, match="disk is full"):
        Store.open(path)
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as connection:
        names = {row[0] for row in connection.execute("select name from sqlite_master")}
        assert "kept" in names
        assert "log_entry" not in names
    with Store.open(path) as store, store.writer.begin() as connection:
        assert "log_entry" in managed(connection)


def test_settings_of_a_connection(tmp_path: Path) -> None:
    with Store.open(tmp_path / "luoshu.db") as store:
        for engine in (store.writer, store.reader):
            with engine.begin() as connection:
                values = [
                    connection.execute(text(f"pragma {name}")).scalar_one()
                    for name in ("journal_mode", "synchronous", "foreign_keys")
                ]
                assert values == ["wal", 2, 1]
