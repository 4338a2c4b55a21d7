import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call
from app.errors import Failure, Unreachable
from tests.fakes import (
    a_cache_policy,
    an_answer,
    leaving_nothing,
    now,
    on_virtual_time,
    result_or_error,
)
from tests.resilience.pipelines import BUSY, a_call_about, a_pipeline


@dataclass(frozen=True)
class Client:
    start: float
    timeout: float
    about: int
    cancel_after: float | None
    no_cache: bool
    no_store: bool


CLIENTS = st.lists(
    st.builds(
        Client,
        start=st.floats(0, 4),
        timeout=st.floats(0.001, 4),
        about=st.integers(0, 4),
        cancel_after=st.none() | st.floats(0, 4),
        no_cache=st.booleans(),
        no_store=st.booleans(),
    ),
    min_size=1,
    max_size=20,
)
ATTEMPTS = st.lists(
    st.tuples(st.floats(0, 3), st.sampled_from([None, None, Unreachable("broken"), BUSY])),
    min_size=1,
    max_size=10,
)


@given(
    CLIENTS,
    ATTEMPTS,
    st.integers(1, 3),
    st.floats(0.1, 3),
    st.integers(1, 3),
    st.sampled_from(["off", "auto", 0.0, 0.2]),
    st.booleans(),
)
def test_every_call_is_over_by_its_deadline_and_leaves_nothing_in_flight(
    clients: Sequence[Client],
    attempts: Sequence[tuple[float, Failure | None]],
    concurrency: int,
    attempt_timeout: float,
    mirrors: int,
    hedge: object,
    latency_is_known: bool,
) -> None:
    async def main() -> None:
        in_flight = max_in_flight = begun = 0

        async def mirror(call: Call) -> Answer:
            nonlocal in_flight, max_in_flight, begun
            assert now() < call.context.deadline
            requested_at = now()
            seconds, failure = attempts[begun % len(attempts)]
            begun += 1
            in_flight += 1
            max_in_flight = max(max_in_flight, in_flight)
            try:
                await asyncio.sleep(seconds)
            finally:
                in_flight -= 1
            if failure is not None:
                raise failure
            return an_answer(
                call.question.target.encode(),
                cache_policy=a_cache_policy(now() + 0.3, 0.3, 1.0),
                requested_at=requested_at,
            )

        upstream = a_pipeline(
            *[mirror] * mirrors,
            concurrency=concurrency,
            attempt_timeout=attempt_timeout,
            retries=2,
            hedge=hedge,
        )
        for _ in range(20 if latency_is_known else 0):
            upstream.latency.add(0.5)

        async def run(client: Client) -> None:
            await asyncio.sleep(client.start)
            call = a_call_about(client.about, client.start + client.timeout)
            context = replace(
                call.context,
                arrived=now(),
                no_cache=client.no_cache or client.no_store,
                no_store=client.no_store,
            )
            call = replace(call, context=context)
            answer = upstream.lookup(call)
            if answer is None:
                task = asyncio.ensure_future(result_or_error(upstream.fetch(call)))
                await asyncio.wait([task], timeout=client.cancel_after)
                task.cancel()
                result = await result_or_error(task)
                assert now() <= client.start + client.timeout + 0.05
                assert isinstance(result, Answer | Failure | asyncio.CancelledError)
                answer = result if isinstance(result, Answer) else None
                if answer is not None and context.no_cache:
                    assert answer.requested_at >= context.arrived
            if answer is not None:
                assert answer.data.json == call.question.target.encode()

        async with leaving_nothing():
            await asyncio.gather(*map(run, clients))
            await upstream.aclose()
        assert max_in_flight <= concurrency
        assert (in_flight, upstream.bulkhead.in_flight, upstream.bulkhead.queued) == (0, 0, 0)

    on_virtual_time(main)
