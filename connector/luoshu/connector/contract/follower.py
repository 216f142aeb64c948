"""Keeps one stream open to each provider of this node's contracts.

An analyst's node only dials out, so what a provider does by itself (it answers
by hand, suspends, revokes) reaches it on these streams.
"""

from __future__ import annotations

import asyncio
from typing import Final

from luoshu.connector.contract.consumer import ContractConsumer
from luoshu.connector.errors import NodeError
from luoshu.connector.observability import get_logger

_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 30.0


class ContractFollower:
    """Follows providers; starts with those on record and adds new ones as they are first asked."""

    def __init__(self, consumer: ContractConsumer) -> None:
        """Builds the follower; `run` does the work.

        Args:
            consumer: Knows the providers and takes in what arrives.
        """
        self._consumer = consumer

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            followed: set[str] = set()
            while True:
                await self._follow_new(group, followed)
                await self._consumer.wait_met()

    async def _follow_new(self, group: asyncio.TaskGroup, followed: set[str]) -> None:
        for provider in await self._consumer.providers():
            if provider not in followed:
                followed.add(provider)
                group.create_task(self._follow(provider), name=f"follow {provider}")

    async def _follow(self, provider: str) -> None:
        wait = _FIRST_RETRY
        while True:
            try:
                # The stream ends after an hour and is opened again where it left off.
                await self._consumer.follow(provider)
                wait = _FIRST_RETRY
            except Exception as error:  # noqa: BLE001 - the node ends if this task does
                failure = NodeError.from_reason(error)
                get_logger().warning(
                    "provider_not_followed",
                    peer=provider,
                    reason=failure.reason,
                    incident=failure.incident,
                    exc_info=error if failure.incident else None,
                    retry_after_seconds=wait,
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LAST_RETRY)
