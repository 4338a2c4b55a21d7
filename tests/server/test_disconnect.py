"""A client that leaves, without a socket: the messages that a server would give."""

import asyncio
from collections.abc import Awaitable

import httpx
import pytest
from starlette.types import Message

from app.server.disconnect import CancelOnDisconnect, ClientDisconnected
from tests.fakes import now, result_or_error
from tests.in_process import PATH, a_scope, healthy, logged, running_service

pytestmark = pytest.mark.anyio


class Client:
    """Sends its request and leaves after `seconds`; it knows whether somebody still listens."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked = False
        self.heard = 0

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        self.heard += 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.heard -= 1
        return {"type": "http.disconnect"}


async def work(client: Client, doing: Awaitable[object]) -> None:
    async with CancelOnDisconnect(client.receive):
        await doing


async def test_work_that_is_done_in_time_is_left_alone() -> None:
    client = Client(60)
    await work(client, asyncio.sleep(1))
    assert (now(), client.heard) == (1.0, 0)


async def test_work_ends_when_the_client_leaves() -> None:
    with pytest.raises(ClientDisconnected):
        await work(Client(1), asyncio.sleep(60))
    assert now() == 1.0


async def test_who_worked_for_it_can_go_on_with_something_else() -> None:
    with pytest.raises(ClientDisconnected):
        await work(Client(1), asyncio.sleep(60))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)
    assert now() == 2.0


@pytest.mark.parametrize("leaves", [1.0, 60.0])
async def test_a_cancellation_from_elsewhere_stays_one(leaves: float) -> None:
    client = Client(leaves)
    task = asyncio.ensure_future(work(client, asyncio.sleep(60)))
    await asyncio.sleep(1)
    task.cancel()
    await result_or_error(task)
    assert task.cancelled()
    assert client.heard == 0


async def test_a_time_limit_around_it_still_holds() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await work(Client(60), asyncio.sleep(60))
    assert now() == 2.0


async def test_a_bug_is_not_hidden_by_the_clients_leaving() -> None:
    async def clumsy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ZeroDivisionError

    assert isinstance(await result_or_error(work(Client(1), clumsy())), ZeroDivisionError)


async def test_a_client_that_left_gets_nothing_and_one_line_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream, in_flight = healthy(), 0

    async def slow(_: httpx.Request) -> httpx.Response:
        nonlocal in_flight
        in_flight += 1
        try:
            await asyncio.sleep(60)
        finally:
            in_flight -= 1
        raise AssertionError

    for name in ("user", "posts", "todos"):
        upstream[name].mock(side_effect=slow)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with running_service(upstream) as service:
        await service.app(a_scope(PATH), Client(0.5).receive, send)
        assert now() == 0.5
        assert all(one.bulkhead.in_flight == 0 for one in service.service.upstreams.values())
    assert (sent, in_flight) == ([], 0)
    (line,) = logged(capsys.readouterr().out)
    assert (line["event"], line["status"], line["path"]) == ("request", 499, PATH)
