"""What is refused below the application: the same problems, in bytes that are made once."""

from http import HTTPStatus

from app.problems.responses import problem
from app.server.request_head import ONCE
from app.server.security_headers import SECURITY_HEADERS


class Refusal:
    """A problem without its request's id."""

    def __init__(
        self, root_path: str, slug: str, detail: str, retry_after: int | None = None
    ) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        response = problem(slug, detail, root_path=root_path, headers=headers)
        self.slug = slug
        self.status = response.status_code
        head = [b"HTTP/1.1 %d %b" % (self.status, HTTPStatus(self.status).phrase.encode())]
        head += [b"%b: %b" % header for header in (*response.raw_headers, *SECURITY_HEADERS)]
        self._head = b"\r\n".join(head)
        self._body = bytes(response.body)

    def response(self, request_id: bytes, *, close: bool) -> bytes:
        connection = b"connection: close\r\n" if close else b""
        fields = b"%b\r\nx-request-id: %b\r\n%b" % (self._head, request_id, connection)
        return b"%b\r\n%b" % (fields, self._body)


class Refusals:
    """All of them; `faults` are those of a head, by what `fault_of` says."""

    def __init__(self, root_path: str) -> None:
        def refusal(slug: str, detail: str, retry_after: int | None = None) -> Refusal:
            return Refusal(root_path, slug, detail, retry_after)

        self.malformed = refusal("malformed_request", "this is not HTTP/1.1")
        self.head_too_large = refusal(
            "head_too_large", "the request's line and headers are too long"
        )
        self.faults: dict[str | bytes, Refusal] = {
            "version": refusal("unsupported_version", "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            "host": refusal("malformed_request", "the Host header is missing, repeated or invalid"),
            **{
                name: refusal("malformed_request", f"the header {title} came more than once")
                for name, title in ONCE.items()
            },
        }
        self.all_connections_busy = refusal("overloaded", "too many connections are open", 1)
        self.shed = refusal("overloaded", "too many requests are waiting already", 1)
