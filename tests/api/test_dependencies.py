"""The context of a request: what of the client is sent upstream."""

import pytest

from tests.in_process import SECTIONS, healthy_upstream, running_service

pytestmark = pytest.mark.anyio


async def test_only_the_forward_headers_of_the_client_are_sent_upstream() -> None:
    upstream = healthy_upstream()
    api_key = {"posts": {"headers": {"X-Api-Key": "key"}}}
    async with running_service(
        upstream, forward_headers=("authorization",), upstreams=api_key
    ) as service:
        await service.overview(
            Authorization="Bearer t", Cookie="c=1", X_Other="o", X_Request_ID="r.1", Accept="x/y"
        )
    for name in SECTIONS:
        (call,) = upstream[name].calls
        headers = call.request.headers
        assert set(headers) == {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
            "authorization",
            "x-request-id",
            "x-request-timeout-ms",
        } | ({"x-api-key"} if name == "posts" else set())
        assert (headers["authorization"], headers["x-request-id"]) == ("Bearer t", "r.1")
        assert headers["accept"] == "application/json"
