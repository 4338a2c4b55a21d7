"""The section cache: good answers, kept as long as they may be (RFC 9111, RFC 5861).

In memory, bounded by bytes; the least recently used go first. What may be kept and for how long is
decided where answers come in (`CachePolicy`); here they are kept, served and refreshed. An entry
belongs to the forwarded headers that it was asked with, credentials included.
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace

from app.errors import Failure, NotFound
from app.resilience.budget import RetryBudget
from app.resilience.call import UNCACHEABLE, Answer, Call, Fetch, Key
from app.resilience.ending import end
from app.resilience.events import BudgetSpent, Emit, RefreshEnded, ServedFromCache, ServedStale

_BYTES = 64 * 2**20
_OVERHEAD = 2048
"""Bytes that an entry takes beside its data, key and headers."""


class Store:
    """Answers by key, never more than `limit` bytes of them, shared by all upstreams."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit = limit
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Key) -> Answer | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer) -> bool:
        """Keep `answer` in place of an older one, unless it is too large for that."""
        self.forget(key)
        size = _size(key, answer)
        if size > self._limit:
            return False
        self._answers[key] = answer
        self.size += size
        while self.size > self._limit:
            self.size -= _size(*self._answers.popitem(last=False))
        return True

    def forget(self, key: Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self.size -= _size(key, answer)


def _size(key: Key, answer: Answer) -> int:
    _, target, headers = key
    return (
        _OVERHEAD
        + len(answer.data.json)
        + len(target)
        + sum(len(name) + len(value) for name, value in headers)
        + sum(len(name) + len(value) for name, value in answer.cache_policy.stored_headers.items())
    )


class Cached:
    """One upstream's fetch with the store before it. `refresh_timeout` is in seconds.

    `lookup` finds what can be served without waiting, so without a task. To call it is to ask the
    upstream, for an answer to an entry that is no longer fresh if need be.
    """

    def __init__(
        self, fetch: Fetch, store: Store, budget: RetryBudget, emit: Emit, refresh_timeout: float
    ) -> None:
        self._fetch = fetch
        self._store = store
        self._budget = budget
        self._emit = emit
        self._refresh_timeout = refresh_timeout
        self._time = asyncio.get_running_loop().time
        self._refreshing: dict[Key, asyncio.Task[None]] = {}

    def lookup(self, call: Call) -> Answer | None:
        """A stored answer that is fresh, or may be used while it is asked for again."""
        if call.context.no_cache:
            return None
        answer = self._store.get(call.key)
        if answer is None:
            return None
        now = self._time()
        if now >= answer.cache_policy.while_revalidate:
            return None
        stale = now >= answer.cache_policy.fresh_until
        if stale:
            self._refresh(call, answer)
        call.tally.cache = "hit"
        self._emit(ServedFromCache(call, stale))
        return answer

    async def __call__(self, call: Call) -> Answer:
        known = None if call.context.no_cache else self._store.get(call.key)
        if known is None:
            if call.context.no_cache:
                call.tally.cache = "request"
            return await self._ask(call)
        call.tally.cache = "stale"
        try:
            return await self._ask(replace(call, known=known))
        except Failure as failure:
            if self._time() < known.cache_policy.if_error and _is_about_the_upstream(failure):
                self._emit(ServedStale(call, failure))
                return replace(known, stale=True)
            raise

    async def aclose(self) -> None:
        """End the refreshes that are under way."""
        await end(list(self._refreshing.values()))

    async def _ask(self, call: Call) -> Answer:
        try:
            answer = await self._fetch(call)
        except NotFound:
            self._store.forget(call.key)
            raise
        if answer.cache_policy is UNCACHEABLE:
            self._store.forget(call.key)  # an older one is worse still
        else:
            call.tally.stored = self._store.put(call.key, answer)
        return answer

    def _refresh(self, call: Call, known: Answer) -> None:
        if call.key in self._refreshing:
            return
        if not self._budget.try_withdraw():
            self._emit(BudgetSpent(call))
            return
        context = replace(
            call.context,
            deadline=self._time() + self._refresh_timeout,
            fan_out=asyncio.Semaphore(1),
            overload_wait=None,
            watch=None,
        )
        task = asyncio.create_task(self._refreshed(Call(call.question, context, known=known)))
        self._refreshing[call.key] = task
        task.add_done_callback(lambda _: self._refreshing.pop(call.key, None))

    async def _refreshed(self, call: Call) -> None:
        failure: Failure | None = None
        try:
            await self._ask(call)
        except Failure as error:
            failure = error
        else:
            self._budget.refund()  # it stood in for a call that somebody would have waited for
        self._emit(RefreshEnded(call, failure))


def _is_about_the_upstream(failure: Failure) -> bool:
    """Whether it could not be asked. What it refuses or denies (4xx) is its answer."""
    return failure.retryable or failure.retry_on != "never"
