"""A cache layer, the policies that it uses, and calls to it."""

from dataclasses import dataclass, field, replace

from app.call import Call, Event, Fetch
from app.resilience.budget import RetryBudget
from app.resilience.layers.cache import Cached
from app.resilience.store import Store
from tests.fakes import a_call, a_context


@dataclass
class Cache:
    """A cache above `upstream`. A refresh may take 3 s."""

    upstream: Fetch
    store: Store = field(default_factory=lambda: Store(50_000))
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.2))
    events: list[Event] = field(default_factory=list)
    fetch: Cached = field(init=False)

    def __post_init__(self) -> None:
        self.fetch = Cached(
            self.upstream, self.store, self.budget, self.events.append, refresh_timeout=3.0
        )


def a_call_from(client: bytes = b"", *, no_cache: bool = False) -> Call:
    """A call with a near deadline and a fan-out of one, which a refresh must not take over."""
    headers = ((b"authorization", client),) if client else ()
    return a_call(replace(a_context(0.1, fan_out=1), headers=headers, no_cache=no_cache))
