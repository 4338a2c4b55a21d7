"""The service as it may be one day: every object of its answers has one member more."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

from acceptance.processes import LOOPBACK


@contextmanager
def newer(url: str) -> Iterator[str]:
    """The base URL of a server that answers as the one at `url`, and adds that member."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = httpx.get(f"{url}{self.path}")
            body = json.dumps(_extended(answer.json())).encode()
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: what counts is what the clients say."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()


def _extended(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _extended(one) for name, one in value.items()} | {"member_of_tomorrow": 1}
    return [_extended(one) for one in value] if isinstance(value, list) else value
