"""An answer from the cache is written once, as long as writing it again would give the same."""

from dataclasses import dataclass
from math import floor, inf

from fastapi.responses import Response

from app.resilience.call import Answer
from app.views.plan import Outcomes

_LARGEST = 16 * 1024
"""Bytes of a body that is worth its memory, which is taken once for each request remembered."""


@dataclass(slots=True)
class ResponseCache:
    """The last response to one request whose sections were all stored.

    Its times to live are in whole seconds, so it is good until one of them is a second less; its
    `Server-Timing` is that of the writing. Answers are compared by identity: with other forwarded
    headers, or asked for anew, they are others.
    """

    _answers: tuple[object, ...] = ()
    _until: float = -inf
    _response: Response | None = None

    def get(self, found: Outcomes, now: float) -> Response | None:
        """The response, if `found` is what it was written from."""
        if now >= self._until or len(found) != len(self._answers):
            return None
        for outcome, answer in zip(found.values(), self._answers, strict=True):
            if outcome.result is not answer:
                return None
        return self._response

    def put(self, found: Outcomes, now: float, response: Response) -> None:
        if len(response.body) > _LARGEST:
            return
        answers = [one.result for one in found.values() if isinstance(one.result, Answer)]
        left = [answer.cache_policy.fresh_until - now for answer in answers]
        self._answers = tuple(answers)
        self._until = now + min(one - floor(one) for one in left)
        self._response = response
