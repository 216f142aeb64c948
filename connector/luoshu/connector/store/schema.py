"""Brings a database's schema up to date: Alembic, one branch a feature, backup before change.

An upgrade is one transaction. Before it, the database is copied beside itself. A database that
holds a revision this program doesn't know was written by a newer one and is refused untouched.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from luoshu.connector.errors import NodeError
from luoshu.connector.store.features import MIGRATIONS, load_metadata, migration_directories


def upgrade(engine: Engine, path: Path) -> Path | None:
    """Upgrades a database to the newest schema, if it isn't there yet.

    Args:
        engine: Engine of the database.
        path: Its file, for the backup.

    Returns:
        The backup that was made, or None if there was nothing to lose or to do.

    Raises:
        NodeError: ``SCHEMA_TOO_NEW``.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with engine.connect() as connection:
        current = set(MigrationContext.configure(connection).get_current_heads())
        empty = not inspect(connection).get_table_names()
    unknown = sorted(current - known)
    if unknown:
        raise NodeError(
            "SCHEMA_TOO_NEW",
            f"The database {path.name} has schema {', '.join(unknown)}, "
            "which this version of luoshu doesn't know.",
        )
    if current == set(scripts.get_heads()):
        return None
    backup = None if empty else _back_up(path, "-".join(sorted(current)) or "unversioned")
    with engine.begin() as connection:
        _run(config, connection)
    return backup


def make_private(path: Path) -> None:
    """Creates a database's file, or narrows it, so that its owner alone may open it.

    SQLite gives the same permissions to the files that it keeps beside it.
    """
    # An existing file is not opened here: closing it would drop the locks that another
    # connection of this process holds on it (fcntl(2)).
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _quote(MIGRATIONS))
    config.set_main_option("path_separator", "newline")
    config.set_main_option(
        "version_locations", "\n".join(_quote(each) for each in migration_directories())
    )
    return config


def _quote(path: Path) -> str:
    return str(path).replace("%", "%%")


def _run(config: Config, connection: Connection) -> None:
    config.attributes["connection"] = connection
    config.attributes["metadata"] = load_metadata()
    command.upgrade(config, "heads")


def _back_up(path: Path, revision: str) -> Path:
    """Copies the database, complete and durable, to a name that isn't taken."""
    number = 1
    while True:
        target = path.with_name(f"{path.name}.before-{number}.{revision[:80]}")
        if not target.exists():
            break
        number += 1
    partial = target.with_name(target.name + ".part")
    partial.unlink(missing_ok=True)
    make_private(partial)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
        source.backup(copy)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(target)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return target
