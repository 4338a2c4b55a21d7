"""Ending tasks: cancelled and awaited by whoever began them, whatever happens meanwhile."""

import asyncio
from collections.abc import Collection
from typing import Any

from app.errors import Failure


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks`, and return when they have ended; a cancellation of our own waits till then.

    Raises what they raised, unless it is a `Failure`, which nobody waits for any more: our own
    bug does not go down with a task that is not needed.
    """
    for task in tasks:
        task.cancel()
    interrupted: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            interrupted = error
    for task in tasks:
        raised = None if task.cancelled() else task.exception()
        if raised is not None and not isinstance(raised, Failure):
            raise raised
    if interrupted is not None:
        raise interrupted
