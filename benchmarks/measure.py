"""The measurements: CPU time an overview under load, and time added to the slowest upstream."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .client import OVERVIEW, Client, durations, verify
from .data import ALL_USER_IDS, USER_IDS
from .load import Round, Traffic, load
from .process import HOST, free_port, server
from .report import Times
from .upstream import fast_upstream, slow_upstream
from .variants import VARIANTS, Variant

WARM_UP = 0.5
"""Seconds of load before a round, to open connections and fill the interpreter's caches."""
REPEATS = 8
"""Responses a connection in a round: few are cut off at its end, compared with those counted."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to measure, and for how long."""

    core: int
    """The server's own."""
    load_core: int
    directory: Path
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests, and the `Cache-Control` of the upstream's responses."""

    title: str
    traffic: Traffic
    connections: Sequence[int]
    cache_control: str = ""


COLD = Workload(
    "Cold: a hundred users in turn, no two requests in flight alike, nothing is cacheable.",
    Traffic(ALL_USER_IDS),
    (1, 16, 64),
)
HOT = Workload(
    "Hot: a hundred users by Zipf's law, responses are fresh for one second.",
    Traffic(ALL_USER_IDS, skew=1.0),
    (16, 64),
    "max-age=1",
)


@contextmanager
def serving(
    variant: Variant, upstream: int, bench: Bench, user_ids: range = USER_IDS
) -> Iterator[tuple[int, int]]:
    """Port and pid of a new server for `variant`, whose responses have been verified."""
    port = free_port()
    address = {"HOST": HOST, "PORT": str(port), "UVICORN_HOST": HOST, "UVICORN_PORT": str(port)}
    with server(
        variant.command,
        address | {"UPSTREAM_URL": f"http://{HOST}:{upstream}"},
        port=port,
        core=bench.core,
        directory=bench.directory,
        root=variant.root,
    ) as pid:
        with closing(Client(port)) as client, closing(Client(upstream)) as direct:
            verify(variant, client, direct, user_ids[:: len(user_ids) // len(USER_IDS)])
        yield port, pid


def costs(
    workload: Workload, variants: Sequence[Variant], bench: Bench
) -> Mapping[tuple[Variant, int], list[Round]]:
    """Rounds of load; the variants alternate, so that a busy neighbour affects all of them."""
    measured: defaultdict[tuple[Variant, int], list[Round]] = defaultdict(list)
    traffic = workload.traffic
    with fast_upstream(bench.directory, bench.load_core, workload.cache_control) as upstream:
        for connections in workload.connections:
            for _ in range(bench.rounds):
                for variant in variants:
                    with serving(variant, upstream, bench, traffic.user_ids) as (port, pid):
                        one = one_round(port, pid, traffic, connections, bench.seconds)
                    measured[variant, connections].append(one)
                    print(".", end="", file=sys.stderr, flush=True)
    return measured


def one_round(port: int, pid: int, traffic: Traffic, connections: int, seconds: float) -> Round:
    """The figures of a warm server under steady load."""
    load(port, pid, traffic, connections=connections, seconds=WARM_UP, repeats=1)
    # By the time this one is answered, the requests left over from the warm-up are done.
    with closing(Client(port)) as client:
        client.get(OVERVIEW.format(USER_IDS[0]))
    return load(port, pid, traffic, connections=connections, seconds=seconds, repeats=REPEATS)


def times(bench: Bench) -> Times:
    """One request at a time: the slowest upstream call by itself, then each variant's overviews."""
    direct: list[float] = []
    measured: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    with ExitStack() as stack:
        upstream = stack.enter_context(slow_upstream(bench.directory, bench.load_core))
        ports: dict[Variant, int] = {}
        for variant in VARIANTS:
            ports[variant], _ = stack.enter_context(serving(variant, upstream, bench))
        for _ in range(bench.rounds):
            direct += durations(upstream, "/todos?userId={}")
            for variant, port in ports.items():
                measured[variant] += durations(port, OVERVIEW)
            print(".", end="", file=sys.stderr, flush=True)
    return Times(direct, measured)
