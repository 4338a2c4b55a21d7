"""A half-open breaker's probe is nobody's: it finds out for everybody."""

import asyncio
import gc
from collections.abc import Sequence

import pytest

from app.call import Answer, Call, Event
from app.errors import CircuitOpen, Timeout, Unreachable
from app.resilience.breaker import Breaker
from app.resilience.key_failures import KeyFailures
from app.resilience.layers.timeout import timeout
from app.tasks import BackgroundTasks
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_context,
    counting_attempts,
    leaving_nothing,
    now,
    result_or_error,
)
from tests.resilience.layers.protected import CLOSED, protected, transitions
from tests.resilience.pipelines import a_call_about
from tests.resilience.states import an_open_breaker, fail, failed

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


async def a_half_open_breaker() -> Breaker:
    breaker = an_open_breaker(now())
    await asyncio.sleep(1)
    assert breaker.state(now()) == "half_open"
    return breaker


async def test_breaker_with_a_probe_in_flight_refuses_a_call_with_retry_after_one_second() -> None:
    fetch = protected(FakeUpstream(seconds=0.5), await a_half_open_breaker())
    probe = asyncio.ensure_future(fetch(a_call()))
    await asyncio.sleep(0.25)
    refusal = await result_or_error(fetch(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, now()) == (1.0, 1.25)
    assert isinstance(await probe, Answer)


async def test_probe_that_is_answered_is_the_answer_of_the_call_it_was_started_for() -> None:
    call = a_call()
    fetch = protected(counting_attempts(FakeUpstream(seconds=0.5)), await a_half_open_breaker())
    async with leaving_nothing():
        assert isinstance(await fetch(call), Answer)
    assert (now(), call.tally.attempts) == (1.5, 1)


async def test_probe_goes_on_when_its_client_hangs_up() -> None:
    breaker, upstream = await a_half_open_breaker(), FakeUpstream(seconds=0.5)
    fetch = protected(upstream, breaker)
    async with leaving_nothing():
        call = asyncio.ensure_future(fetch(a_call()))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait([call])
        assert (call.cancelled(), upstream.in_flight) == (True, 1)
        assert isinstance(await result_or_error(fetch(a_call())), CircuitOpen)
        await asyncio.sleep(0.4)
    assert (breaker.state(now()), upstream.cancelled, len(upstream.began)) == ("closed", 0, 1)


async def test_probe_goes_on_when_the_deadline_of_its_client_is_over() -> None:
    breaker, upstream = await a_half_open_breaker(), FakeUpstream(seconds=0.5)
    async with leaving_nothing():
        late = await result_or_error(protected(upstream, breaker)(a_call(a_context(1.06))))
        assert isinstance(late, Timeout)
        assert (now(), upstream.in_flight, breaker.state(now())) == (1.06, 1, "half_open")
        await asyncio.sleep(0.5)
    assert (breaker.state(now()), upstream.cancelled) == ("closed", 0)


@pytest.mark.parametrize("deadline", [1.001, 1.06, 1.8, 60.0])
async def test_probe_has_the_time_of_a_whole_attempt_whatever_its_client_has(
    deadline: float,
) -> None:
    """So a mirror that hangs is found to be slow; the next probe goes out a second after it."""
    breaker, upstream = await a_half_open_breaker(), FakeUpstream(seconds=60)
    fetch = protected(timeout(0.8)(upstream), breaker)
    async with leaving_nothing():
        assert isinstance(await result_or_error(fetch(a_call(a_context(deadline)))), Timeout)
        await asyncio.sleep(1.8 - now())
    assert (breaker.state(now()), upstream.began) == ("open", [1.0])


async def test_probe_has_a_fan_out_of_its_own() -> None:
    probes: list[Call] = []

    async def upstream(call: Call) -> Answer:
        probes.append(call)
        assert not call.context.fan_out.locked()
        return await FakeUpstream()(call)

    context = a_context(1.5, fan_out=1)
    await context.fan_out.acquire()
    await protected(upstream, await a_half_open_breaker())(a_call(context))
    (probe,) = probes
    assert probe.context.deadline == pytest.approx(1.8)
    assert probe.question == a_call().question


@pytest.mark.parametrize("failure", [None, BROKEN])
async def test_call_does_not_wait_for_a_probe_if_another_mirror_is_closed(
    events: list[Event], failure: Unreachable | None
) -> None:
    breaker, call = await a_half_open_breaker(), a_call()
    upstream = counting_attempts(FakeUpstream(0.5, failure))
    fetch = protected(upstream, breaker, events, others=[Breaker()])
    async with leaving_nothing():
        refusal = await result_or_error(fetch(call))
        assert isinstance(refusal, CircuitOpen)
        assert (now(), refusal.retry_after, call.tally.attempts) == (1.0, 1.0, 0)
        await asyncio.sleep(0.5)
    assert (breaker.state(now()), call.tally.attempts) == ("open" if failure else "closed", 0)
    assert (transitions(events) == [CLOSED]) is (failure is None)


@pytest.mark.parametrize("others", [[], [an_open_breaker()], [an_open_breaker(1.0)]])
async def test_call_waits_for_a_probe_if_no_other_mirror_is_closed(
    others: Sequence[Breaker],
) -> None:
    fetch = protected(FakeUpstream(0.5), await a_half_open_breaker(), others=others)
    assert isinstance(await fetch(a_call()), Answer)
    assert now() == 1.5


async def test_probe_with_a_bug_reaches_the_exception_handler_if_nobody_waits_for_it() -> None:
    bug, breaker = ZeroDivisionError(), await a_half_open_breaker()
    unhandled: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context.get("exception")))
    fetch = protected(FakeUpstream(0.5, bug), breaker)
    assert isinstance(await result_or_error(fetch(a_call(a_context(1.1)))), Timeout)
    await asyncio.sleep(0.5)
    gc.collect()
    assert unhandled == [bug]
    assert isinstance(await result_or_error(protected(FakeUpstream(), breaker)(a_call())), Answer)


async def test_probe_with_a_timeout_error_that_is_a_bug_and_no_deadline_raises_it() -> None:
    bug = TimeoutError()
    fetch = protected(FakeUpstream(0.5, bug), await a_half_open_breaker())
    assert await result_or_error(fetch(a_call())) is bug


async def test_probe_that_is_ended_with_the_service_counts_neither_way() -> None:
    breaker, background = await a_half_open_breaker(), BackgroundTasks()
    upstream = FakeUpstream(seconds=0.5)
    async with leaving_nothing():
        fetch = protected(upstream, breaker, background=background)
        await result_or_error(fetch(a_call(a_context(1.1))))
        await background.aclose()
    assert (upstream.cancelled, upstream.in_flight) == (1, 0)
    assert (breaker.state(now()), breaker.retry_after(now())) == ("half_open", 0.0)


def in_quarantine(call: Call) -> KeyFailures:
    return failed(KeyFailures(), call, 6, now())


async def test_probe_for_a_key_in_quarantine_that_fails_does_not_hold_up_the_others() -> None:
    """Else the key that is asked for most would be the first to probe, again and again."""
    breaker, bad = await a_half_open_breaker(), a_call_about(0)
    failures = in_quarantine(bad)
    hanging = protected(FakeUpstream(0.5, BROKEN), breaker, failures=failures)
    probe = asyncio.ensure_future(hanging(bad))
    await asyncio.sleep(0.1)
    other = protected(FakeUpstream(0.6), breaker, failures=failures)(a_call_about(1))
    assert isinstance(await other, Answer)
    assert (await result_or_error(probe), breaker.state(now())) == (BROKEN, "closed")


@pytest.mark.parametrize("in_a_row", [1, 3, 5])
async def test_probe_for_a_key_that_is_not_in_quarantine_counts_though_it_has_counted_enough(
    in_a_row: int,
) -> None:
    breaker, call = await a_half_open_breaker(), a_call_about(0)
    failures = failed(KeyFailures(), call, in_a_row, now())
    await result_or_error(protected(FakeUpstream(0, BROKEN), breaker, failures=failures)(call))
    assert breaker.state(now()) == "open"


async def test_probe_for_a_key_in_quarantine_closes_the_circuit_if_it_is_answered() -> None:
    """Perhaps there are no others."""
    breaker, call = await a_half_open_breaker(), a_call_about(0)
    await protected(FakeUpstream(), breaker, failures=in_quarantine(call))(call)
    assert breaker.state(now()) == "closed"


async def test_probes_for_keys_in_quarantine_are_one_a_second_however_many_there_are() -> None:
    breaker, upstream, failures = Breaker(), FakeUpstream(0, BROKEN), KeyFailures()
    fail(breaker, 20)
    for number in range(100):
        failed(failures, a_call_about(number), 6)
    fetch = protected(upstream, breaker, failures=failures)
    for number in range(1000):
        await result_or_error(fetch(a_call_about(number % 100)))
        await asyncio.sleep(0.01)
    assert upstream.began == pytest.approx([float(n) for n in range(1, 10)], abs=0.1)


async def test_probes_of_an_outage_are_one_a_second_however_many_keys_fail() -> None:
    breaker, upstream, failures = Breaker(), FakeUpstream(0, BROKEN), KeyFailures()
    fail(breaker, 20)
    fetch = protected(upstream, breaker, failures=failures)
    for number in range(1000):
        await result_or_error(fetch(a_call_about(number % 400)))
        await asyncio.sleep(0.01)
    assert upstream.began == pytest.approx([float(n) for n in range(1, 10)], abs=0.1)
