"""Whoever reads the log pauses or goes away, or its disk is full: no answer shows it."""

import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

from chaos.cheap import cheap_upstream
from chaos.figures import Figure, at_most, exactly, info, percentile
from chaos.load import closed_loop
from chaos.service import Response, service_process
from tests.service.replies import respond_with
from tests.service.stream import NDJSON, SSE
from tests.service.upstream import Upstream

_SECONDS = 3.0
_PAUSE = 10.0
"""Seconds; thirty make no other figures."""
_CLIENTS = 4
_LATE = 0.02
_REQUESTS = (
    ("/v1/users/1/overview", "application/json"),
    ("/v1/users/1/overview", SSE),
    ("/v1/overviews?user_id=1&user_id=2", NDJSON),
    ("/livez", "application/json"),
)
_LONG_ID = "r" * 128
"""In each line: the more there is to write, the sooner a reader is missed."""
_OF_ONE_ANSWER = re.compile(r'"(elapsed_ms|as_of|detail)":("[^"]*"|[0-9.]+)')
"""What differs from answer to answer anyway."""


async def log_reader(directory: Path) -> AsyncIterator[Figure]:
    """Posts fail, so that answers are partial, and each attempt has a line, too."""
    usual: set[tuple[int, str]] = set()
    usual_p99 = 0.0
    for standard_output in ("a file", "closed", "a reader gone", "a full disk", "a reader paused"):
        seconds = _PAUSE if standard_output == "a reader paused" else _SECONDS
        responses = await _responses(directory, standard_output, seconds)
        answers = {_answer(one) for one in responses}
        p99 = percentile([one.seconds for one in responses], 0.99)
        name = f"log_reader, {standard_output}"
        yield info(f"{name}, answers", f"{len(responses) / seconds:.0f}/s")
        if usual:
            yield exactly(f"{name}, answers that differ", len(answers - usual), 0)
            yield at_most(f"{name}, p99", p99, usual_p99 + _LATE, "ms")
        else:
            usual, usual_p99 = answers, p99
            yield info(f"{name}, p99", f"{p99 * 1000:.1f} ms")


async def _responses(directory: Path, standard_output: str, seconds: float) -> list[Response]:
    requests = cycle(_REQUESTS)
    with _reader(directory, standard_output) as (redirection, leave):
        async with (
            cheap_upstream() as url,
            Upstream(respond_with(b"no", "403 Forbidden")) as posts,
            service_process(
                *(directory, {}, "app", None, redirection),
                UPSTREAM_URL=url,
                UPSTREAMS__POSTS__URLS=posts.url,
                LOG_LEVEL="info",
            ) as service,
        ):
            leave()

            async def request() -> Response:
                path, accept = next(requests)
                return await service.get(path, Accept=accept, X_Request_ID=_LONG_ID)

            return await closed_loop(request, _CLIENTS, seconds)


@contextmanager
def _reader(directory: Path, standard_output: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """How the shell redirects standard output, and what makes its reader leave."""
    fixed = {"a file": f"> {directory}/log", "closed": ">&-", "a full disk": "> /dev/full"}
    if standard_output in fixed:
        yield fixed[standard_output], lambda: None
        return
    pipe = directory / standard_output.replace(" ", "_")
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        yield f"> {pipe}", reader.close if standard_output == "a reader gone" else lambda: None


def _answer(response: Response) -> tuple[int, str]:
    """What a client got, whichever section or user came first."""
    lines = _OF_ONE_ANSWER.sub("", response.text).replace("\n\n", "\0").splitlines()
    return response.status, "\n".join(sorted("\n".join(lines).split("\0")))
