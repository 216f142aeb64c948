"""Loading a worker's code, once for all that are forked with it."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from luoshu.sandbox.worker.enclosure import seal

_SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's library would start threads when it loads
    "DUCKDB_JE_MALLOC_CONF": "narenas:1",  # memory that one thread returns serves the others too
}


def load(entry: str) -> ModuleType:
    """Loads a worker's code, and runs it once on nothing."""
    os.environ.update(_SETTINGS)
    module = importlib.import_module(f"luoshu.sandbox.worker.{entry}")
    module.rehearse()
    seal.rehearse()
    return module
