"""However an answer is delivered, it is the same one: for any mix of what upstreams may do."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.folding import EVENTS, NDJSON, fold, parsed, played, timeless, well
from tests.fakes import on_virtual_time
from tests.in_process import (
    ABSENT,
    BROKEN,
    BUSY,
    FAULTY,
    GARBAGE,
    LATE,
    NAMES,
    POST,
    Running,
    each,
    running_service,
)

ENDS: Mapping[str, httpx.Response | Exception] = {
    "late": LATE,
    "broken": BROKEN,
    "busy": BUSY,
    "faulty": FAULTY,
    "garbage": GARBAGE,
    "absent": ABSENT,
    "forbidden": httpx.Response(403),
    "empty": httpx.Response(200, json=[]),
    "dropping": httpx.Response(200, json=[POST, {"id": "1"}, POST]),
    "nasty": httpx.Response(200, json=[POST | {"title": "a\r\nb\rc\n\ndata: \u2028\u2029\x85 ü"}]),
}
AGES = {
    "stored": "max-age=60",
    "revalidating": "max-age=1, stale-while-revalidate=60",
    "stale": "max-age=1, stale-if-error=60",
}
STEP = 0.23
"""Seconds. Nothing ends at the very instant of a heartbeat, which may change who comes first."""

Fate = tuple[str, int]
Fates = Mapping[str, Fate]


def fates(*kinds: str) -> st.SearchStrategy[Fates]:
    """What becomes of each section, and after how many steps."""
    kind = st.sampled_from(["well", "hanging", *ENDS, *kinds])
    return st.fixed_dictionaries({name: st.tuples(kind, st.integers(0, 9)) for name in NAMES})


@st.composite
def queries(draw: st.DrawFn) -> str:
    include = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    require = draw(st.lists(st.sampled_from(include), unique=True))
    return f"include={','.join(include)}" + f"&require={','.join(require)}" * bool(require)


patience = st.fixed_dictionaries(
    {"whole": st.sampled_from([310, 1900]), "attempt": st.sampled_from([0.8, 5.0])}
)


async def met(fate: Fate, section: str, user: int) -> httpx.Response:
    kind, steps = fate
    if kind in AGES:
        return well(section, user, AGES[kind])
    await (asyncio.Event().wait() if kind == "hanging" else asyncio.sleep(steps * STEP))
    if kind == "well":
        return well(section, user)
    end = ENDS[kind]
    if isinstance(end, Exception):
        raise end.with_traceback(None)
    return end


async def prepared(service: Running, fates: Fates, replace_route: dict[str, Fate]) -> None:
    """Bring about what takes earlier requests: something stored, an open circuit."""
    replace_route |= fates
    for name, (kind, _) in fates.items():
        if kind in AGES:
            await service.overview(f"?include={name}")
    await asyncio.sleep(2)
    replace_route |= {name: ("broken", 1) for name, (kind, _) in fates.items() if kind in AGES}
    for name, (kind, _) in fates.items():
        if kind == "resting":
            replace_route[name] = ("broken", 0)
            for _ in range(20):
                await service.overview(f"?include={name}")


async def answered(
    accept: str, fates: Fates, query: str, times: Mapping[str, Any]
) -> httpx.Response:
    """By a service that is new, and so has no past in common with another."""
    replace_route: dict[str, Fate] = {}
    upstream = played(lambda section, user: met(replace_route[section], section, user))
    once = each(retries=0, attempt_timeout=times["attempt"])
    async with running_service(upstream, upstreams=once, log_level="error") as service:
        await prepared(service, fates, replace_route)
        whole = str(times["whole"])
        return await service.overview(f"?{query}", Accept=accept, X_Request_Timeout_Ms=whole)


@given(fates("resting", *AGES), queries(), patience)
@example(
    {"user": ("stored", 0), "posts": ("nasty", 1), "todos": ("stale", 0)},
    "include=user,posts,todos",
    {"whole": 1900, "attempt": 5.0},
)
@example(
    {"user": ("resting", 0), "posts": ("hanging", 0), "todos": ("revalidating", 0)},
    "include=user,posts,todos&require=posts",
    {"whole": 1900, "attempt": 5.0},
)
def test_events_fold_into_the_json_answer(
    fates: Fates, query: str, times: Mapping[str, Any]
) -> None:
    async def main() -> None:
        whole = await answered("application/json", fates, query, times)
        streamed = await answered(EVENTS, fates, query, times)
        assert streamed.status_code == 200
        status, answer = fold(parsed(streamed.text))
        assert status == whole.status_code
        assert timeless(answer) == timeless(whole.json())
        if status == 200:
            assert whole.headers["x-complete"] == str(answer["complete"]).lower()

    on_virtual_time(main)


crowds = st.lists(fates(), min_size=1, max_size=6)


async def asked(
    crowd: Sequence[Fates], path: str, accept: str, times: Mapping[str, Any], fan_out: int
) -> httpx.Response:
    upstream = played(lambda section, user: met(crowd[user - 1][section], section, user))
    once = each(retries=0, attempt_timeout=times["attempt"])
    headers = {"Accept": accept, "X-Request-Timeout-Ms": str(times["whole"])}
    async with running_service(
        upstream, upstreams=once, fan_out=fan_out, log_level="error"
    ) as service:
        return await service.get(path, headers=headers)


def many(crowd: Sequence[Fates], query: str) -> str:
    return f"/v1/overviews?{query}" + "".join(f"&user_id={n + 1}" for n in range(len(crowd)))


@given(crowds, queries(), patience, st.integers(1, 10))
def test_the_lines_of_a_batch_are_the_items_of_its_json(
    crowd: Sequence[Fates], query: str, times: Mapping[str, Any], fan_out: int
) -> None:
    async def main() -> None:
        path = many(crowd, query)
        batch = (await asked(crowd, path, "application/json", times, fan_out)).json()
        streamed = await asked(crowd, path, NDJSON, times, fan_out)
        *lines, end = streamed.content.split(b"\n")
        assert end == b""
        items = [json.loads(line) for line in lines]
        items.sort(key=lambda item: item["user_id"])
        assert [item["user_id"] for item in batch["items"]] == [n + 1 for n in range(len(crowd))]
        assert timeless(items) == timeless(batch["items"])

    on_virtual_time(main)


@settings(max_examples=50)
@given(crowds, queries(), patience)
def test_the_items_of_a_batch_are_what_each_overview_is_alone(
    crowd: Sequence[Fates], query: str, times: Mapping[str, Any]
) -> None:
    async def main() -> None:
        path = many(crowd, query)
        batch = (await asked(crowd, path, "application/json", times, fan_out=18)).json()
        complete = True
        for number, item in enumerate(batch["items"], 1):
            path = f"/v1/users/{number}/overview?{query}"
            alone = await asked(crowd, path, "application/json", times, fan_out=18)
            failed = alone.status_code != 200
            assert item["status"] == ("failed" if failed else "ok")
            answer = item["error" if failed else "overview"]
            assert timeless(answer) == timeless(alone.json())
            complete &= answer.get("complete", False)
        assert batch["complete"] is complete

    on_virtual_time(main)
