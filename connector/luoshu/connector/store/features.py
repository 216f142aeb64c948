"""Finds the feature packages that contribute tables.

A feature package of the connector contributes by having two things in it:

* ``tables.py``: SQLAlchemy Core tables on ``store.metadata.METADATA``;
* ``migrations/``: Alembic revisions named ``<feature>_0001``, ``<feature>_0002``…; the first has
  ``down_revision = None`` and ``branch_labels = ("<feature>",)``. Each feature is a branch of its
  own, so features change independently.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path

from sqlalchemy import MetaData

import luoshu.connector
from luoshu.connector.store.metadata import METADATA

MIGRATIONS = Path(__file__).parent / "migrations"
"""The Alembic environment (``env.py``); the revisions are with their features."""


def feature_packages() -> list[str]:
    """Returns the feature packages that have tables, by name, sorted."""
    names = []
    for module in pkgutil.iter_modules(luoshu.connector.__path__):
        name = f"{luoshu.connector.__name__}.{module.name}"
        if module.ispkg and importlib.util.find_spec(f"{name}.tables") is not None:
            names.append(name)
    return sorted(names)


def load_metadata() -> MetaData:
    """Imports every feature's tables and returns the registry."""
    for name in feature_packages():
        importlib.import_module(f"{name}.tables")
    return METADATA


def migration_directories() -> list[Path]:
    """Returns the directory of each feature's revisions."""
    directories = []
    for name in feature_packages():
        for root in importlib.import_module(name).__path__:
            directory = Path(root) / "migrations"
            if directory.is_dir():
                directories.append(directory)
    return directories
