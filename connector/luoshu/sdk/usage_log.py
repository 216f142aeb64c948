"""The usage log of the user's own node, verified with its own credential."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.log.checkpoint import Checkpoint, open_checkpoint
from luoshu.contracts.log.note import NoteVerifier
from luoshu.contracts.log.receipt import Receipt, verify_receipt
from luoshu.contracts.membership import MembershipCredential
from luoshu.sdk.errors import InvalidRequestError, VerificationError
from luoshu.sdk.rpc.client import NodeClient
from luoshu.sdk.rpc.messages import LogEntrySummary

_PAGE = 100


class UsageLog:
    """Checkpoints, entries and receipts of the own node's log.

    Args:
        client: Calls the node.
        own_credential: Returns the node's membership credential, verified.
    """

    def __init__(
        self, client: NodeClient, own_credential: Callable[[], MembershipCredential]
    ) -> None:
        self._client = client
        self._own_credential = own_credential

    def signed_checkpoint(self) -> str:
        """The newest checkpoint as a signed note, its signature verified.

        Raises:
            VerificationError: The log's key didn't sign it.
        """
        note = self._client.get_checkpoint()
        self._open(note)
        return note

    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint: origin, size and root.

        Raises:
            VerificationError: The log's key didn't sign it.
        """
        return self._open(self._client.get_checkpoint())

    def entries(
        self, *, contract_id: str = "", kind: str = "", limit: int | None = None
    ) -> Iterator[LogEntrySummary]:
        """Entries, newest first; the node's word, `receipt` proves one.

        Args:
            contract_id: Keep only entries of this contract.
            kind: Keep only entries of this kind, e.g. `release`.
            limit: At most so many.
        """
        if limit is not None and limit < 0:
            raise InvalidRequestError("limit can't be negative.")
        before, left = 0, limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._client.list_entries(
                contract_id=contract_id, kind=kind, page_size=size, before_index=before
            )
            yield from page
            if not page or page[-1].index == 0:
                return
            before = page[-1].index
            left = None if left is None else left - len(page)

    def receipt(self, index: int) -> Receipt:
        """One entry with the proof that the log holds it, verified.

        Raises:
            VerificationError: The proof doesn't hold, or is of another entry.
        """
        credential = self._own_credential()
        try:
            receipt = Receipt.from_bytes(self._client.get_receipt(index))
            verify_receipt(receipt, credential.keys_for(KeyUse.LOG), credential.participant_id)
        except ContractsError as error:
            raise VerificationError(f"The receipt doesn't verify: {error}") from error
        if receipt.index != index:
            raise VerificationError(f"The receipt is of entry {receipt.index}, not of {index}.")
        return receipt

    def _open(self, note: str) -> Checkpoint:
        credential = self._own_credential()
        origin = credential.participant_id
        verifiers = [NoteVerifier(origin, key) for key in credential.keys_for(KeyUse.LOG)]
        try:
            return open_checkpoint(note, verifiers, origin)
        except ContractsError as error:
            raise VerificationError(
                f"The checkpoint doesn't verify: {error}",
                next_step="Keep it, and run `luoshu log verify` on the node's log directory.",
            ) from error
