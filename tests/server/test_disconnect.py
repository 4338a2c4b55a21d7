"""A client that disconnects, by the ASGI messages that a server would give."""

import asyncio
from collections.abc import Awaitable

import httpx
import pytest
from starlette.types import Message

from app.server.disconnect import CancelOnDisconnect, ClientDisconnected
from tests.fakes import now, result_or_error
from tests.in_process import PATH, SECTIONS, a_scope, healthy_upstream, log_lines, running_service

pytestmark = pytest.mark.anyio


class Client:
    """Sends its request and disconnects after `seconds`; `receivers` counts who waits for that."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._request_sent = False
        self.receivers = 0

    async def receive(self) -> Message:
        if not self._request_sent:
            self._request_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        self.receivers += 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.receivers -= 1
        return {"type": "http.disconnect"}


async def work_for(client: Client, work: Awaitable[object]) -> None:
    async with CancelOnDisconnect(client.receive):
        await work


async def test_work_that_completes_before_a_disconnect_is_not_cancelled() -> None:
    client = Client(60)
    await work_for(client, asyncio.sleep(1))
    assert (now(), client.receivers) == (1.0, 0)


async def test_work_is_cancelled_when_the_client_disconnects() -> None:
    with pytest.raises(ClientDisconnected):
        await work_for(Client(1), asyncio.sleep(60))
    assert now() == 1.0


async def test_the_task_can_go_on_after_a_disconnect() -> None:
    with pytest.raises(ClientDisconnected):
        await work_for(Client(1), asyncio.sleep(60))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)
    assert now() == 2.0


@pytest.mark.parametrize("seconds", [1.0, 60.0])
async def test_a_cancellation_from_elsewhere_goes_before_a_disconnect(seconds: float) -> None:
    client = Client(seconds)
    task = asyncio.ensure_future(work_for(client, asyncio.sleep(60)))
    await asyncio.sleep(1)
    task.cancel()
    await result_or_error(task)
    assert task.cancelled()
    assert client.receivers == 0


async def test_a_timeout_around_cancel_on_disconnect_still_holds() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await work_for(Client(60), asyncio.sleep(60))
    assert now() == 2.0


async def test_a_bug_is_not_hidden_by_a_disconnect() -> None:
    async def raising_when_cancelled() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ZeroDivisionError

    assert isinstance(
        await result_or_error(work_for(Client(1), raising_when_cancelled())), ZeroDivisionError
    )


async def test_a_disconnect_cancels_the_upstream_requests_and_is_logged_as_499(
    capsys: pytest.CaptureFixture[str],
) -> None:
    router, in_flight = healthy_upstream(), 0

    async def hang(_: httpx.Request) -> httpx.Response:
        nonlocal in_flight
        in_flight += 1
        try:
            await asyncio.sleep(60)
        finally:
            in_flight -= 1
        raise AssertionError

    for name in SECTIONS:
        router[name].mock(side_effect=hang)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with running_service(router) as service:
        await service.app(a_scope(PATH), Client(0.5).receive, send)
        assert now() == 0.5
        assert all(
            upstream.bulkhead.in_flight == 0 for upstream in service.state.upstreams.values()
        )
    assert (sent, in_flight) == ([], 0)
    (line,) = log_lines(capsys)
    assert (line["event"], line["status"], line["path"]) == ("request", 499, PATH)
