"""What other users of the holder's machine can open, where they can reach it.

A node's directory is its owner's alone. But its log is meant to be served by a web server,
and whoever makes the way to it passable must not have opened the database beside it, which
holds all that the journal holds.
"""

import os
import stat

import pytest
import sqlalchemy as sa

from luoshu.connector.store.engine import Store


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(directory):
    """Files and directories below that others than the owner may open."""
    return {
        path.name
        for path in [directory, *directory.rglob("*")]
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    }


def test_the_database_is_for_its_owner_alone(tmp_path):
    with Store.open(tmp_path / "state" / "luoshu.db") as store, store.writer.begin() as connection:
        connection.execute(sa.text("CREATE TABLE something (x)"))
        names = {path.name for path in (tmp_path / "state").iterdir()}
        assert names == {"luoshu.db", "luoshu.db-wal", "luoshu.db-shm"}
        assert open_to_others(tmp_path / "state") == set()


def test_a_database_that_was_open_to_others_is_closed_to_them(tmp_path):
    path = tmp_path / "state" / "luoshu.db"
    Store.open(path).close()
    path.chmod(0o644)
    with Store.open(path) as store, store.writer.begin() as connection:
        connection.execute(sa.text("CREATE TABLE something (x)"))
        assert open_to_others(tmp_path / "state") == set()


def test_the_backup_before_an_upgrade_is_as_private(tmp_path):
    path = tmp_path / "state" / "luoshu.db"
    with Store.open(path) as store, store.writer.begin() as connection:
        connection.execute(sa.text("DELETE FROM alembic_version"))
        for name in sa.inspect(connection).get_table_names():
            if name != "alembic_version":
                connection.execute(sa.text(f'DROP TABLE IF EXISTS "{name}"'))
    Store.open(path).close()
    assert [each for each in path.parent.iterdir() if ".before-" in each.name]
    assert open_to_others(path.parent) == set()
