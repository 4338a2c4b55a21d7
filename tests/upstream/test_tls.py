"""TLS over real sockets: what is wrong with it is told apart, and files are an upstream's own."""

import re
import shutil
import ssl
from pathlib import Path

import pytest

from app.call import Answer, Call
from app.errors import Failure, Unreachable
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.upstream.client import Client
from app.upstream.exchange import exchange
from app.upstream.transport import Http1Transport
from tests.fakes import a_context
from tests.upstream.http1.sockets import PEM, Peer, Serve, Server, hang, server_context

pytestmark = pytest.mark.anyio

TRUSTING = UpstreamSettings(ca_file=PEM / "ca.pem")
ADA, BOB = (
    UpstreamSettings(ca_file=PEM / "ca.pem", cert_file=PEM / f"{name}.pem")
    for name in ("ada", "bob")
)


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


def tell_client(peer: Peer) -> None:
    """Answer each request with the name in the client's certificate, as a post's title."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    certificate = peer.sock.getpeercert() or {}
    name = re.search(r"'commonName', '(\w+)'", str(certificate.get("subject")))
    body = b'[{"userId":1,"id":1,"title":"%b","body":"b"}]' % (name[1] if name else "-").encode()
    while peer.read_head():
        peer.sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def ask(
    server: Server, *upstreams: UpstreamSettings, host: str = "localhost", rounds: int = 1
) -> list[str | Failure]:
    """The client's name as the server knows it, or the failure, of each upstream in each round."""
    told: list[str | Failure] = []
    async with Http1Transport(10) as transport, Client(transport) as client:
        url = f"https://{host}:{server.port}"
        sends = [exchange(client, url, one, lambda _: None, mirror=0) for one in upstreams]
        for send in sends * rounds:
            try:
                answer = (await send(Call(posts_by(1), a_context()))).decode()
            except Failure as failure:
                told.append(failure)
            else:
                told.append(title_of(answer))
    return told


def title_of(answer: Answer) -> str:
    found = re.search(rb'"title":"(.+?)"', answer.data.json)
    assert found
    return found[1].decode()


def no_tls(peer: Peer) -> None:
    peer.sock.recv(65_536)
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


CAUSES: dict[str, tuple[Serve, ssl.SSLContext | None, UpstreamSettings, str]] = {
    "expired": (hang, server_context("expired"), TRUSTING, "TLS: the certificate has expired"),
    "another name": (
        *(hang, server_context("elsewhere"), TRUSTING),
        "TLS: the certificate is for another name",
    ),
    "an unknown authority": (
        *(hang, server_context(), UpstreamSettings()),
        "TLS: the certificate is by an unknown authority",
    ),
    "not TLS": (no_tls, None, TRUSTING, "TLS: the handshake failed: WRONG_VERSION_NUMBER"),
}


@pytest.mark.parametrize("case", CAUSES)
async def test_the_cause_of_a_tls_failure_is_told_in_the_log(case: str) -> None:
    serve, tls, settings, cause = CAUSES[case]
    with Server(serve, tls=tls) as server:
        (failure,) = await ask(server, settings)
    assert isinstance(failure, Unreachable)
    assert failure.cause == f"ConnectError: {cause}"
    assert "localhost" not in f"{failure.cause} {failure.detail}"
    assert "TLS" not in failure.detail


async def test_an_address_that_is_not_in_the_certificate_is_another_name() -> None:
    with Server(hang, tls=server_context("elsewhere")) as server:
        (failure,) = await ask(server, TRUSTING, host="127.0.0.1")
    assert isinstance(failure, Unreachable)
    assert failure.cause == "ConnectError: TLS: the certificate is for another name"


async def test_a_server_that_misses_our_certificate_is_a_failed_handshake() -> None:
    tls = server_context(asks_client=True)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones say so after the handshake
    with Server(tell_client, tls=tls) as server:
        (failure,) = await ask(server, TRUSTING)
    assert isinstance(failure, Unreachable)
    assert (failure.cause or "").startswith("ConnectError: TLS: the handshake failed: ")


async def test_the_authorities_of_ca_file_are_trusted() -> None:
    with Server(tell_client, tls=server_context()) as server:
        assert await ask(server, TRUSTING) == ["-"]


async def test_two_upstreams_at_one_address_share_no_connection_if_their_files_differ() -> None:
    with Server(tell_client, tls=server_context(asks_client=True)) as server:
        assert await ask(server, ADA, BOB, rounds=3) == ["ada", "bob"] * 3
        assert server.connections == 2


async def test_a_certificate_and_its_key_may_be_two_files(tmp_path: Path) -> None:
    certificate, _, key = (PEM / "ada.pem").read_text().partition("-----BEGIN PRIVATE")
    (tmp_path / "cert.pem").write_text(certificate)
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE" + key)
    settings = UpstreamSettings(
        ca_file=PEM / "ca.pem", cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem"
    )
    with Server(tell_client, tls=server_context(asks_client=True)) as server:
        assert await ask(server, settings) == ["ada"]


async def test_a_file_that_changes_is_read_again_and_one_that_breaks_is_told_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def once(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        name = re.search(r"'commonName', '(\w+)'", str(peer.sock.getpeercert()))
        assert name
        names.append(name[1])
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 404 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    names: list[str] = []
    file = tmp_path / "client.pem"
    shutil.copy(PEM / "ada.pem", file)
    settings = UpstreamSettings(ca_file=PEM / "ca.pem", cert_file=file)
    with Server(once, tls=server_context(asks_client=True)) as server:
        async with Http1Transport(1) as transport, Client(transport) as client:
            url = f"https://localhost:{server.port}"
            send = exchange(client, url, settings, lambda _: None, mirror=0)
            for change in (None, PEM / "bob.pem", PEM / "ca.pem", None, PEM / "ada.pem"):
                if change is not None:
                    shutil.copy(change, file)
                with pytest.raises(Failure, match="404"):
                    await send(Call(posts_by(1), a_context()))
    assert names == ["ada", "bob", "bob", "bob", "ada"]
    (warning,) = caplog.messages
    assert warning.startswith(f"{file} has no key in PEM")
