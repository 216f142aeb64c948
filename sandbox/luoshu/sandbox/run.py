"""The sandbox as the node uses it: start it, check it, run computations in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from luoshu.sandbox.computation import Computation, Outcome, VerifiedPlan
from luoshu.sandbox.history_port import HistoryPort
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.docker import DockerIsolation
from luoshu.sandbox.isolation.port import Finding, Isolation, IsolationConfig
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.rules import ReleaseRules
from luoshu.sandbox.templates import BoundParameter

__all__ = ["Computation", "Outcome", "ReleaseRules", "Sandbox", "VerifiedPlan"]


class Sandbox:
    """Where computations run on this machine."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    @classmethod
    def start(cls, config: IsolationConfig | None = None) -> Self:
        """Starts the launcher process; call it before gRPC is imported. Takes about 0.3 s.

        A machine that can't isolate is no error here: `check` says what is
        missing, and every computation raises `SandboxUnavailableError`.
        """
        wanted = config or IsolationConfig()
        is_docker = wanted.adapter == "docker"
        return cls(DockerIsolation(wanted) if is_docker else BwrapIsolation(wanted))

    @property
    def isolation(self) -> Isolation:
        """The wall, for `prepare_product`."""
        return self._isolation

    @property
    def measurement(self) -> str:
        """`sha256:<hex>` of the workers' code, interpreter, engine and libraries.

        Hashes about 100 MB the first time (0.3 s); call it off the event loop.

        Raises:
            SandboxUnavailableError: This machine can't isolate a worker.
        """
        return self._isolation.measurement

    @property
    def memory_limit(self) -> str:
        """By what a worker's memory is limited on this machine, in a few words."""
        return self._isolation.memory_limit

    def check(self) -> list[Finding]:
        """Tries to isolate a trivial process; blocks for about 50 ms. Empty if all is well."""
        return self._isolation.check()

    def warm_up(self) -> None:
        """Has workers made ready, in the background: the first computation needn't wait for them.

        Raises:
            SandboxUnavailableError: This machine can't isolate a worker.
        """
        self._isolation.warm_up()

    def close(self) -> None:
        """Ends the launcher and all workers; again is harmless."""
        self._isolation.close()

    def computation(
        self,
        products: Sequence[PreparedProduct],
        rules: ReleaseRules,
        sql: str,
        history: HistoryPort | None = None,
        parameters: Sequence[BoundParameter] = (),
        *,
        explains: bool = False,
    ) -> Computation:
        """A computation over some products; use it as an async context manager.

        Args:
            products: Whose tables the SQL may name.
            rules: The contract's.
            sql: One SELECT statement, at most 64 KiB.
            history: What the result is compared with, and joins; None for none.
            parameters: Values of a template, if the SQL is one.
            explains: Whether the outcome says of each group of too few units that it is one.

        Raises:
            ValueError: Two products have the same table name.
        """
        names = [product.table_name for product in products]
        if len(set(names)) != len(names):
            raise ValueError("two products have the same table name; give each once")
        return Computation(
            self._isolation, products, rules, sql, history, parameters, explains=explains
        )
