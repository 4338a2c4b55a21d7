"""`python -m benchmarks.layers`: what the resilience layers add to one call, without a network.

Calls go through the pipeline, and the same calls directly to an exchange, in turn; the difference
is the cost of the layers. The exchange yields to the event loop once, as any exchange does, and
answers. The rest is as in the service: sixteen requests at once, each with a task for each of its
calls, and no two calls alike.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import inf
from statistics import median
from time import perf_counter, process_time

import uvloop

from app.call import (
    UNCACHEABLE,
    Answer,
    CachePolicy,
    Call,
    Context,
    Data,
    Exchange,
    Fetch,
    Layer,
    Question,
    Reply,
)
from app.composition.outcome import Outcomes, cached_outcomes
from app.composition.scheduler import gather
from app.composition.view import Plan, Section, View
from app.resilience.breaker import Breaker
from app.resilience.budget import RetryBudget
from app.resilience.bulkhead import Bulkhead
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.cache import Cached
from app.resilience.layers.circuit_breaker import circuit_breaker
from app.resilience.layers.coalesce import coalesce
from app.resilience.layers.limit import limit
from app.resilience.layers.measure import measure
from app.resilience.layers.quarantine import quarantine
from app.resilience.layers.retry import retry
from app.resilience.layers.shed import shed
from app.resilience.layers.timeout import timeout
from app.resilience.mirrors import RoundRobin
from app.resilience.pipeline import pipeline
from app.resilience.store import Store
from app.settings import Settings, UpstreamSettings
from app.tasks import BackgroundTasks
from app.telemetry import logs

from .process import BenchmarkError

REQUESTS = 16
"""In flight at the same time."""
VIEW = View(
    name="benchmark",
    path="/{number}",
    batch="/",
    identifier="number",
    identifier_type=int,
    sections={
        name: Section(dict, lambda _: _question(""), {}) for name in ("user", "posts", "todos")
    },
)
"""Only for its names: each plan has questions of its own."""
BATCH = REQUESTS * 20
"""Requests of one sample: a short sample, so that a busy moment spoils few of them."""
REPEATS = 30
"""Samples of each stack, after the warm-up."""
WARM_UP = 3
BODY = b"x" * 2000

PIPELINES = {"all layers": UNCACHEABLE, "all layers, stored": CachePolicy(inf, inf, inf)}
"""All layers above an exchange whose answers are not cacheable, or are stored but never hit."""

_targets = count()


@dataclass(frozen=True, slots=True)
class Stack:
    """Some layers above an exchange; `lookup` is that of the cache, if it is one of them."""

    fetch: Fetch
    lookup: Callable[[Call], Answer | None] | None = None


def added(repeats: int = REPEATS) -> Mapping[str, float]:
    """Microseconds of CPU time that each stack adds to a call, by its name."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _production_gc():
        samples = runner.run(_samples(WARM_UP + repeats))
    direct = samples.pop("")
    return {
        name: median(a - b for a, b in zip(costs, direct, strict=True))
        for name, costs in samples.items()
    }


async def _samples(repeats: int) -> dict[str, list[float]]:
    settings = Settings.model_construct()  # the defaults, without reading the environment
    stacks = _stacks(settings)
    samples: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(repeats):
        for name, stack in stacks.items():
            samples[name].append(await _cost(stack, settings))
    return {name: costs[WARM_UP:] for name, costs in samples.items()}


def _stacks(settings: Settings) -> dict[str, Stack]:
    """By name: no layers, all layers, and each layer alone."""
    upstream = UpstreamSettings()
    emit = logs.event_logger(logs.logger(settings))

    def all_layers(cache_policy: CachePolicy) -> Stack:
        measured = pipeline(
            [_replying(_exchange(cache_policy))],
            upstream,
            store=_full_store(),
            decoding=asyncio.Lock(),
            request_timeout=settings.request_timeout,
            emit=emit,
        )
        return Stack(measured.fetch, measured.lookup)

    exchange = _exchange(UNCACHEABLE)
    time = asyncio.get_running_loop().time
    latency, budget = Latency(time), RetryBudget(upstream.retry_budget)
    failures, background, turns = KeyFailures(), BackgroundTasks(), RoundRobin(1, time)
    cached = Cached(exchange, Store(), background, emit, settings.request_timeout)
    bulkhead = Bulkhead(upstream.concurrency, latency, upstream.attempt_timeout, time)
    seconds = upstream.attempt_timeout
    layers: dict[str, Layer] = {
        "coalesce": coalesce(latency, emit),
        "shed": shed(emit),
        "quarantine": quarantine(failures, background, request_timeout=settings.request_timeout),
        "retry": retry(
            upstream.retries, budget, failures, latency, turns, emit, random=lambda: 0.5
        ),
        "circuit_breaker": circuit_breaker(
            [Breaker()], failures, latency, background, emit, mirror=0, attempt_timeout=seconds
        ),
        "limit": limit(bulkhead, failures, emit),
        "measure": measure(latency, failures, emit, mirror=0, clock=perf_counter),
        "timeout": timeout(seconds),
    }
    return (
        {"": Stack(exchange)}
        | {name: all_layers(cache_policy) for name, cache_policy in PIPELINES.items()}
        | {"cache": Stack(cached, cached.lookup)}
        | {name: Stack(layer(exchange)) for name, layer in layers.items()}
    )


def _exchange(cache_policy: CachePolicy) -> Fetch:
    answer = Answer(Data(BODY), 1_700_000_000.0, cache_policy)

    async def send(call: Call) -> Answer:
        await asyncio.sleep(0)
        return answer

    return send


def _replying(fetch: Fetch) -> Exchange:
    async def exchange(call: Call) -> Reply:
        answer = await fetch(call)
        return Reply(len(answer.data.json), lambda: answer)

    return exchange


def _full_store() -> Store:
    """A store in which each new entry evicts another."""
    store, size = Store(), -1
    while store.size > size:
        size = store.size
        store.put(("", f"{size:09}", Data, ()), Answer(Data(BODY), 0.0))
    return store


async def _cost(stack: Stack, settings: Settings) -> float:
    """Microseconds of CPU time for one call, averaged over a batch of requests."""
    plans = iter([_plan() for _ in range(BATCH)])
    time = asyncio.get_running_loop().time
    results: list[Outcomes] = []

    async def client() -> None:
        for plan in plans:
            context = Context(
                time() + settings.request_timeout, asyncio.Semaphore(settings.fan_out), "benchmark"
            )
            cached = cached_outcomes(plan, context, stack.lookup) if stack.lookup else {}
            results.append(await gather(plan, context, stack.fetch, cached))

    began = process_time()
    await asyncio.gather(*(client() for _ in range(REQUESTS)))
    cpu = process_time() - began
    answers = [one.result for outcomes in results for one in outcomes.values()]
    if len(answers) != BATCH * len(VIEW.sections) or not all(
        isinstance(a, Answer) for a in answers
    ):
        raise BenchmarkError("a call was not answered")
    return cpu / len(answers) * 1e6


def _plan() -> Plan:
    questions = {name: _question(name) for name in VIEW.sections}
    return Plan(VIEW, 0, questions, frozenset())


def _question(name: str) -> Question:
    return Question(name, f"/{name}/{next(_targets)}", Data)


@contextmanager
def _production_gc() -> Iterator[None]:
    """The garbage collector's settings of `app.__main__`."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


if __name__ == "__main__":
    for name, microseconds in added().items():
        print(f"{name:22}{microseconds:>8.1f}")
