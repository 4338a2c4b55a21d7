"""Servers in threads, by blocking calls: whatever the loop under test does, they see it."""

import asyncio
import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

PEM = Path(__file__).parent / "pem"
AUTHORITY = PEM / "ca.pem"

NOISE = 0.25
"""Seconds added to every bound: two busy cores of a CI machine may stop a process so long."""

Serve = Callable[["Peer"], object]


class _Socket(ssl.SSLSocket):
    """Python leaves it open when its client is gone before the handshake."""

    def __del__(self) -> None:
        self.close()


def server_context(certificate: str = "server", *, asks_client: bool = False) -> ssl.SSLContext:
    """It has that certificate, and may ask clients for theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _Socket
    context.load_cert_chain(PEM / f"{certificate}.pem")
    if asks_client:
        context.load_verify_locations(PEM / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context() -> ssl.SSLContext:
    """It trusts the authority of the tests alone."""
    return ssl.create_default_context(cafile=AUTHORITY)


class Peer:
    """One connection as the server sees it."""

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self._server = server
        self.sock = sock
        self.number = 0

    def read_head(self) -> bytes:
        """The next request; nothing if the client has closed."""
        received = b""
        while b"\r\n\r\n" not in received:
            data = self.sock.recv(65_536)
            if not data:
                return b""
            received += data
        self._server.requests.append(received)
        return received

    def wait_for_end(self) -> None:
        """Read on, and take down when the client has closed."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65_536):
                pass
        self._server.ended.put(perf_counter())


class Server:
    """Use inside `with`. Each connection is served by `serve`, in a thread, and closed after it."""

    def __init__(
        self,
        serve: Serve,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.requests: list[bytes] = []
        self.ended: queue.Queue[float] = queue.Queue()
        """When clients closed, by `perf_counter`."""
        self._socks: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.refuse()
        self._threads[0].join()
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not that of TLS
        for thread in self._threads:
            thread.join()

    def refuse(self) -> None:
        """Accept no connections any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is shut down
            while True:
                sock, _ = self._listener.accept()
                self._socks.add(sock)
                self.connections += 1
                thread = threading.Thread(target=self._run, args=(sock, self.connections))
                self._threads.append(thread)
                thread.start()

    def _run(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            if self._tls is not None:
                plain = sock
                sock = self._tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
                self._socks.discard(plain)
                self._socks.add(sock)
            peer = Peer(self, sock)
            peer.number = number
            self._serve(peer)
        self._socks.discard(sock)
        sock.close()


def hang(peer: Peer) -> None:
    """Read, and never answer."""
    peer.wait_for_end()


def answering(*responses: bytes) -> Serve:
    """Answer the requests of one connection with these, and close it."""

    def serve(peer: Peer) -> None:
        for response in responses:
            if not peer.read_head():
                return
            peer.sock.sendall(response)

    return serve


@contextmanager
def silent_address(host: str, port: int = 0) -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: its listener's queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), backlog=0))
        address: tuple[str, int] = listener.getsockname()
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(address)
        yield address


async def sockets_become(count: int) -> None:
    """Wait until so many are open: both sides need a moment to close theirs."""
    async with asyncio.timeout(0.1 + NOISE):
        while open_sockets() != count:  # noqa: ASYNC110 - the system does not tell
            await asyncio.sleep(0.001)


def open_sockets() -> int:
    """Of this process, those of the servers included."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count
