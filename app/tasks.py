"""Tasks: whoever starts one ends it, whatever happens meanwhile."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from app.errors import Failure

T = TypeVar("T")


class BackgroundTasks:
    """Tasks that nobody waits for while they run: probes and refreshes."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End all that are running."""
        await cancel_and_wait(list(self._tasks))


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
