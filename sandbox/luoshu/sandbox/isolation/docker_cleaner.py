"""Outlives a node by a second, to remove its containers.

`python -I -m luoshu.sandbox.isolation.docker_cleaner SOCKET HOME` waits until its standard input
closes, as it does when the node ends in whatever way. Docker, unlike bubblewrap, ends nothing with
who started it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from luoshu.sandbox.isolation.containers import EngineError
from luoshu.sandbox.isolation.launcher_client import linker_environment

_SECONDS = 30


class Cleaner:
    """A running cleaner of this process."""

    def __init__(self, path: Path, home: Path) -> None:
        """Starts it.

        Args:
            path: The engine's socket.
            home: What containers are labelled with, and a directory to remove as well.
        """
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-I", "-m", __name__, str(path), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C on the terminal is the node's to handle
            env=linker_environment(),
        )

    def clean(self) -> None:
        """Has everything removed, and waits for it; again is harmless."""
        try:
            self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def clean(path: Path, home: Path) -> None:
    """Removes the containers of a home and then the home.

    Raises:
        EngineError: The engine refuses; the home stays, so that it is known what is left.
    """
    from luoshu.sandbox.isolation.docker_engine import DockerEngine  # noqa: PLC0415 - 20 MB

    engine = DockerEngine(path)
    try:
        engine.remove_all(home.name)
    finally:
        engine.close()
    shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Entry point."""
    sys.stdin.buffer.read()
    with suppress(EngineError):  # then who starts next does it
        clean(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
