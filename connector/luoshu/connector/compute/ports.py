"""What computations need of the rest of the node: a sandbox, and the products prepared for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from luoshu.sandbox.history_port import HistoryPort
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.release.dp_budget import Guarantee
from luoshu.sandbox.run import Computation, ReleaseRules
from luoshu.sandbox.templates import BoundParameter


class SandboxPort(Protocol):
    """Where queries run; see `luoshu.sandbox.run.Sandbox`."""

    @property
    def measurement(self) -> str:
        """Digest of everything a worker can see."""
        ...

    def computation(
        self,
        products: list[PreparedProduct],
        rules: ReleaseRules,
        sql: str,
        history: HistoryPort | None,
        parameters: Sequence[BoundParameter],
    ) -> AbstractAsyncContextManager[Computation]:
        """One query's run."""
        ...


class ProductShelf(Protocol):
    """Where prepared products are found."""

    def prepared(self, product_id: str) -> PreparedProduct:
        """The prepared product.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        ...

    def domain_limits(self, domain: str) -> tuple[Guarantee, ...]:
        """The privacy budgets of a domain; see `luoshu.connector.compute.budget`.

        Raises:
            NodeError: A product's file can't be read.
        """
        ...
