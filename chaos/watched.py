"""`python -m chaos.watched`: `python -m app`, which on SIGUSR1 writes down what it still holds.

Tasks, flights and refreshes cannot be seen from outside of a process.
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

_HELD = (Call, Context, asyncio.Future)


def _tell(sign: int, frame: FrameType | None) -> None:
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    gc.collect()
    objects = Counter(
        type(one).__name__ for one in gc.get_objects() if isinstance(one, _HELD) and _alive(one)
    )
    path = Path(os.environ["CHAOS_HELD"])
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"tasks": tasks, "objects": objects}))
    new.replace(path)  # whoever waits for it never reads a half


def _alive(one: object) -> bool:
    return not isinstance(one, asyncio.Future) or not one.done()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _tell)
    main()
