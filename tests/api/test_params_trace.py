"""Trace context from the client goes on upstream, or not at all."""

import httpx
import pytest

from app.api.params import extract_trace_headers
from app.call import Header
from tests.in_process import PATH, healthy, running_service

pytestmark = pytest.mark.anyio

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
PARENT = b"00-" + TRACE + b"-" + SPAN + b"-01"
STATE: Header = (b"tracestate", b"vendor=1")


@pytest.mark.parametrize("parent", [PARENT, b"cc-" + PARENT[3:] + b"-what-comes-later"])
def test_a_valid_context_goes_on_as_it_came(parent: bytes) -> None:
    found = ((b"traceparent", parent), STATE)
    assert extract_trace_headers([(b"host", b"a"), *found]) == found


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"nonsense",
        PARENT.upper(),
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        PARENT + b"1",
    ],
)
def test_an_invalid_one_is_dropped_and_its_state_too(parent: bytes) -> None:
    assert extract_trace_headers([(b"traceparent", parent), STATE]) == ()


def test_two_parents_are_none() -> None:
    assert extract_trace_headers([(b"traceparent", PARENT), (b"traceparent", PARENT), STATE]) == ()


def test_a_state_without_a_parent_says_nothing() -> None:
    assert extract_trace_headers([STATE]) == ()


async def test_every_upstream_is_told_of_the_trace_and_no_cache_is_split_by_it() -> None:
    upstream = healthy()
    async with running_service(upstream) as service:
        answer = await service.get(PATH, headers=[("traceparent", PARENT.decode())])
    assert answer.headers["Vary"] == "Accept"
    asked: list[httpx.Request] = [call.request for call in upstream.calls]
    assert [one.headers["traceparent"] for one in asked] == [PARENT.decode()] * 3
