import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call
from app.errors import Failure, NotConfirmed, NotFound, Unreachable, UpstreamStatus
from tests.fakes import a_cache_policy, an_answer, now, on_virtual_time, result_or_error
from tests.resilience.layers.caches import Cache, a_call_from


@dataclass(frozen=True)
class Reply:
    """What the upstream replies when it is asked: a failure, or how long its answer is good.

    `changed` says whether the answer differs from the one before.
    """

    failure: type[Failure] | int | None = None
    max_age: int = 0
    while_revalidate: int = 0
    if_error: int = 0
    etag: bool = False
    no_store: bool = False
    changed: bool = False
    confused: bool = False
    """If it is asked with an `If-None-Match`, it gives a 304 about another one."""


@dataclass(frozen=True)
class Step:
    """After a `pause`, a call is made; if the upstream is asked, it gives this reply."""

    pause: int
    reply: Reply
    no_cache: bool
    no_store: bool


SECONDS = st.sampled_from([0, 0, 1, 3, 8])
REPLIES = st.builds(
    Reply,
    failure=st.sampled_from([None] * 6 + [NotFound, Unreachable, 500, 403]),
    max_age=SECONDS,
    while_revalidate=SECONDS,
    if_error=SECONDS,
    etag=st.booleans(),
    no_store=st.sampled_from([False] * 5 + [True]),
    changed=st.booleans(),
    confused=st.sampled_from([False] * 5 + [True]),
)
RARELY = st.sampled_from([False] * 4 + [True])
STEPS = st.lists(st.builds(Step, st.integers(2, 4), REPLIES, RARELY, RARELY), max_size=25)

Result = tuple[bytes, bool] | str
"""The data and whether they were served stale; or the name of the failure."""
Request = tuple[float, bytes | None]
"""When it was sent, and its `If-None-Match`."""
ATTEMPT_SECONDS = 0.5


class Reference:
    """RFC 9111 and RFC 5861 for one resource, in their own terms: ages against lifetimes.

    An attempt takes `ATTEMPT_SECONDS`, so a refresh is over before the next step, even if it has to
    ask twice.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.version = 0
        self.stored: tuple[int, float, Reply] | None = None
        self.requests: list[Request] = []

    def run(self, step: Step) -> Result:
        self.now += step.pause
        stored = None if step.no_cache or step.no_store else self.stored
        if stored is not None:
            version, received, reply = stored
            age = self.now - received
            if age < reply.max_age:
                return b"%d" % version, False
            if age < reply.max_age + reply.while_revalidate:
                now = self.now
                self._ask(step.reply, conditional=True)
                self.now = now
                return b"%d" % version, False
        result = self._ask(step.reply, conditional=stored is not None, kept=not step.no_store)
        if result in ("Unreachable", "UpstreamStatus HTTP 500") and stored is not None:
            version, received, reply = stored
            if self.now - received < reply.max_age + reply.if_error:
                return b"%d" % version, True
        return result

    def _ask(self, reply: Reply, *, conditional: bool, kept: bool = True) -> Result:
        known = self.stored if conditional else None
        etag = b'"%d"' % known[0] if known is not None and known[2].etag else None
        self.requests.append((self.now, etag))
        self.now += ATTEMPT_SECONDS
        self.version += reply.changed
        if reply.confused and etag is not None:
            self.stored = None
            return self._ask(reply, conditional=False, kept=kept)
        if reply.failure is not None:
            if reply.failure in (NotFound, 403):
                self.stored = None
            return _result(_failure(reply.failure))
        if kept:
            self.stored = None if reply.no_store else (self.version, self.now, reply)
        return b"%d" % self.version, False


def _failure(failure: type[Failure] | int) -> Failure:
    return UpstreamStatus(failure) if isinstance(failure, int) else failure("scripted")


def _result(answer_or_failure: object) -> Result:
    match answer_or_failure:
        case Answer(data=data, stale=stale):
            return data.json, stale
        case UpstreamStatus(cause=cause):
            return f"UpstreamStatus {cause}"
        case failure:
            return type(failure).__name__


@given(STEPS)
def test_cache_serves_stale_and_revalidates_by_etag_as_rfc_9111_and_rfc_5861_say(
    steps: Sequence[Step],
) -> None:
    reference, version = Reference(), 0
    requests: list[Request] = []
    reply = Reply()

    async def upstream(call: Call) -> Answer:
        nonlocal version
        known, requested_at = call.known, now()
        validators = {} if known is None else dict(known.cache_policy.validators)
        requests.append((now(), validators.get(b"If-None-Match")))
        await asyncio.sleep(ATTEMPT_SECONDS)
        version += reply.changed
        if reply.confused and b"If-None-Match" in validators:
            raise NotConfirmed("another one")
        if reply.failure is not None:
            raise _failure(reply.failure)
        etag = b'"%d"' % version
        data = an_answer(b"%d" % version).data
        if known is not None and validators.get(b"If-None-Match") == etag:
            data = known.data  # 304
        policy = a_cache_policy(
            now() + reply.max_age,
            reply.while_revalidate,
            reply.if_error,
            etag if reply.etag else None,
        )
        answer = an_answer() if reply.no_store else an_answer(cache_policy=policy)
        return replace(answer, data=data, requested_at=requested_at)

    async def main() -> None:
        nonlocal reply
        cache = Cache(upstream)
        for step in steps:
            await asyncio.sleep(step.pause)
            reply = step.reply
            call = a_call_from(
                no_cache=step.no_cache or step.no_store,  # as `read_cache_control` has it
                no_store=step.no_store,
            )
            result = cache.fetch.lookup(call) or await result_or_error(cache.fetch(call))
            await asyncio.sleep(0)  # a refresh begins
            assert _result(result) == reference.run(step)
            assert now() == reference.now
        await asyncio.sleep(2 * ATTEMPT_SECONDS)
        assert requests == reference.requests

    on_virtual_time(main)
