"""W3C trace context: `traceparent` and `tracestate` of the client are sent upstream if valid."""

import httpx
import pytest

from app.api.params import extract_trace_headers
from app.call import Header
from tests.in_process import PATH, healthy_upstream, running_service

pytestmark = pytest.mark.anyio

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
TRACEPARENT = b"00-" + TRACE + b"-" + SPAN + b"-01"
TRACESTATE: Header = (b"tracestate", b"vendor=1")


@pytest.mark.parametrize(
    "traceparent", [TRACEPARENT, b"cc-" + TRACEPARENT[3:] + b"-what-comes-later"]
)
def test_a_valid_traceparent_is_passed_on_with_its_tracestate(traceparent: bytes) -> None:
    headers = ((b"traceparent", traceparent), TRACESTATE)
    assert extract_trace_headers([(b"host", b"a"), *headers]) == headers


@pytest.mark.parametrize(
    "traceparent",
    [
        b"",
        b"nonsense",
        TRACEPARENT.upper(),
        b"ff" + TRACEPARENT[2:],
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        TRACEPARENT + b"1",
        TRACEPARENT + b"-more",
        b"cc-" + TRACEPARENT[3:] + b"-" + b"x" * 100,
    ],
)
def test_an_invalid_traceparent_is_dropped_with_its_tracestate(traceparent: bytes) -> None:
    assert extract_trace_headers([(b"traceparent", traceparent), TRACESTATE]) == ()


def test_two_traceparents_are_dropped() -> None:
    assert (
        extract_trace_headers(
            [(b"traceparent", TRACEPARENT), (b"traceparent", TRACEPARENT), TRACESTATE]
        )
        == ()
    )


def test_a_tracestate_without_traceparent_is_dropped() -> None:
    assert extract_trace_headers([TRACESTATE]) == ()


@pytest.mark.parametrize(
    "tracestate",
    [
        b"",
        b"vendor=1",
        b"a=1,b=2 , ,c=3",
        b"0tenant@system=a b!",
        b"k_-*/=" + b"v" * 256,
        b",".join(b"k%d=1" % n for n in range(32)),
    ],
)
def test_a_tracestate_within_the_rules_and_bounds_is_passed_on(tracestate: bytes) -> None:
    headers = ((b"traceparent", TRACEPARENT), (b"tracestate", tracestate))
    assert extract_trace_headers(headers) == headers


@pytest.mark.parametrize(
    "tracestates",
    [
        [b"v=" + b"x" * 20_000],
        [b"a=" + b"x" * 255, b"b=" + b"x" * 255],
        [b",".join(b"k%d=1" % n for n in range(33))],
        [b"a=1,a=2"],
        [b"a=1", b"a=2"],
        [b"nonsense"],
        [b"UPPER=1"],
        [b"a=1=2"],
        [b"a="],
        [b"a=\xff"],
        [b"a=1\t2"],
        [b"a@1=1"],
        [b"a=1;b=2,c"],
    ],
)
def test_a_doubtful_tracestate_is_dropped_and_the_traceparent_is_not(
    tracestates: list[bytes],
) -> None:
    headers = [(b"tracestate", value) for value in tracestates]
    assert extract_trace_headers([*headers, (b"traceparent", TRACEPARENT)]) == (
        (b"traceparent", TRACEPARENT),
    )


async def test_every_upstream_gets_the_traceparent_and_vary_does_not_name_it() -> None:
    upstream = healthy_upstream()
    async with running_service(upstream) as service:
        response = await service.get(PATH, headers=[("traceparent", TRACEPARENT.decode())])
    assert response.headers["Vary"] == "Accept, Accept-Encoding"
    requests: list[httpx.Request] = [call.request for call in upstream.calls]
    assert [request.headers["traceparent"] for request in requests] == [TRACEPARENT.decode()] * 3
