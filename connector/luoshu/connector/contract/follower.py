"""Keeps one stream open to each provider of this node's contracts.

An analyst's node only dials out, so what a provider does by itself (it answers
by hand, suspends, revokes) reaches it on these streams.
"""

from __future__ import annotations

import asyncio
from functools import partial

from luoshu.connector.background import repeat
from luoshu.connector.contract.consumer import ContractConsumer


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
                # The stream ends after an hour and is opened again where it left off.
                following = repeat(
                    "provider_not_followed", partial(self._consumer.follow, provider), peer=provider
                )
                group.create_task(following, name=f"follow {provider}")
