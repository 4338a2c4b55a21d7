"""JSON, SSE, batch and NDJSON deliver the same answer, however the upstreams behave."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.simulated_upstreams import ok_response, routed
from tests.api.stream_client import JSON, NDJSON, SSE, fold, parse_sse, without_times
from tests.fakes import on_virtual_time
from tests.in_process import (
    CONNECT_ERROR,
    POST,
    READ_TIMEOUT,
    SECTIONS,
    STATUS_404,
    STATUS_429,
    STATUS_500,
    WRONG_SHAPE,
    Reply,
    ServiceClient,
    every_upstream,
    running_service,
)

REPLIES: Mapping[str, Reply] = {
    "read timeout": READ_TIMEOUT,
    "connect error": CONNECT_ERROR,
    "429": STATUS_429,
    "500": STATUS_500,
    "wrong shape": WRONG_SHAPE,
    "404": STATUS_404,
    "403": httpx.Response(403),
    "empty": httpx.Response(200, json=[]),
    "dropping": httpx.Response(200, json=[POST, {"id": "1"}, POST]),
    "line ends": httpx.Response(
        200, json=[POST | {"title": "a\r\nb\rc\n\ndata: \u2028\u2029\x85 ü"}]
    ),
}
CACHE_CONTROL = {
    "cached": "max-age=60",
    "revalidating": "max-age=1, stale-while-revalidate=60",
    "stale": "max-age=1, stale-if-error=60",
}
STEP = 0.23
"""Seconds. No call ends at the instant of a heartbeat, where the order of events is not defined."""

Behaviour = tuple[str, int]
"""A kind of reply, and how many steps it takes."""

Behaviours = Mapping[str, Behaviour]


def behaviours(*kinds: str) -> st.SearchStrategy[Behaviours]:
    """A behaviour of each section; `kinds` are those beyond the usual ones."""
    kind = st.sampled_from(["ok", "hanging", *REPLIES, *kinds])
    return st.fixed_dictionaries({name: st.tuples(kind, st.integers(0, 9)) for name in SECTIONS})


@st.composite
def queries(draw: st.DrawFn) -> str:
    include = draw(st.lists(st.sampled_from(SECTIONS), min_size=1, unique=True))
    require = draw(st.lists(st.sampled_from(include), unique=True))
    return f"include={','.join(include)}" + f"&require={','.join(require)}" * bool(require)


timeouts = st.fixed_dictionaries(
    {"request_ms": st.sampled_from([310, 1900]), "attempt": st.sampled_from([0.8, 5.0])}
)
Timeouts = Mapping[str, Any]


async def respond(behaviour: Behaviour, section: str, user: int) -> httpx.Response:
    kind, steps = behaviour
    if kind in CACHE_CONTROL:
        return ok_response(section, user, CACHE_CONTROL[kind])
    await (asyncio.Event().wait() if kind == "hanging" else asyncio.sleep(steps * STEP))
    if kind == "ok":
        return ok_response(section, user)
    reply = REPLIES[kind]
    if isinstance(reply, Exception):
        raise reply.with_traceback(None)
    return reply


async def prepare(
    service: ServiceClient, behaviours: Behaviours, current: dict[str, Behaviour]
) -> None:
    """Make earlier requests, which leave cached answers and open circuits behind."""
    current |= behaviours
    for name, (kind, _) in behaviours.items():
        if kind in CACHE_CONTROL:
            await service.overview(f"?include={name}")
    await asyncio.sleep(2)
    for name, (kind, _) in behaviours.items():
        if kind in CACHE_CONTROL:
            current[name] = ("connect error", 1)
    for name, (kind, _) in behaviours.items():
        if kind == "open circuit":
            current[name] = ("connect error", 0)
            for _ in range(20):
                await service.overview(f"?include={name}")


async def overview_as(
    accept: str, behaviours: Behaviours, query: str, timeouts: Timeouts
) -> httpx.Response:
    """An overview of a new service, which shares no state with another."""
    current: dict[str, Behaviour] = {}
    upstream = routed(lambda section, user: respond(current[section], section, user))
    settings = every_upstream(retries=0, attempt_timeout=timeouts["attempt"])
    headers = {"Accept": accept, "X_Request_Timeout_Ms": str(timeouts["request_ms"])}
    async with running_service(upstream, upstreams=settings, log_level="error") as service:
        await prepare(service, behaviours, current)
        return await service.overview(f"?{query}", **headers)


@given(behaviours("open circuit", *CACHE_CONTROL), queries(), timeouts)
@example(
    {"user": ("cached", 0), "posts": ("line ends", 1), "todos": ("stale", 0)},
    "include=user,posts,todos",
    {"request_ms": 1900, "attempt": 5.0},
)
@example(
    {"user": ("open circuit", 0), "posts": ("hanging", 0), "todos": ("revalidating", 0)},
    "include=user,posts,todos&require=posts",
    {"request_ms": 1900, "attempt": 5.0},
)
def test_sse_events_fold_to_the_json_answer(
    behaviours: Behaviours, query: str, timeouts: Timeouts
) -> None:
    async def main() -> None:
        response = await overview_as(JSON, behaviours, query, timeouts)
        streamed = await overview_as(SSE, behaviours, query, timeouts)
        assert streamed.status_code == 200
        status, answer = fold(parse_sse(streamed.text))
        assert status == response.status_code
        assert without_times(answer) == without_times(response.json())
        if status == 200:
            assert response.headers["x-complete"] == str(answer["complete"]).lower()

    on_virtual_time(main)


batches = st.lists(behaviours(), min_size=1, max_size=6)
"""The behaviours for user 1, user 2 and so on."""


async def get(
    batch: Sequence[Behaviours], target: str, accept: str, timeouts: Timeouts, fan_out: int
) -> httpx.Response:
    upstream = routed(lambda section, user: respond(batch[user - 1][section], section, user))
    settings = every_upstream(retries=0, attempt_timeout=timeouts["attempt"])
    headers = {"Accept": accept, "X-Request-Timeout-Ms": str(timeouts["request_ms"])}
    async with running_service(
        upstream, upstreams=settings, fan_out=fan_out, log_level="error"
    ) as service:
        return await service.get(target, headers=headers)


def target_of(batch: Sequence[Behaviours], query: str) -> str:
    return f"/v1/overviews?{query}" + "".join(f"&user_id={n + 1}" for n in range(len(batch)))


@given(batches, queries(), timeouts, st.integers(1, 10))
def test_ndjson_lines_are_the_items_of_the_json_batch(
    batch: Sequence[Behaviours], query: str, timeouts: Timeouts, fan_out: int
) -> None:
    async def main() -> None:
        target = target_of(batch, query)
        items = (await get(batch, target, JSON, timeouts, fan_out)).json()["items"]
        streamed = await get(batch, target, NDJSON, timeouts, fan_out)
        *lines, end = streamed.content.split(b"\n")
        assert end == b""
        streamed_items = [json.loads(line) for line in lines]
        streamed_items.sort(key=lambda item: item["user_id"])
        assert [item["user_id"] for item in items] == [n + 1 for n in range(len(batch))]
        assert without_times(streamed_items) == without_times(items)

    on_virtual_time(main)


@settings(max_examples=50)
@given(batches, queries(), timeouts)
def test_each_batch_item_is_what_its_overview_is_alone(
    batch: Sequence[Behaviours], query: str, timeouts: Timeouts
) -> None:
    async def main() -> None:
        target = target_of(batch, query)
        body = (await get(batch, target, JSON, timeouts, fan_out=18)).json()
        complete = True
        for user, item in enumerate(body["items"], 1):
            target = f"/v1/users/{user}/overview?{query}"
            alone = await get(batch, target, JSON, timeouts, fan_out=18)
            failed = alone.status_code != 200
            assert item["status"] == ("failed" if failed else "ok")
            answer = item["error" if failed else "overview"]
            assert without_times(answer) == without_times(alone.json())
            complete &= answer.get("complete", False)
        assert body["complete"] is complete

    on_virtual_time(main)
