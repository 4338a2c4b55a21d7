"""The two measurements: what an overview costs, and what it adds to the slowest upstream."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from .client import OVERVIEW, Client, durations, verify
from .data import USER_IDS
from .load import Round, load
from .process import HOST, free_port, server
from .report import Costs, Times
from .upstream import fast_upstream, slow_upstream
from .variants import VARIANTS, Variant

CONNECTIONS = (1, 16, 64)
WARM_UP = 0.5
"""Seconds of load before a round, for connections and caches of the interpreter."""
REPEATS = 8
"""Answers a connection in a round: those cut off at its end stay few beside those counted."""


@contextmanager
def serving(
    variant: Variant, upstream: int, core: int, directory: Path
) -> Iterator[tuple[int, int]]:
    """Port and pid of a fresh server for `variant`, its answers verified."""
    port = free_port()
    where = {"HOST": HOST, "PORT": str(port), "UVICORN_HOST": HOST, "UVICORN_PORT": str(port)}
    environment = where | {"UPSTREAM_URL": f"http://{HOST}:{upstream}"}
    with server(variant.command, environment, port=port, core=core, directory=directory) as pid:
        with closing(Client(port)) as client, closing(Client(upstream)) as truth:
            verify(variant, client, truth)
        yield port, pid


def costs(rounds: int, seconds: float, core: int, load_core: int, directory: Path) -> Costs:
    """Rounds of load; the variants alternate, so that a busy neighbour is shared by all."""
    measured: defaultdict[tuple[Variant, int], list[Round]] = defaultdict(list)
    with fast_upstream(directory, load_core) as upstream:
        for connections in CONNECTIONS:
            for _ in range(rounds):
                for variant in VARIANTS:
                    with serving(variant, upstream, core, directory) as (port, pid):
                        one = one_round(port, pid, connections, seconds)
                    measured[variant, connections].append(one)
                    print(".", end="", file=sys.stderr, flush=True)
    return measured


def one_round(port: int, pid: int, connections: int, seconds: float) -> Round:
    """What a warm server needs under steady load."""
    load(port, pid, connections=connections, seconds=WARM_UP, repeats=1)
    # Answered last: with it, what the warm-up left behind is done.
    with closing(Client(port)) as client:
        client.get(OVERVIEW.format(USER_IDS[0]))
    return load(port, pid, connections=connections, seconds=seconds, repeats=REPEATS)


def times(rounds: int, core: int, load_core: int, directory: Path) -> Times:
    """One request at a time: the slowest upstream call by itself, then each variant's overviews."""
    direct: list[float] = []
    measured: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    with ExitStack() as stack:
        upstream = stack.enter_context(slow_upstream(directory, load_core))
        ports: dict[Variant, int] = {}
        for variant in VARIANTS:
            ports[variant], _ = stack.enter_context(serving(variant, upstream, core, directory))
        for _ in range(rounds):
            direct += durations(upstream, "/todos?userId={}")
            for variant, port in ports.items():
                measured[variant] += durations(port, OVERVIEW)
            print(".", end="", file=sys.stderr, flush=True)
    return Times(direct, measured)
