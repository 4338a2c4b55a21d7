"""Routes that know all of their parameters: an unknown one is refused, with the nearest known one.

An ignored parameter would be a wrong answer: `?includ=posts` asks for less than it gets.
"""

from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

_MAX_NAME = 64
"""Characters that are compared and repeated: it costs their square."""
_MAX_NAMED = 3


class StrictRoute(APIRoute):
    """A list may be written `name=a,b`, repeated, or `name[]=a`, as some clients write it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]

        async def strictly(request: Request) -> Response:
            query = request.scope["query_string"]
            if query:
                if b"[" in query or b"%5" in query:
                    request.scope["query_string"] = query = _without_brackets(query)
                    request = Request(request.scope, request.receive)
                _refuse_unknown(query, known)
            return await handle(request)

        return strictly


def _without_brackets(query: bytes) -> bytes:
    """`name[]` is `name`."""
    parts = []
    for part in query.split(b"&"):
        name, equals, value = part.partition(b"=")
        for brackets in (b"[]", b"%5B%5D", b"%5b%5d"):
            name = name.removesuffix(brackets)
        parts.append(name + equals + value)
    return b"&".join(parts)


def _refuse_unknown(query: bytes, known: list[str]) -> None:
    names = {name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
    unknown = sorted(names.difference(known))
    if unknown:
        raise RequestValidationError(
            [
                {"loc": ("query", name[:_MAX_NAME]), "msg": _message(name, known)}
                for name in unknown[:_MAX_NAMED]
            ]
        )


def _message(name: str, known: list[str]) -> str:
    (nearest,) = get_close_matches(name[:_MAX_NAME], known, n=1, cutoff=0.0)
    return f"there is no such parameter; the nearest is {nearest}, of {', '.join(sorted(known))}"
