"""`python -m chaos.named`: `python -m app`, for which the file at `CHAOS_NAMES` is a name server.

Each line of it is a name and its address. What is not there is looked up as usual.
"""

import os
import socket
from pathlib import Path
from typing import Any

_getaddrinfo = socket.getaddrinfo


def _look_up(host: bytes, *args: Any, **kwargs: Any) -> Any:
    lines = Path(os.environ["CHAOS_NAMES"]).read_bytes().splitlines()
    return _getaddrinfo(dict(map(bytes.split, lines)).get(host, host), *args, **kwargs)


if __name__ == "__main__":
    socket.getaddrinfo = _look_up  # type: ignore[assignment]  # before it is imported by name

    from app.__main__ import main

    main()
