"""NumPy as the workers use it: one thread, loaded in one place.

OpenBLAS, which NumPy loads along, starts a thread per core with buffers of its
own; nothing here multiplies matrices.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

# `np.unique` and `np.isin` load it when they are first called, and what isn't loaded at the start
# isn't there in a worker.
import numpy.ma  # noqa: F401

__all__ = ["np"]
