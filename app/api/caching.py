"""What clients and caches may do with an answer: validators, freshness, and where it came from."""

from collections.abc import Iterable
from hashlib import blake2b

from app.resilience.call import Answer
from app.views.plan import Outcomes, Plan


def etag(outcomes: Outcomes) -> str:
    """A weak validator (RFC 9110 §8.8.1): the same data, though it may have been asked anew."""
    digest = blake2b(digest_size=12)
    for name in sorted(outcomes):
        result = outcomes[name].result
        if isinstance(result, Answer):
            digest.update(name.encode())
            digest.update(result.data.json)
    return f'W/"{digest.hexdigest()}"'


def matches(if_none_match: Iterable[str], tag: str) -> bool:
    """Weak comparison (RFC 9110 §13.1.2) with any of the tags the client has, line by line."""
    bare = tag.removeprefix("W/")
    known = (part.strip().removeprefix("W/") for line in if_none_match for part in line.split(","))
    return any(one in ("*", bare) for one in known)


def cache_control(outcomes: Outcomes) -> str:
    """For a complete answer: as fresh as the least fresh of its sections."""
    left = min(
        (one.result.fresh_for for one in outcomes.values() if isinstance(one.result, Answer)),
        default=0.0,
    )
    return f"private, max-age={int(left)}" if left >= 1 else "private, no-cache"


def cache_status(plan: Plan, outcomes: Outcomes) -> str:
    """RFC 9211, a member for each upstream that was asked: nothing is cached, so all are misses."""
    return ", ".join(
        f"{question.upstream}; fwd=miss"
        for name, question in plan.questions.items()
        if name in outcomes
    )


def server_timing(plan: Plan, outcomes: Outcomes, total: float) -> str:
    """W3C Server-Timing: milliseconds for each section, and for the whole."""
    parts = [
        f"{name};dur={outcomes[name].seconds * 1000:.1f}"
        for name in plan.sections
        if name in outcomes
    ]
    return ", ".join([*parts, f"total;dur={total * 1000:.1f}"])
