import asyncio
import gc

import pytest

from app.call import Answer, Call, Fetch
from app.errors import CircuitOpen, NotFound, Overloaded, Timeout, Unreachable
from app.resilience.key_failures import KeyFailures
from app.resilience.layers.quarantine import quarantine
from app.tasks import BackgroundTasks
from tests.fakes import FakeUpstream, a_context, leaving_nothing, now, result_or_error
from tests.resilience.pipelines import a_call_about
from tests.resilience.states import failed

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


def quarantined(
    upstream: Fetch, failures: KeyFailures, background: BackgroundTasks | None = None
) -> Fetch:
    """A probe has three seconds."""
    return quarantine(failures, background or BackgroundTasks(), request_timeout=3.0)(upstream)


def counting(upstream: Fetch, failures: KeyFailures) -> Fetch:
    """`upstream` with a circuit breaker's counts, but without its circuit."""

    async def counted(call: Call) -> Answer:
        try:
            answer = await upstream(call)
        except Unreachable:
            failures.on_failure(call.key, now())
            raise
        failures.on_success(call.key, now())
        return answer

    return counted


async def test_quarantine_passes_on_the_calls_of_keys_that_do_not_only_fail() -> None:
    call, upstream = a_call_about(0), FakeUpstream(0, BROKEN)
    fetch = quarantined(upstream, failed(KeyFailures(), call, 5))
    async with leaving_nothing():
        for _ in range(5):
            assert await result_or_error(fetch(call)) is BROKEN
    assert upstream.began == [0.0] * 5


async def test_quarantine_refuses_a_key_at_once_with_the_time_until_it_is_probed() -> None:
    call, upstream = a_call_about(0), FakeUpstream()
    fetch = quarantined(upstream, failed(KeyFailures(), call, 6))
    await asyncio.sleep(0.75)
    refusal = await result_or_error(fetch(a_call_about(0)))
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, now(), upstream.began) == (0.25, 0.75, [])
    assert isinstance(await fetch(a_call_about(1)), Answer)


async def test_quarantine_asks_for_a_key_that_only_fails_once_a_second() -> None:
    failures, upstream = KeyFailures(), FakeUpstream(0, BROKEN)
    fetch = quarantined(counting(upstream, failures), failures)
    results = []
    for _ in range(1000):
        results.append(await result_or_error(fetch(a_call_about(0))))
        await asyncio.sleep(0.01)
    assert upstream.began == pytest.approx([*(n / 100 for n in range(6)), *range(1, 10)], abs=0.15)
    assert len([one for one in results if isinstance(one, CircuitOpen)]) == 1000 - 15


async def test_quarantine_ends_with_the_first_good_answer() -> None:
    call, upstream = a_call_about(0), FakeUpstream(0.5)
    failures = failed(KeyFailures(), call, 9)
    fetch = quarantined(counting(upstream, failures), failures)
    await asyncio.sleep(1)
    async with leaving_nothing():
        assert isinstance(await fetch(a_call_about(0)), Answer)
        assert isinstance(await fetch(a_call_about(0)), Answer)
    assert upstream.began == [1.0, 1.5]


async def test_quarantine_probe_has_its_own_time_and_fan_out_and_the_tally_of_its_call() -> None:
    probes: list[Call] = []

    async def upstream(call: Call) -> Answer:
        probes.append(call)
        call.tally.attempts += 1
        return await FakeUpstream()(call)

    context = a_context(1.5, fan_out=1)
    await context.fan_out.acquire()
    call = Call(a_call_about(0).question, context)
    await asyncio.sleep(1)
    await quarantined(upstream, failed(KeyFailures(), call, 6))(call)
    (probe,) = probes
    assert (probe.context.deadline, probe.context.fan_out.locked()) == (4.0, False)
    assert (probe.key, call.tally.attempts) == (call.key, 1)


@pytest.mark.parametrize("leaves", ["hangs up", "is late"])
async def test_quarantine_probe_goes_on_when_its_client_leaves(leaves: str) -> None:
    call, upstream = a_call_about(0, 1.1 if leaves == "is late" else 10.0), FakeUpstream(0.5)
    failures = failed(KeyFailures(), call, 6)
    fetch = quarantined(counting(upstream, failures), failures)
    await asyncio.sleep(1)
    async with leaving_nothing():
        task = asyncio.ensure_future(fetch(call))
        await asyncio.wait([task], timeout=0.2)
        task.cancel()
        result = await result_or_error(task)
        assert isinstance(result, Timeout if leaves == "is late" else asyncio.CancelledError)
        assert now() == pytest.approx(1.1 if leaves == "is late" else 1.2)
        assert isinstance(await result_or_error(fetch(a_call_about(0))), CircuitOpen)
        await asyncio.sleep(0.4)
    assert (upstream.cancelled, failures.is_quarantined(call.key)) == (0, False)


@pytest.mark.parametrize(
    ("failure", "asked_again"),
    [
        (CircuitOpen("resting"), True),  # nobody was asked
        (BROKEN, False),
        (NotFound("gone"), False),
        (Overloaded("full"), False),
    ],
)
async def test_quarantine_probe_that_found_an_open_circuit_breaker_frees_the_slot(
    failure: Exception, asked_again: bool
) -> None:
    call, upstream = a_call_about(0), FakeUpstream(0, failure)
    fetch = quarantined(upstream, failed(KeyFailures(), call, 6))
    await asyncio.sleep(1)
    for _ in range(2):
        result = await result_or_error(fetch(a_call_about(0)))
    assert (result is failure) is asked_again
    assert len(upstream.began) == 1 + asked_again


async def test_quarantine_probe_with_a_bug_raises_it_or_hands_it_to_the_exception_handler() -> None:
    bug, call = ZeroDivisionError(), a_call_about(0, 10.0)
    fetch = quarantined(FakeUpstream(0.5, bug), failed(KeyFailures(), call, 6))
    unhandled: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context.get("exception")))
    await asyncio.sleep(1)
    assert await result_or_error(fetch(call)) is bug
    await asyncio.sleep(1)
    await result_or_error(fetch(a_call_about(0, now() + 0.1)))
    await asyncio.sleep(1)
    gc.collect()
    assert unhandled == [bug]


async def test_quarantine_probe_that_is_forgotten_meanwhile_frees_nothing() -> None:
    call, upstream = a_call_about(0, 60.0), FakeUpstream(0.5, CircuitOpen("resting"))
    failures = failed(KeyFailures(), call, 6)
    fetch = quarantined(upstream, failures)
    await asyncio.sleep(10)
    probe = asyncio.ensure_future(result_or_error(fetch(call)))
    await asyncio.sleep(0.1)
    failures.on_success(call.key, now())
    assert len(failures) == 0
    assert isinstance(await probe, CircuitOpen)
