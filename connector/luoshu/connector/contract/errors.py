"""How refusals of the contract machines reach a caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from luoshu.connector.errors import NodeError
from luoshu.contracts.contract import ContractState
from luoshu.contracts.errors import ContractsError

__all__ = ["as_node_error"]


@contextmanager
def as_node_error(state: ContractState | None = None) -> Iterator[None]:
    """Turns errors of `luoshu.contracts` into the catalogue's.

    Args:
        state: The contract as this node holds it. Its head and position go with a refusal
            of a stale head, so that the author knows what to fetch.

    Raises:
        NodeError: What was refused and why.
    """
    try:
        yield
    except ContractsError as error:
        metadata: Mapping[str, str] = {}
        if state is not None and error.reason == "CONTRACT_STALE_HEAD":
            metadata = {"head": state.head, "position": str(state.position)}
        raise NodeError.from_reason(error, metadata=metadata) from error
