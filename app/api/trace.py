"""W3C trace context: the client's trace goes on upstream.

We record no spans of our own, so the context is passed on as it came, which is what the
specification asks of whoever does not take part (Trace Context, "Forwarding"). One that is not
valid is dropped, `tracestate` with it.
"""

import re
from collections.abc import Iterable

Header = tuple[bytes, bytes]

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


def extract_trace_headers(headers: Iterable[Header]) -> tuple[Header, ...]:
    """The trace headers among `headers`, names in lower case, if they make a valid context."""
    found = tuple(one for one in headers if one[0] in (b"traceparent", b"tracestate"))
    parents = [value for name, value in found if name == b"traceparent"]
    return found if len(parents) == 1 and _TRACEPARENT.fullmatch(parents[0]) else ()
