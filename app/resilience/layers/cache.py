"""The section cache: good answers, used as long as they may be (RFC 9111, RFC 5861).

What may be stored and for how long is decided where answers come in (`CachePolicy`); here they are
stored, served and refreshed.
"""

import asyncio
from dataclasses import replace

from app.call import UNCACHEABLE, Admission, Answer, Call, Emit, Fetch, Key, Layer
from app.errors import Failure, NotConfirmed
from app.resilience.events import RefreshEnded, ServedFromCache, ServedStale
from app.resilience.store import Store
from app.tasks import BackgroundTasks


def cache(
    store: Store, background: BackgroundTasks, emit: Emit, *, refresh_timeout: float
) -> Layer:
    """Serve what is stored. `refresh_timeout` bounds a background refresh, in seconds."""
    return lambda fetch: Cached(fetch, store, background, emit, refresh_timeout)


class Cached:
    """A `CachedFetch`. To call it is to ask the upstream, and to fall back on what is stored."""

    def __init__(
        self,
        fetch: Fetch,
        store: Store,
        background: BackgroundTasks,
        emit: Emit,
        refresh_timeout: float,
    ) -> None:
        self._fetch = fetch
        self._store = store
        self._background = background
        self._emit = emit
        self._refresh_timeout = refresh_timeout
        self._time = asyncio.get_running_loop().time
        self._refreshing: set[Key] = set()

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
            # Not `known`: meanwhile it may have been found to be gone, or replaced by another call.
            stored = self._store.get(call.key)
            if (
                stored is not None
                and failure.policy.stale_if_error
                and self._time() < stored.cache_policy.if_error
            ):
                self._emit(ServedStale(call, failure))
                return replace(stored, stale=True)
            raise

    async def _ask(self, call: Call) -> Answer:
        began = self._time()
        try:
            answer = await self._fetch(call)
        except NotConfirmed:
            # The 304 is about another answer than the one that is stored, which is not good then.
            self._store.delete(call.key, began)
            return await self._ask(replace(call, known=None))
        except Failure as failure:
            if failure.policy.answered:  # gone, or forbidden: what was good before is so no more
                self._store.delete(call.key, began)
            raise
        if call.context.no_store:
            return answer
        if answer.cache_policy is UNCACHEABLE:
            self._store.delete(call.key, answer.requested_at)  # an older one is worse still
        else:
            call.tally.stored = self._store.put(call.key, answer)
        return answer

    def _refresh(self, call: Call, known: Answer) -> None:
        """Ask again in the background. It stands in for a call that somebody would have made."""
        if call.key in self._refreshing:
            return
        context = replace(
            call.context,
            deadline=self._time() + self._refresh_timeout,
            fan_out=asyncio.Semaphore(1),
            admission=Admission(),
            watch=None,
        )
        self._refreshing.add(call.key)
        self._background.start(self._run_refresh(Call(call.question, context, known=known)))

    async def _run_refresh(self, call: Call) -> None:
        failure: Failure | None = None
        try:
            await self._ask(call)
        except Failure as error:
            failure = error
        finally:
            self._refreshing.discard(call.key)
        self._emit(RefreshEnded(call, failure))
