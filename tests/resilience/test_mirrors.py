import pytest

from app.errors import CircuitOpen
from app.resilience.mirrors import round_robin
from tests.fakes import a_call, now, result_or_error
from tests.resilience.races import (
    ABSENT,
    BROKEN,
    BUG,
    REFUSED,
    Mirror,
    an_open_circuit,
    attempts_of,
    result_leaving_nothing,
)

pytestmark = pytest.mark.anyio


async def test_round_robin_asks_each_mirror_in_its_turn() -> None:
    mirrors = [Mirror((0.0, None)) for _ in range(3)]
    fetch = round_robin(mirrors)
    calls = [a_call() for _ in range(6)]
    answers = [await fetch(call) for call in calls]
    assert answers == [mirrors[n % 3].answer for n in range(6)]
    assert [call.tally.mirror for call in calls] == [0, 1, 2, 0, 1, 2]


async def test_round_robin_sends_the_retry_of_a_call_to_the_next_mirror() -> None:
    fetch = round_robin([Mirror((0.0, REFUSED)) for _ in range(3)])
    call, order = a_call(), []
    for _ in range(4):
        assert await result_or_error(fetch(call)) is REFUSED
        order.append(call.tally.mirror)
        await result_or_error(fetch(a_call()))  # other calls do not change the order of this one
    assert order == [0, 1, 2, 0]


async def test_round_robin_passes_over_open_circuit_breakers() -> None:
    good, other = Mirror((0.0, None)), Mirror((0.0, None))
    fetch = round_robin([an_open_circuit(), an_open_circuit(), good, other])
    call = a_call()
    assert (await fetch(call), call.tally.mirror, now()) == (good.answer, 2, 0.0)
    assert other.began == []


@pytest.mark.parametrize("failure", [BROKEN, REFUSED, ABSENT, BUG])
async def test_round_robin_passes_over_nothing_but_open_circuit_breakers(
    failure: Exception,
) -> None:
    other = Mirror((0.0, None))
    assert await result_or_error(round_robin([Mirror((1.0, failure)), other])(a_call())) is failure
    assert other.began == []


async def test_round_robin_over_open_circuit_breakers_raises_the_soonest_retry_after() -> None:
    mirrors = [an_open_circuit(0.75), an_open_circuit(0.25), an_open_circuit(0.5)]
    refusal = await result_leaving_nothing(round_robin(mirrors)(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, now()) == (0.25, 0.0)
    assert attempts_of(*mirrors) == [[0.0]] * 3


async def test_round_robin_over_a_single_mirror_is_that_mirror() -> None:
    mirror = Mirror((0.0, None))
    assert round_robin([mirror]) is mirror
