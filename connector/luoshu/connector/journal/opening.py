"""What must hold when a log is opened: its checkpoint is its own, and no past was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luoshu.connector.errors import NodeError
from luoshu.connector.journal.journal import Journal, corrupt
from luoshu.connector.journal.publisher import CHECKPOINT_NAME
from luoshu.connector.journal.tree import LogTree
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse, PublicKey
from luoshu.contracts.log.checkpoint import Checkpoint, open_checkpoint
from luoshu.contracts.log.note import MAX_NOTE_BYTES, NoteVerifier


def read_checkpoint(directory: Path, origin: str, keys: Sequence[PublicKey]) -> Checkpoint | None:
    """Reads and verifies the published checkpoint, if there is one.

    Args:
        directory: Where the log is published.
        origin: The log.
        keys: Its log keys, past ones included.

    Raises:
        NodeError: ``LOG_CORRUPT``: it isn't this log's; ``LOG_UNAVAILABLE``: the disk fails.
    """
    path = directory / CHECKPOINT_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NOTE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NodeError("LOG_UNAVAILABLE", private=str(error)) from error
    try:
        verifiers = [NoteVerifier(origin, key) for key in keys if key.use is KeyUse.LOG]
        return open_checkpoint(data.decode(), verifiers, origin)
    except (ContractsError, UnicodeDecodeError) as error:
        detail = error.message if isinstance(error, ContractsError) else "it is not text"
        raise NodeError(
            "LOG_CORRUPT", f"The published checkpoint of the log is not this node's: {detail}."
        ) from error


def compare(
    journal: Journal,
    tree: LogTree,
    published: Checkpoint | None,
    anchor: tuple[str, int, bytes] | None,
    origin: str,
) -> None:
    """Compares the journal with what the checkpoint and the database say of it.

    Args:
        journal: The journal, read.
        tree: The tree over it.
        published: The published checkpoint, if there is one.
        anchor: Origin, size and root that the database last saw, if it did.
        origin: The log.

    Raises:
        NodeError: ``LOG_CORRUPT``.
    """
    if anchor is not None and anchor[0] != origin:
        raise NodeError("LOG_CORRUPT", "The database belongs to the log of another participant.")
    if published is not None and tree.root_at(published.size) != published.root:
        raise corrupt(f"its first {published.size} entries are not those of the checkpoint", 0, 0)
    if anchor is not None and tree.root_at(anchor[1]) != anchor[2]:
        start = published.size if published is not None and published.size < anchor[1] else 0
        offset = journal.line_of(start)[1] if start < journal.size else journal.end
        raise corrupt(
            f"its first {anchor[1]} entries are not those that the database has seen",
            start,
            offset,
        )
