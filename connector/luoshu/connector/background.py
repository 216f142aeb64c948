"""Background work that goes on: what fails is said in the log and tried again, later and later.

A node ends when one of its background tasks does, so no single failure may end
one: not a peer that can't be reached, nor one that sends what nobody foresaw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from luoshu.connector.errors import NodeError
from luoshu.connector.observability import get_logger

FIRST_RETRY: Final = 0.5
LAST_RETRY: Final = 30.0
"""Seconds before the first and the last further try; they double in between."""


async def repeat(
    failed: str, work: Callable[[], Awaitable[object]], *, pause: float = 0.0, **fields: str
) -> NoReturn:
    """Does some work again and again until it is cancelled.

    Args:
        failed: Event of the operational log for a failure.
        work: What to do; it may last.
        pause: Seconds before each time.
        **fields: Fields of that event, such as ``peer``.
    """
    clock = asyncio.get_running_loop().time
    wait = FIRST_RETRY
    while True:
        await asyncio.sleep(pause)
        began = clock()
        try:
            await work()
            wait = FIRST_RETRY
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            if clock() - began > LAST_RETRY:
                wait = FIRST_RETRY  # it went well for a while: this is a new failure
            failure = NodeError.from_reason(error)
            get_logger().warning(
                failed,
                reason=failure.reason,
                incident=failure.incident,
                exc_info=error if failure.incident else None,
                retry_after_seconds=wait,
                **fields,
            )
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY)
