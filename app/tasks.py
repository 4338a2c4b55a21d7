"""Ending tasks: whoever starts one cancels and awaits it, whatever happens meanwhile."""

import asyncio
from collections.abc import Collection
from typing import Any

from app.errors import Failure


async def cancel_and_wait(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks`, and return when all have ended; a cancellation of our own waits till then.

    Raises what they raised, unless it is a `Failure`, which nobody waits for any more: a bug must
    not disappear with a task that is not needed.
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
        try:
            raised = task.exception()
        except asyncio.CancelledError:
            continue  # and the task has lost the error, whose traceback would keep frames alive
        if raised is not None and not isinstance(raised, Failure):
            raise raised
    if interrupted is not None:
        raise interrupted
