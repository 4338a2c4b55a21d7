"""The pool by a virtual clock, over connections without sockets."""

import asyncio
import contextlib
import random
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.http1.connect import Origin
from app.upstream.http1.connection import Connection
from app.upstream.http1.pool import Pool
from tests.clock import VirtualLoop
from tests.upstream.http1.wire import Wire, run

pytestmark = pytest.mark.anyio

A = Origin("http", "a.test", 80)
B = Origin("http", "b.test", 80)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Upstreams:
    """Opens connections, each after `delay` seconds, unless `failure` is set."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.failure: Exception | None = None
        self.wires: dict[Connection, Wire] = {}
        self.opening = 0
        self.most_open = 0

    async def open(self, _origin: Origin) -> Connection:
        self.opening += 1
        self._count()
        try:
            await asyncio.sleep(self.delay)
            if self.failure is not None:
                raise self.failure
            wire = Wire(asyncio.get_running_loop())
            self.wires[wire.connection] = wire
            return wire.connection
        finally:
            self.opening -= 1
            self._count()

    @property
    def open_now(self) -> int:
        return sum(not wire.transport.aborted for wire in self.wires.values())

    def _count(self) -> None:
        self.most_open = max(self.most_open, self.open_now + self.opening)

    def answer(self, connection: Connection, response: bytes = OK) -> None:
        """One exchange on it."""
        assert run(self.wires[connection], [response], eof=False)[0].body == b"ok"

    def end(self, connection: Connection) -> None:
        """The server closes it."""
        self.wires[connection].receive_eof()


def pool_of(upstreams: Upstreams, limit: int = 10) -> Pool:
    return Pool(limit, upstreams.open, uniform=lambda _, most: most)


async def an_idle_one(pool: Pool, upstreams: Upstreams, origin: Origin = A) -> Connection:
    connection = await pool.acquire(origin, None)
    upstreams.answer(connection)
    pool.release(origin, connection)
    return connection


async def idle_ones(pool: Pool, upstreams: Upstreams, count: int) -> list[Connection]:
    connections = [await pool.acquire(A, None) for _ in range(count)]
    for connection in connections:
        upstreams.answer(connection)
        pool.release(A, connection)
    return connections


# Reuse


async def test_the_connection_that_was_used_last_is_reused_first() -> None:
    pool = pool_of(upstreams := Upstreams())
    first, second = await idle_ones(pool, upstreams, 2)
    assert await pool.acquire(A, None) is second
    assert await pool.acquire(A, None) is first
    assert await pool.acquire(A, None) not in (first, second)


async def test_a_connection_is_reused_for_its_own_origin_only() -> None:
    pool = pool_of(upstreams := Upstreams())
    kept = await an_idle_one(pool, upstreams)
    for other in (
        *(B, Origin("https", "a.test", 80), Origin("http", "a.test", 8080)),
        Origin("http", "a.test", 80, ssl.create_default_context),
    ):
        assert await pool.acquire(other, None) is not kept
    assert await pool.acquire(A, None) is kept


async def test_a_connection_is_not_reused_unless_its_response_is_complete() -> None:
    pool = pool_of(upstreams := Upstreams())
    connection = await pool.acquire(A, None)
    run(upstreams.wires[connection], [OK[:-1]], eof=False)
    pool.release(A, connection)
    assert upstreams.open_now == 0
    assert await pool.acquire(A, None) is not connection


@pytest.mark.parametrize("event", ["EOF", "bytes"])
async def test_an_idle_connection_that_ends_or_speaks_is_closed_at_once(event: str) -> None:
    pool = pool_of(upstreams := Upstreams())
    connection = await an_idle_one(pool, upstreams)
    wire = upstreams.wires[connection]
    if event == "EOF":
        wire.connection.eof_received()
    else:
        wire.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.transport.aborted
    assert await pool.acquire(A, None) is not connection


async def test_an_idle_connection_is_closed_after_four_seconds() -> None:
    pool = pool_of(upstreams := Upstreams())
    connections = [await pool.acquire(A, None) for _ in range(3)]
    for connection in connections:
        upstreams.answer(connection)
        pool.release(A, connection)
        await asyncio.sleep(1.0)
    # It is three seconds after the first release.
    for seconds, still_open in ((0.9, 3), (0.2, 2), (0.8, 2), (0.2, 1), (0.8, 1), (0.2, 0)):
        await asyncio.sleep(seconds)
        assert upstreams.open_now == still_open
    loop = asyncio.get_running_loop()
    assert not loop._scheduled  # type: ignore[attr-defined]  # no timer is left


async def test_an_idle_connection_is_not_reused_at_four_seconds_even_before_it_is_closed() -> None:
    pool = pool_of(upstreams := Upstreams())
    connection = await an_idle_one(pool, upstreams)
    await asyncio.sleep(4.0)
    assert await pool.acquire(A, None) is not connection


async def test_a_connection_in_steady_use_is_renewed_after_its_greatest_age() -> None:
    pool = pool_of(upstreams := Upstreams())
    began = asyncio.get_running_loop().time()
    ages: dict[Connection, float] = {}
    while asyncio.get_running_loop().time() - began < 35.0:
        connection = await an_idle_one(pool, upstreams)
        ages[connection] = ages.get(connection, 0.0) + 0.5
        await asyncio.sleep(0.5)
    assert list(ages.values()) == [10.0, 10.0, 10.0, 5.0]
    assert upstreams.open_now == 1


async def test_the_greatest_age_differs_so_that_not_all_are_renewed_at_once() -> None:
    upstreams = Upstreams()
    pool = Pool(10, upstreams.open)
    connections = [await pool.acquire(A, None) for _ in range(10)]
    expiries = {connection.expires for connection in connections}
    assert len(expiries) == 10
    assert all(8.0 <= expires <= 10.0 for expires in expiries)


# The bound


async def test_the_bound_holds_for_all_origins_together() -> None:
    pool = pool_of(upstreams := Upstreams(), limit=2)
    first, second = await pool.acquire(A, None), await pool.acquire(B, None)
    third = asyncio.create_task(pool.acquire(A, None))
    await asyncio.sleep(1.0)
    assert not third.done()
    upstreams.answer(second)
    pool.release(B, second)
    assert await third not in (first, second)
    assert upstreams.open_now == 2


async def test_an_idle_connection_of_another_origin_makes_room_the_longest_idle_first() -> None:
    pool = pool_of(upstreams := Upstreams(), limit=3)
    oldest, older, newest = await idle_ones(pool, upstreams, 3)
    await pool.acquire(B, None)
    assert [upstreams.wires[one].transport.aborted for one in (oldest, older, newest)] == [
        *(True, False, False)
    ]
    assert await pool.acquire(A, None) is newest


async def test_waiters_come_first_served_even_before_who_arrives_at_the_release() -> None:
    pool = pool_of(upstreams := Upstreams(), limit=1)
    connection = await pool.acquire(A, None)
    served: list[int] = []

    async def use(n: int, origin: Origin) -> None:
        mine = await pool.acquire(origin, None)
        served.append(n)
        upstreams.answer(mine)
        await asyncio.sleep(0.1)
        pool.release(origin, mine)
        if n < 2:
            late.append(asyncio.create_task(use(n + 10, A)))

    late: list[asyncio.Task[None]] = []
    waiters = [asyncio.create_task(use(n, (A, A, B, A)[n])) for n in range(4)]
    await asyncio.sleep(0)
    upstreams.answer(connection)
    pool.release(A, connection)
    late.append(asyncio.create_task(use(20, A)))
    await asyncio.gather(*waiters)
    await asyncio.gather(*late)
    assert served == [0, 1, 2, 3, 20, 10, 11]
    assert upstreams.most_open == 1


async def test_a_waiter_is_given_the_connection_that_is_released() -> None:
    pool = pool_of(upstreams := Upstreams(), limit=1)
    connection = await pool.acquire(A, None)
    waiter = asyncio.create_task(pool.acquire(A, None))
    await asyncio.sleep(0)
    upstreams.answer(connection)
    pool.release(A, connection)
    assert await waiter is connection


@pytest.mark.parametrize("how", ["release", "release of another origin", "discard"])
@pytest.mark.parametrize("granted_first", [True, False])
async def test_a_waiter_that_is_cancelled_in_the_moment_of_its_turn_loses_no_room(
    how: str, granted_first: bool
) -> None:
    pool = pool_of(upstreams := Upstreams(), limit=1)
    connection = await pool.acquire(A, None)
    origin = B if how == "release of another origin" else A
    leaving, staying = (asyncio.create_task(pool.acquire(origin, None)) for _ in range(2))
    await asyncio.sleep(0)
    upstreams.answer(connection)
    if not granted_first:
        leaving.cancel()
    (pool.discard(connection) if how == "discard" else pool.release(A, connection))
    leaving.cancel()
    async with asyncio.timeout(1.0):
        got = await staying
    assert (got is connection) is (how == "release")
    assert leaving.cancelled()


@pytest.mark.parametrize("failure", [OSError(111, "refused"), None])
async def test_a_connection_that_cannot_be_opened_takes_no_room(failure: Exception | None) -> None:
    pool = pool_of(upstreams := Upstreams(delay=5.0), limit=1)
    upstreams.failure = failure
    for _ in range(3):
        with pytest.raises(OSError, match="refused") if failure else pytest.raises(TimeoutError):
            await pool.acquire(A, None if failure else 1.0)
    upstreams.failure = None
    assert await pool.acquire(A, None)


async def test_a_request_that_is_cancelled_while_it_connects_takes_no_room() -> None:
    pool = pool_of(upstreams := Upstreams(delay=5.0), limit=1)
    first = asyncio.create_task(pool.acquire(A, None))
    second = asyncio.create_task(pool.acquire(A, None))
    await asyncio.sleep(1.0)
    first.cancel()
    await asyncio.sleep(4.9)
    assert not second.done()
    assert await second
    assert upstreams.most_open == 1


async def test_a_stale_connection_is_replaced_in_its_own_place_before_all_who_wait() -> None:
    pool = pool_of(upstreams := Upstreams(), limit=1)
    stale = await pool.acquire(A, None)
    waiter = asyncio.create_task(pool.acquire(A, None))
    await asyncio.sleep(0)
    upstreams.end(stale)
    fresh = await pool.replace(stale, A, None)
    assert fresh is not stale
    assert not waiter.done()
    pool.discard(stale)  # as who gives up both does
    assert not waiter.done()
    pool.discard(fresh)
    assert await waiter not in (stale, fresh)
    assert upstreams.most_open == 1


async def test_discarding_twice_makes_room_once() -> None:
    pool = pool_of(upstreams := Upstreams(), limit=1)
    connection = await pool.acquire(A, None)
    pool.discard(connection)
    pool.discard(connection)
    await pool.acquire(A, None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.acquire(A, None), 1.0)
    assert upstreams.most_open == 1


# The end


async def test_closing_ends_idle_and_busy_connections_and_gives_no_more() -> None:
    pool = pool_of(upstreams := Upstreams())
    busy, _ = await pool.acquire(A, None), await an_idle_one(pool, upstreams)
    pool.close()
    assert upstreams.open_now == 0
    pool.discard(busy)
    with pytest.raises(RuntimeError, match="closed"):
        await pool.acquire(A, None)


async def test_closing_ends_who_waits_and_who_connects() -> None:
    pool = pool_of(upstreams := Upstreams(delay=1.0), limit=1)
    connecting = asyncio.create_task(pool.acquire(A, None))
    waiting = asyncio.create_task(pool.acquire(A, None))
    await asyncio.sleep(0.5)
    pool.close()
    results = await asyncio.gather(connecting, waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["the pool is closed"] * 2
    assert upstreams.open_now == 0


# Everything at once


@given(seed=st.integers(0, 2**32), limit=st.integers(1, 4))
def test_whatever_is_cancelled_fails_or_ends_the_bound_holds_and_no_room_is_lost(
    seed: int, limit: int
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_everything_at_once(random.Random(seed), limit))


async def _everything_at_once(chance: random.Random, limit: int) -> None:
    pool = pool_of(upstreams := Upstreams(), limit)

    async def use() -> None:
        origin = chance.choice([A, B])
        connection = await pool.acquire(origin, chance.choice([None, 0.2]))
        try:
            await asyncio.sleep(chance.choice([0.0, 0.1, 1.0]))
            if chance.random() < 0.2:
                upstreams.end(connection)
                connection = await pool.replace(connection, origin, chance.choice([None, 0.2]))
            if connection.reusable:
                upstreams.answer(connection)
        except BaseException:
            pool.discard(connection)
            raise
        if chance.random() < 0.5:
            pool.release(origin, connection)
        else:
            pool.discard(connection)

    async def user() -> None:
        with contextlib.suppress(OSError):
            await use()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(40):
        upstreams.delay = chance.choice([0.0, 0.1, 0.3])
        upstreams.failure = chance.choice([None, None, OSError(111, "refused")])
        tasks.append(asyncio.create_task(user()))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.1, 1.0]))
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert upstreams.most_open <= limit
    upstreams.failure = None
    async with asyncio.timeout(10.0):
        connections = await asyncio.gather(*(pool.acquire(A, None) for _ in range(limit)))
    assert len(set(connections)) == limit
    assert upstreams.most_open <= limit
    pool.close()
    assert upstreams.open_now == 0
