"""`python -m chaos.inspectable`: `python -m app`, which on SIGUSR1 dumps what it still holds.

Tasks, flights and refreshes cannot be seen from outside the process.
"""

import asyncio
import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

from app.__main__ import main
from app.call import Call, Context

_COUNTED = (Call, Context, asyncio.Future)


def _dump(sign: int, frame: FrameType | None) -> None:
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    gc.collect()
    objects = Counter(
        type(one).__name__
        for one in gc.get_objects()
        if isinstance(one, _COUNTED) and _is_pending(one)
    )
    path = Path(os.environ["CHAOS_DUMP"])
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"tasks": tasks, "objects": objects}))
    new.replace(path)  # atomic, so that the reader never gets half a file


def _is_pending(one: object) -> bool:
    return not isinstance(one, asyncio.Future) or not one.done()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _dump)
    main()
