"""Files of the node that workers are handed, and open again to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

NOBODY = 65534
"""Who the workers of a node run as root are, on the host; other nodes' have the node's user."""


def lend(path: Path) -> int:
    """Opens a file so that a worker can be handed it, and open it again to read.

    Returns:
        A descriptor; the caller's to close.

    Raises:
        OSError: It can't be opened.
    """
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if os.geteuid() == 0:  # workers of a node run as root are another user
        mode = stat.S_IMODE(os.fstat(opened).st_mode)
        os.fchown(opened, -1, NOBODY)
        os.fchmod(opened, mode | stat.S_IRGRP)
    return opened
