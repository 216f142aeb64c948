"""Who may read what of this node's usage log.

Leaves, checkpoints and proofs tell nothing of anybody's dealings and are for every member.
A body goes to the parties that it names and to auditors; for all others it doesn't exist.
The node's own users read all of it, by their role.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from luoshu.connector.errors import NodeError
from luoshu.connector.journal.entry_index import EntrySummary, list_entries
from luoshu.connector.ledger import Ledger
from luoshu.contracts.membership import MembershipCredential, Role

MAX_PAGE: Final = 200
DEFAULT_PAGE: Final = 50


class LogService:
    """The logic behind the log RPCs."""

    def __init__(self, ledger: Ledger) -> None:
        """Serves `ledger`."""
        self._ledger = ledger

    def checkpoint(self) -> str:
        """The newest signed checkpoint."""
        return self._ledger.checkpoint()

    async def receipt(self, index: int) -> bytes:
        """Receipt JSON of any entry, for this node's own users.

        Raises:
            NodeError: NOT_FOUND.
        """
        receipt = await asyncio.to_thread(self._ledger.receipt, index)
        return receipt.to_bytes()

    async def receipt_for(self, caller: MembershipCredential, index: int) -> bytes:
        """Receipt JSON of an entry, for its parties and for auditors.

        Raises:
            NodeError: NOT_FOUND, also for an entry that isn't the caller's to read.
        """
        receipt = await asyncio.to_thread(self._ledger.receipt, index)
        readable = caller.participant_id in receipt.body.parties or caller.has_role(Role.AUDITOR)
        if not readable:
            raise NodeError("NOT_FOUND", private=f"entry {index} is not the caller's")
        return receipt.to_bytes()

    async def entries(
        self, *, contract_id: str, kind: str, page_size: int, before: int
    ) -> Sequence[EntrySummary]:
        """Entries of this log, newest first.

        Args:
            contract_id: Keep only this contract's; empty keeps all.
            kind: Keep only this kind; empty keeps all.
            page_size: At most 200; 0 means 50.
            before: Only entries below this index; 0 starts at the newest.
        """
        return await self._ledger.read(
            lambda connection: list_entries(
                connection,
                limit=min(page_size or DEFAULT_PAGE, MAX_PAGE),
                before=before or None,
                kind=kind or None,
                contract_id=contract_id or None,
            )
        )

    async def inclusion_proof(self, index: int, tree_size: int) -> list[bytes]:
        """RFC 6962 audit path.

        Raises:
            NodeError: MALFORMED_MESSAGE, if there is no such entry or size.
        """
        return await asyncio.to_thread(self._ledger.inclusion_proof, index, tree_size)

    async def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """RFC 6962 consistency proof.

        Raises:
            NodeError: MALFORMED_MESSAGE, if there are no such sizes.
        """
        return await asyncio.to_thread(self._ledger.consistency_proof, first, second)
