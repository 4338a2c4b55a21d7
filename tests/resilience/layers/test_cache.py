import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.call import Answer, Call, Event, Fetch, Key
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, RefreshEnded, ServedFromCache, ServedStale
from app.resilience.layers.cache import Cached
from app.resilience.store import Store
from tests.fakes import (
    a_cache_policy,
    a_call,
    a_context,
    an_answer,
    leaving_nothing,
    now,
    on_virtual_time,
    result_or_error,
)

pytestmark = pytest.mark.anyio

BUSY = UpstreamStatus(503)


class Scripted:
    """Ends its calls as events, one after the other, each after `seconds`; then with an answer."""

    def __init__(self, *ends: Answer | Exception, seconds: float = 0.5) -> None:
        self._ends = list(ends)
        self.seconds = seconds
        self.calls: list[Call] = []
        self.in_flight = 0

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        self.in_flight += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        end = self._ends.pop(0) if self._ends else an_answer(b"unexpected")
        if isinstance(end, Exception):
            raise end
        return end


@dataclass
class Setting:
    """A cache before `upstream`, and all that it touches."""

    upstream: Fetch
    store: Store = field(default_factory=lambda: Store(50_000))
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.2))
    events: list[Event] = field(default_factory=list)
    fetch: Cached = field(init=False)

    def __post_init__(self) -> None:
        self.fetch = Cached(
            self.upstream, self.store, self.budget, self.events.append, refresh_timeout=3.0
        )


def asked_by(header: bytes = b"", *, no_cache: bool = False) -> Call:
    """A call of somebody in a hurry who holds all permits of the own fan-out."""
    headers = ((b"authorization", header),) if header else ()
    context = replace(a_context(0.1, fan_out=1), headers=headers, no_cache=no_cache)
    return a_call(context)


async def holding(answer: Answer, *ends: Answer | Exception) -> tuple[Setting, Scripted]:
    """A cache that has `answer`, before an upstream that goes on with `ends`."""
    upstream = Scripted(*ends)
    setting = Setting(upstream)
    setting.store.put(asked_by().key, answer)
    return setting, upstream


async def test_what_is_fresh_is_served_without_asking_or_a_task() -> None:
    answer = an_answer(cache_policy=a_cache_policy(2.0, while_revalidate=5.0))
    setting, upstream = await holding(answer)
    await asyncio.sleep(1.999)
    call, tasks = asked_by(), asyncio.all_tasks()
    assert setting.fetch.lookup(call) is answer
    assert asyncio.all_tasks() == tasks
    assert setting.events == [ServedFromCache(call, stale=False)]
    assert (call.tally.cache, call.tally.attempts, upstream.calls) == ("hit", 0, [])


async def test_what_is_not_stored_is_asked_for_and_stored() -> None:
    answer = an_answer(cache_policy=a_cache_policy(9.0))
    upstream = Scripted(answer)
    setting, call = Setting(upstream), asked_by()
    assert setting.fetch.lookup(call) is None
    assert await setting.fetch(call) is answer
    assert (call.tally.cache, call.tally.stored) == ("miss", True)
    assert upstream.calls == [call]
    assert setting.fetch.lookup(asked_by()) is answer
    assert setting.fetch.lookup(asked_by(b"somebody else")) is None


async def test_who_wants_nothing_stored_gets_nothing_stored_but_others_do() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(9, 9, 9)),
        an_answer(b"new", cache_policy=a_cache_policy(9.0)),
    )
    setting, upstream = await holding(old, BUSY, new)
    call = asked_by(no_cache=True)
    assert setting.fetch.lookup(call) is None
    assert await result_or_error(setting.fetch(call)) is BUSY
    assert await setting.fetch(call) is new
    assert (call.tally.cache, call.tally.stored) == ("request", True)
    assert [one.known for one in upstream.calls] == [None, None]
    assert setting.fetch.lookup(asked_by()) is new


async def test_what_is_stale_is_the_condition_of_asking_again() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(2.0)),
        an_answer(b"new", cache_policy=a_cache_policy(9.0)),
    )
    setting, upstream = await holding(old, new)
    await asyncio.sleep(2)
    call = asked_by()
    assert setting.fetch.lookup(call) is None
    assert await setting.fetch(call) is new
    assert (call.tally.cache, call.tally.stored) == ("stale", True)
    assert upstream.calls == [replace(call, known=old)]
    assert upstream.calls[0].tally is call.tally
    assert setting.fetch.lookup(asked_by()) is new


async def test_what_may_be_used_meanwhile_is_served_at_once_and_refreshed_once() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(2, 3)),
        an_answer(b"new", cache_policy=a_cache_policy(99)),
    )
    setting, upstream = await holding(old, new)
    await asyncio.sleep(2)
    async with leaving_nothing():
        calls = [asked_by() for _ in range(3)]
        for call in calls:
            assert setting.fetch.lookup(call) is old
            assert call.tally.cache == "hit"
            await asyncio.sleep(0.1)
        assert setting.events == [ServedFromCache(call, stale=True) for call in calls]
        assert (len(upstream.calls), setting.budget.balance) == (1, 9)
        await asyncio.sleep(0.5)
    (refresh,) = upstream.calls
    assert (refresh.known, refresh.question) == (old, calls[0].question)
    assert (refresh.context.deadline, refresh.context.request_id) == (5.0, "test")
    assert not refresh.context.fan_out.locked()
    assert refresh.context.fan_out is not calls[0].context.fan_out
    assert refresh.tally is not calls[0].tally
    assert setting.events[3:] == [RefreshEnded(refresh, None)]
    assert setting.budget.balance == 10  # somebody would have had to wait for it otherwise
    assert setting.fetch.lookup(asked_by()) is new


async def test_a_refresh_is_one_for_each_key() -> None:
    setting, upstream = await holding(an_answer(cache_policy=a_cache_policy(0, 3)))
    setting.store.put(asked_by(b"another").key, an_answer(cache_policy=a_cache_policy(0, 3)))
    for header in (b"", b"another", b"", b"another"):
        assert setting.fetch.lookup(asked_by(header))
    await asyncio.sleep(0)
    assert [call.context.headers for call in upstream.calls] == [
        (),
        asked_by(b"another").context.headers,
    ]
    await setting.fetch.aclose()


@pytest.mark.parametrize("failure", [BUSY, Timeout("late"), NotFound("gone")])
async def test_a_refresh_that_fails_is_told_and_paid_for(failure: Failure) -> None:
    old = an_answer(cache_policy=a_cache_policy(2, 3))
    setting, upstream = await holding(old, failure)
    await asyncio.sleep(2)
    async with leaving_nothing():
        setting.fetch.lookup(asked_by())
        await asyncio.sleep(1)
    assert setting.events[1:] == [RefreshEnded(upstream.calls[0], failure)]
    assert setting.budget.balance == 9
    gone = isinstance(failure, NotFound)
    assert setting.fetch.lookup(asked_by()) is (None if gone else old)
    await setting.fetch.aclose()


async def test_a_refresh_that_brings_what_must_not_be_kept_ends_the_older_one_too() -> None:
    setting, _ = await holding(an_answer(cache_policy=a_cache_policy(2, 3)), an_answer(b"not kept"))
    await asyncio.sleep(2)
    setting.fetch.lookup(asked_by())
    await asyncio.sleep(1)
    assert setting.fetch.lookup(asked_by()) is None
    assert setting.budget.balance == 10


async def test_what_may_be_used_meanwhile_may_not_be_used_for_ever() -> None:
    setting, upstream = await holding(an_answer(cache_policy=a_cache_policy(2, 3)))
    await asyncio.sleep(5)
    assert setting.fetch.lookup(asked_by()) is None
    assert (setting.events, upstream.calls) == ([], [])


async def test_without_a_budget_what_is_stale_is_served_and_not_refreshed() -> None:
    setting, upstream = await holding(old := an_answer(cache_policy=a_cache_policy(0, 3)))
    while setting.budget.try_withdraw():
        pass
    call = asked_by()
    async with leaving_nothing():
        assert setting.fetch.lookup(call) is old
    assert setting.events == [BudgetSpent(call), ServedFromCache(call, stale=True)]
    assert upstream.calls == []


NOT_ASKED = [
    Timeout("late"),
    Unreachable("broken"),
    BUSY,
    UpstreamStatus(500),
    UpstreamStatus(408),
    InvalidPayload("garbage"),
    CircuitOpen("resting"),
    Overloaded("full"),
    TooManyRequests("fewer"),
]
REFUSED = [NotFound("gone"), *(UpstreamStatus(code) for code in (301, 400, 401, 403, 404, 410))]


@pytest.mark.parametrize("failure", NOT_ASKED, ids=repr)
async def test_last_good_data_stand_in_for_what_could_not_be_asked(failure: Failure) -> None:
    old = an_answer(cache_policy=a_cache_policy(2, if_error=3))
    setting, _ = await holding(old, failure, failure)
    await asyncio.sleep(4)
    call = asked_by()
    assert setting.fetch.lookup(call) is None
    assert await setting.fetch(call) == replace(old, stale=True)
    assert now() == 4.5
    assert setting.events == [ServedStale(call, failure)]
    assert call.tally.cache == "stale"
    assert (
        await result_or_error(setting.fetch(asked_by())) is failure
    )  # when it failed, the time was over
    assert len(setting.events) == 1


@pytest.mark.parametrize("failure", REFUSED, ids=repr)
async def test_a_refusal_is_an_answer_and_not_hidden(failure: Failure) -> None:
    setting, _ = await holding(an_answer(cache_policy=a_cache_policy(2, if_error=9)), failure)
    await asyncio.sleep(2)
    assert await result_or_error(setting.fetch(asked_by())) is failure
    assert setting.events == []


async def test_a_bug_is_not_hidden_by_last_good_data() -> None:
    bug = ZeroDivisionError()
    setting, _ = await holding(an_answer(cache_policy=a_cache_policy(0, if_error=9)), bug)
    assert await result_or_error(setting.fetch(asked_by())) is bug


@pytest.mark.parametrize(
    "end",
    [
        NotFound("gone"),
        an_answer(b"must not be kept"),
        an_answer(b"too large" * 10_000, cache_policy=a_cache_policy(99)),
    ],
    ids=["gone", "not kept", "too large"],
)
@pytest.mark.parametrize("no_cache", [True, False])
async def test_what_an_answer_shows_to_be_over_is_forgotten(
    end: Answer | Exception, no_cache: bool
) -> None:
    setting, _ = await holding(an_answer(cache_policy=a_cache_policy(0, if_error=99)), end, BUSY)
    call = asked_by(no_cache=no_cache)
    assert await result_or_error(setting.fetch(call)) is end
    assert not call.tally.stored
    assert (len(setting.store), setting.store.size) == (0, 0)
    assert await result_or_error(setting.fetch(asked_by())) is BUSY


async def test_what_fails_leaves_what_is_stored() -> None:
    old = an_answer(cache_policy=a_cache_policy(0, if_error=99))
    setting, upstream = await holding(old, UpstreamStatus(403), BUSY)
    for _ in range(2):
        await result_or_error(setting.fetch(asked_by()))
    assert [call.known for call in upstream.calls] == [old, old]


async def test_closing_cancels_refreshes_and_awaits_them() -> None:
    ended: list[float] = []

    async def reluctant(_: Call) -> Answer:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            ended.append(now())
        raise AssertionError

    setting = Setting(reluctant)
    async with leaving_nothing():
        await setting.fetch.aclose()
        for header in (b"one", b"another"):
            setting.store.put(asked_by(header).key, an_answer(cache_policy=a_cache_policy(0, 9)))
            setting.fetch.lookup(asked_by(header))
        await asyncio.sleep(1)
        await setting.fetch.aclose()
        assert ended == [2.0, 2.0]
    assert not any(isinstance(event, RefreshEnded) for event in setting.events)


async def test_a_bug_in_a_refresh_goes_to_whoever_handles_what_nobody_awaits() -> None:
    bug = ZeroDivisionError()
    setting, upstream = await holding(an_answer(cache_policy=a_cache_policy(0, 9)), bug)
    unseen: list[object] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unseen.append(context.get("exception")))
    try:
        setting.fetch.lookup(asked_by())
        await asyncio.sleep(1)
        gc.collect()
    finally:
        loop.set_exception_handler(handler)
    assert unseen == [bug]
    assert not any(isinstance(event, RefreshEnded) for event in setting.events)
    setting.fetch.lookup(asked_by())
    await asyncio.sleep(1)
    assert len(upstream.calls) == 2  # it does not keep the next refresh from being made


@dataclass(frozen=True)
class Said:
    """What the upstream says when it is asked: a failure, or how long its answer is good.

    With `changed`, what it answers is not what it has answered before.
    """

    failure: type[Failure] | int | None = None
    max_age: int = 0
    swr: int = 0
    sie: int = 0
    etag: bool = False
    no_store: bool = False
    changed: bool = False


@dataclass(frozen=True)
class Step:
    """After a `pause`, somebody asks, and the upstream, if asked, says so."""

    pause: int
    said: Said
    no_cache: bool


WINDOWS = st.sampled_from([0, 0, 1, 3, 8])
SAID = st.builds(
    Said,
    failure=st.sampled_from([None] * 6 + [NotFound, Unreachable, 500, 403]),
    max_age=WINDOWS,
    swr=WINDOWS,
    sie=WINDOWS,
    etag=st.booleans(),
    no_store=st.sampled_from([False] * 5 + [True]),
    changed=st.booleans(),
)
HISTORY = st.lists(
    st.builds(Step, st.integers(1, 4), SAID, st.sampled_from([False] * 4 + [True])), max_size=25
)

Got = tuple[bytes, bool] | str
Asked = tuple[float, bytes | None]
TAKES = 0.5
SAVED_UP = 3


class Reference:
    """RFC 9111 and RFC 5861 for one resource, in their own terms: ages against lifetimes.

    What is asked takes `TAKES` seconds, so a refresh is over before the next step.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.version = 0
        self.stored: tuple[int, float, Said] | None = None
        self.asked: list[Asked] = []
        self.left = SAVED_UP

    def step(self, step: Step) -> Got:
        self.now += step.pause
        stored = None if step.no_cache else self.stored
        if stored is not None:
            version, received, said = stored
            age = self.now - received
            if age < said.max_age:
                return b"%d" % version, False
            if age < said.max_age + said.swr:
                self._refresh(step.said)
                return b"%d" % version, False
        got = self._ask(step.said, conditional=stored is not None)
        self.now += TAKES
        if got in ("Unreachable", "UpstreamStatus HTTP 500") and stored is not None:
            version, received, said = stored
            if self.now - received < said.max_age + said.sie:
                return b"%d" % version, True
        return got

    def _refresh(self, said: Said) -> None:
        if self.left == 0:
            return
        got = self._ask(said, conditional=True)
        if isinstance(got, str):
            self.left -= 1

    def _ask(self, said: Said, *, conditional: bool) -> Got:
        known = self.stored if conditional else None
        validator = b'"%d"' % known[0] if known is not None and known[2].etag else None
        self.asked.append((self.now, validator))
        self.version += said.changed
        if said.failure is not None:
            if said.failure is NotFound:
                self.stored = None
            return _told(_failure(said.failure))
        self.stored = None if said.no_store else (self.version, self.now + TAKES, said)
        return b"%d" % self.version, False


def _failure(failure: type[Failure] | int) -> Failure:
    return UpstreamStatus(failure) if isinstance(failure, int) else failure("events to")


def _told(end: object) -> Got:
    match end:
        case Answer(data=data, stale=stale):
            return data.json, stale
        case UpstreamStatus(cause=cause):
            return f"UpstreamStatus {cause}"
        case _:
            return type(end).__name__


@given(HISTORY)
def test_whatever_the_upstream_says_and_whenever_the_cache_keeps_to_the_rfcs(
    history: Sequence[Step],
) -> None:
    reference, version = Reference(), 0
    asked: list[Asked] = []
    step = Step(0, Said(), no_cache=False)

    async def upstream(call: Call) -> Answer:
        nonlocal version
        known, said = call.known, step.said
        validators = {} if known is None else dict(known.cache_policy.validators)
        asked.append((now(), validators.get(b"If-None-Match")))
        await asyncio.sleep(TAKES)
        version += said.changed
        if said.failure is not None:
            raise _failure(said.failure)
        tag = b'"%d"' % version
        data = an_answer(b"%d" % version).data
        if known is not None and validators.get(b"If-None-Match") == tag:
            data = known.data  # 304
        fresh = a_cache_policy(now() + said.max_age, said.swr, said.sie, tag if said.etag else None)
        return replace(an_answer() if said.no_store else an_answer(cache_policy=fresh), data=data)

    async def main() -> None:
        nonlocal step
        setting = Setting(upstream, budget=RetryBudget(0))
        setting.budget.balance = SAVED_UP
        for step in history:
            await asyncio.sleep(step.pause)
            call = asked_by(no_cache=step.no_cache)
            answer = setting.fetch.lookup(call) or await result_or_error(setting.fetch(call))
            await asyncio.sleep(0)  # a refresh begins
            assert _told(answer) == reference.step(step)
            assert now() == reference.now
        await asyncio.sleep(TAKES)
        assert asked == reference.asked

    on_virtual_time(main)


KEYS: list[Key] = [("posts", f"/{number}", ()) for number in range(6)]


def weight(key: Key, answer: Answer) -> int:
    alone = Store()
    alone.put(key, answer)
    return alone.size


@example([("put", KEYS[number], 6000 * (number == 3)) for number in range(4)], 9000)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["get", "put", "put", "put", "forget"]),
            st.sampled_from(KEYS),
            st.sampled_from([0, 1, 2000, 6000]),
        ),
        max_size=40,
    ),
    st.integers(1000, 20_000),
)
def test_the_store_forgets_who_was_not_asked_for_longest_and_keeps_to_its_bytes(
    steps: Sequence[tuple[str, Key, int]], limit: int
) -> None:
    store = Store(limit)
    naive: list[tuple[Key, Answer]] = []  # the last one used at the end

    def size() -> int:
        return sum(weight(*entry) for entry in naive)

    for what, key, length in steps:
        held = next((entry for entry in naive if entry[0] == key), None)
        if held is not None:
            naive.remove(held)
        match what:
            case "get":
                assert store.get(key) is (None if held is None else held[1])
                if held is not None:
                    naive.append(held)
            case "put":
                answer = an_answer(b"x" * length, cache_policy=a_cache_policy(9.0))
                fits = weight(key, answer) <= limit
                assert store.put(key, answer) is fits
                if fits:
                    naive.append((key, answer))
                while size() > limit:
                    naive.pop(0)
            case _:
                store.delete(key)
        assert (len(store), store.size) == (len(naive), size())
    for key in KEYS:
        assert store.get(key) is dict(naive).get(key)


def test_all_that_an_entry_holds_is_weighed() -> None:
    key, cache_policy = asked_by().key, a_cache_policy(9.0)
    least = weight(key, an_answer(b"", cache_policy=cache_policy))
    assert least >= 1000  # what Python takes for it is not nothing
    upstream, target, headers = key
    heavier = [
        (key, an_answer(b"x" * 100, cache_policy=cache_policy)),
        ((upstream, target + "x" * 100, headers), an_answer(b"", cache_policy=cache_policy)),
        ((upstream, target, ((b"x" * 50, b"x" * 50),)), an_answer(b"", cache_policy=cache_policy)),
        (
            key,
            an_answer(b"", cache_policy=replace(cache_policy, stored_headers={"x" * 50: "x" * 50})),
        ),
    ]
    assert [weight(*entry) for entry in heavier] == [least + 100] * 4
