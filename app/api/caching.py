"""What clients and caches may do with an answer: validators, freshness, and where it came from."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from app.resilience.call import Answer
from app.views.plan import Outcome, Outcomes, Plan


def etag(outcomes: Outcomes) -> str:
    """A weak validator (RFC 9110 §8.8.1): the same data, though it may have been asked anew."""
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


def bypasses_cache(cache_control: Iterable[str]) -> bool:
    """Whether the client wants no answer from our cache (RFC 9111 §5.2.1.4, §5.2.1.5)."""
    return any(
        directive.strip().lower() in ("no-cache", "no-store")
        for line in cache_control
        for directive in line.split(",")
    )


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
    """RFC 9211, a member for each section: what our cache had to say to its upstream's call."""
    return ", ".join(
        f"{question.upstream}; {_handled(outcomes[name], now)}"
        for name, question in plan.questions.items()
        if name in outcomes
    )


def server_timing(plan: Plan, outcomes: Outcomes, total: float, now: float) -> str:
    """W3C Server-Timing: milliseconds for each section, and for the whole; and what was special."""
    parts = []
    for name in plan.sections:
        if name in outcomes:
            outcome = outcomes[name]
            special = " ".join(_special(outcome, now))
            described = f';desc="{special}"' if special else ""
            parts.append(f"{name};dur={outcome.seconds * 1000:.1f}{described}")
    return ", ".join([*parts, f"total;dur={total * 1000:.1f}"])


def _handled(outcome: Outcome, now: float) -> str:
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


def _special(outcome: Outcome, now: float) -> Iterator[str]:
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
