"""The response to an answer: ETag and 304, Cache-Control, Cache-Status, Server-Timing.

Also the response cache, which reuses a response as long as it would be made the same again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import floor, inf

from fastapi import Request
from fastapi.responses import Response

from app.call import Answer
from app.composition.outcome import Outcome, Outcomes
from app.composition.result import ViewResult
from app.composition.view import Plan
from app.problems.responses import problem_response


def respond(
    request: Request,
    result: ViewResult,
    headers: dict[str, str],
    now: float,
    timeline: bytes | None = None,
) -> Response:
    """The answer of a view as JSON, or as a problem; `now` is loop time."""
    if result.failure is not None:
        if result.retry_after is not None:
            headers["Retry-After"] = str(result.retry_after)
        if result.challenge is not None:
            headers["WWW-Authenticate"] = result.challenge
        return problem_response(result.failure.reason, result.to_json(timeline), headers)
    if not result.complete or timeline is not None:
        return partial_response(headers, result.to_json(timeline))
    return complete_response(request, result.outcomes, headers, now, result.to_json)


def complete_response(
    request: Request,
    outcomes: Outcomes,
    headers: dict[str, str],
    now: float,
    body: Callable[[], bytes],
) -> Response:
    """A complete answer, made of `outcomes`; 304 if the client has it already."""
    tag = etag(outcomes)
    headers |= {"Cache-Control": cache_control(outcomes, now), "ETag": tag}
    if matches(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body(), headers=headers, media_type="application/json")


def partial_response(headers: dict[str, str], body: bytes) -> Response:
    """An answer that nobody may store."""
    headers["Cache-Control"] = "no-store"
    return Response(body, headers=headers, media_type="application/json")


def revalidated(request: Request, body: bytes, media_type: str) -> Response:
    """A document that clients may store, and revalidate each time (RFC 9111 §5.2.2.4)."""
    tag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'  # weak: it may be compressed
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if matches(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def etag(outcomes: Outcomes) -> str:
    """A weak validator (RFC 9110 §8.8.1): equal for equal data, whenever they were fetched."""
    digest = blake2b(digest_size=12)
    for name in sorted(outcomes):
        result = outcomes[name].result
        if isinstance(result, Answer):
            digest.update(name.encode())
            digest.update(result.data.digest)
    return f'W/"{digest.hexdigest()}"'


def matches(if_none_match: Iterable[str], tag: str) -> bool:
    """Weak comparison (RFC 9110 §13.1.2) with any of the tags the client has, line by line."""
    bare = tag.removeprefix("W/")
    known = (part.strip().removeprefix("W/") for line in if_none_match for part in line.split(","))
    return any(one in ("*", bare) for one in known)


def cache_control(outcomes: Outcomes, now: float) -> str:
    """For a complete answer: as fresh as the least fresh of its sections at `now`, loop time."""
    left = min(
        (
            one.result.cache_policy.fresh_until - now
            for one in outcomes.values()
            if isinstance(one.result, Answer)
        ),
        default=0.0,
    )
    return f"private, max-age={int(left)}" if left >= 1 else "private, no-cache"


def cache_status(plan: Plan, outcomes: Outcomes, now: float) -> str:
    """RFC 9211: a member for each section, under the name of its upstream."""
    return ", ".join(
        f"{question.upstream}; {_cache_status_of(outcomes[name], now)}"
        for name, question in plan.questions.items()
        if name in outcomes
    )


def _cache_status_of(outcome: Outcome, now: float) -> str:
    tally, result = outcome.tally, outcome.result
    if tally.cache == "hit":
        assert isinstance(result, Answer)
        return f"hit; ttl={_ttl(result, now)}"
    status = f"fwd={tally.cache}"
    if isinstance(result, Answer) and result.stale:
        return f"{status}; ttl={_ttl(result, now)}; detail=stale-if-error"
    if tally.validated:
        status += "; fwd-status=304"
    if tally.stored:
        status += "; stored"
    if tally.coalesced:
        status += "; collapsed"
    return status


def _ttl(answer: Answer, now: float) -> int:
    """Seconds; below zero for an answer that was served stale."""
    return int((answer.cache_policy.fresh_until - now) // 1)


def server_timing(plan: Plan, outcomes: Outcomes, total: float, now: float) -> str:
    """W3C Server-Timing: milliseconds of each section and in total; `desc` says what happened."""
    parts = []
    for name in plan.view.sections:
        if name in outcomes:
            outcome = outcomes[name]
            words = " ".join(_description(outcome, now))
            desc = f';desc="{words}"' if words else ""
            parts.append(f"{name};dur={outcome.seconds * 1000:.1f}{desc}")
    return ", ".join([*parts, f"total;dur={total * 1000:.1f}"])


def _description(outcome: Outcome, now: float) -> Iterator[str]:
    tally, result = outcome.tally, outcome.result
    if tally.cache == "hit":
        assert isinstance(result, Answer)
        yield "hit" if now < result.cache_policy.fresh_until else "stale"
    elif isinstance(result, Answer) and result.stale:
        yield "stale"
    if tally.coalesced:
        yield "coalesced"
    if tally.retries:
        yield "retry"
    if tally.hedges:
        yield "hedge"


_MAX_CACHED_BODY = 16 * 1024
"""Bytes. Each entry of the route cache may hold one body, so this bounds their memory."""


@dataclass(slots=True)
class ResponseCache:
    """The last response to one request whose sections were all stored.

    Its times to live are in whole seconds, so it is valid until one of them is a second less. Its
    `Server-Timing` is that of the request it was made for. Answers are compared by identity: with
    other forwarded headers, or after a new call, they are other objects.
    """

    _answers: tuple[object, ...] = ()
    _until: float = -inf
    _response: Response | None = None

    def get(self, outcomes: Outcomes, now: float) -> Response | None:
        """The response, if it was made of the same answers and is still valid."""
        if now >= self._until or len(outcomes) != len(self._answers):
            return None
        for outcome, answer in zip(outcomes.values(), self._answers, strict=True):
            if outcome.result is not answer:
                return None
        return self._response

    def put(self, outcomes: Outcomes, now: float, response: Response) -> None:
        if len(response.body) > _MAX_CACHED_BODY:
            return
        answers = [one.result for one in outcomes.values() if isinstance(one.result, Answer)]
        left = [answer.cache_policy.fresh_until - now for answer in answers]
        self._answers = tuple(answers)
        self._until = now + min(one - floor(one) for one in left)
        self._response = response
