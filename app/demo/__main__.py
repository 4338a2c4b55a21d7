"""Run the demo upstream alone: `python -m app.demo [--host HOST] [--port PORT]`."""

import argparse
import asyncio
import contextlib
import math
import os
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.demo import demo_upstream


def main() -> None:
    arguments = _arguments()
    config = uvicorn.Config(
        _suppress_cancellation(demo_upstream(_latency())),
        host=arguments.host,
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    listener = config.bind_socket()
    listener.listen(config.backlog)  # from here on the printed address accepts connections
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    print(f"demo upstream on {url}", f"  curl '{url}/posts?userId=1'", sep="\n", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises Ctrl+C again once it has stopped
        uvicorn.Server(config).run(sockets=[listener])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.demo", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=8001, help="0 takes a free one")
    return parser.parse_args()


def port_number(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return port


def _latency() -> float:
    """DEMO_LATENCY in seconds; exits with one line if it is invalid."""
    text = os.environ.get("DEMO_LATENCY", "0.1")
    with contextlib.suppress(ValueError):
        latency = float(text)
        if math.isfinite(latency) and latency >= 0:
            return latency
    print(f"DEMO_LATENCY must be a number of seconds, 0 or more: {text!r}", file=sys.stderr)
    sys.exit(2)


def _suppress_cancellation(app: ASGIApp) -> ASGIApp:
    """When uvicorn stops, it cancels slow answers: suppress the tracebacks of that."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return wrapped


if __name__ == "__main__":
    main()
