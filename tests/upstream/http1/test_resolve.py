"""Names, looked up by a fake `getaddrinfo` that blocks as long as the test wants."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.upstream.http1.resolve import Resolver

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": True}


class NameServer:
    """Answers names with the addresses in `records`, unless a name is held back."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.held: dict[str, threading.Event] = {}

    def getaddrinfo(self, host: bytes, port: None, type: int, flags: int) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return socket.getaddrinfo(host, port, type=type, flags=flags)
        name = host.decode()
        self.asked.append(name)
        if name in self.held:
            self.held[name].wait(10)
        if name not in self.records:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, type, 0, "", (address, port or 0)) for address in self.records[name]
        ]

    def hold(self, name: str) -> threading.Event:
        self.held[name] = threading.Event()
        return self.held[name]


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    for event in server.held.values():
        event.set()


async def test_each_lookup_asks_anew_so_that_a_new_answer_counts_at_once(
    name_server: NameServer,
) -> None:
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    for address in ("10.0.0.1", "10.0.0.2"):
        name_server.records["a.test"] = [address]
        assert await resolver.resolve("a.test", 80) == [(socket.AF_INET, (address, 80))]


async def test_an_address_that_is_answered_twice_is_tried_once(name_server: NameServer) -> None:
    name_server.records["a.test"] = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    addresses = await resolver.resolve("a.test", 80)
    assert [where[0] for _, where in addresses] == ["10.0.0.1", "10.0.0.2"]


async def test_a_name_is_looked_up_once_at_a_time_for_all_who_ask(name_server: NameServer) -> None:
    name_server.records["a.test"] = ["10.0.0.1"]
    answer = name_server.hold("a.test")
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    asking = [asyncio.create_task(resolver.resolve("a.test", 8000 + n)) for n in range(10)]
    await asyncio.sleep(0.01)
    answer.set()
    assert await asyncio.gather(*asking) == [
        [(socket.AF_INET, ("10.0.0.1", 8000 + n))] for n in range(10)
    ]
    assert name_server.asked == ["a.test"]


async def test_lookups_that_hang_do_not_hold_up_other_names(name_server: NameServer) -> None:
    """However many they are: uvloop would look up two names at the same time."""
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    for n in range(20):
        name_server.hold(f"{n}.test")
    hanging = [asyncio.create_task(resolver.resolve(f"{n}.test", 80)) for n in range(20)]
    await asyncio.sleep(0.01)
    name_server.records["good.test"] = ["10.0.0.1"]
    async with asyncio.timeout(1.0):
        assert await resolver.resolve("good.test", 80)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_lookup_that_fails_fails_for_all_who_ask_and_the_next_asks_anew(
    name_server: NameServer,
) -> None:
    answer = name_server.hold("a.test")
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    asking = [asyncio.create_task(resolver.resolve("a.test", 80)) for _ in range(3)]
    await asyncio.sleep(0.01)
    answer.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(result, socket.gaierror) for result in results)
    name_server.records["a.test"] = ["10.0.0.1"]
    assert await resolver.resolve("a.test", 80)


@pytest.mark.parametrize("known", [True, False])
async def test_a_lookup_that_nobody_waits_for_any_more_leaves_no_task_and_no_error(
    known: bool, name_server: NameServer
) -> None:
    loop = asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    if known:
        name_server.records["a.test"] = ["10.0.0.1"]
    answer = name_server.hold("a.test")
    resolver = Resolver(loop, name_server.getaddrinfo)
    tasks = asyncio.all_tasks()
    asking = asyncio.create_task(resolver.resolve("a.test", 80))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    assert asyncio.all_tasks() == tasks
    answer.set()
    while resolver._lookups:  # noqa: ASYNC110 - until the thread has told
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert errors == []


def test_a_loop_may_end_while_a_lookup_hangs(name_server: NameServer) -> None:
    answer = name_server.hold("a.test")

    async def leave() -> None:
        resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resolver.resolve("a.test", 80), 0.01)

    asyncio.run(leave())
    threads = threading.enumerate()
    answer.set()
    for thread in threads:
        if thread.daemon:
            thread.join(5)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_ip_address_needs_no_lookup(host: str, name_server: NameServer) -> None:
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    (_, where), *others = await resolver.resolve(host, 80)
    assert (where[:2], others) == ((host, 80), [])
    assert name_server.asked == []


async def test_a_name_that_cannot_be_one_is_an_os_error() -> None:
    """Python's own encoding of names would raise a `UnicodeError`."""
    resolver = Resolver(asyncio.get_running_loop())
    with pytest.raises(OSError):  # noqa: PT011 - the text is the system's
        await resolver.resolve("a" * 64 + ".test", 80)


async def test_a_thread_that_cannot_be_started_is_an_os_error(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    name_server.records["a.test"] = ["10.0.0.1"]
    resolver = Resolver(asyncio.get_running_loop(), name_server.getaddrinfo)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(OSError, match="no thread"):
            await resolver.resolve("a.test", 80)
    assert await resolver.resolve("a.test", 80)
