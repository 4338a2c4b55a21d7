"""The circuit breaker: a mirror that keeps failing is not asked for a while, but by probes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.call import Answer, Call, Emit, Fetch, Layer, Tally
from app.errors import CircuitOpen, Failure, Timeout
from app.resilience.breaker import Breaker, Permit, State
from app.resilience.events import BreakerStateChanged
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.probe import settled, wait_for, with_own_time
from app.tasks import BackgroundTasks

_WHOLE = 0.9
"""Of an attempt's time: some of a request's, or a probe's, is gone before the attempt begins."""


def circuit_breaker(
    breakers: Sequence[Breaker],
    failures: KeyFailures,
    latency: Latency,
    background: BackgroundTasks,
    emit: Emit,
    *,
    mirror: int,
    attempt_timeout: float,
) -> Layer:
    """Ask the mirror only while its breaker lets us; else the call is `CircuitOpen` at once."""

    def layer(fetch: Fetch) -> Fetch:
        referee = _Referee(breakers, failures, latency, emit, mirror, attempt_timeout)
        breaker, time = breakers[mirror], asyncio.get_running_loop().time

        async def protected(call: Call) -> Answer:
            permit = breaker.try_acquire(time(), suspect=failures.is_quarantined(call.key))
            if permit is None:
                raise referee.refusal()
            if not permit.probe:
                return await ask(call, permit)
            if referee.has_alternative():  # so nobody needs to wait for it
                start_probe(replace(call, tally=Tally()), permit)
                raise referee.refusal()
            return await wait_for(start_probe(call, permit), call)

        async def ask(call: Call, permit: Permit) -> Answer:
            try:
                answer = await fetch(call)
            except Failure as failure:
                referee.on_failure(failure, call, permit)
                raise
            except BaseException:
                breaker.on_ignored(permit)
                raise
            referee.on_success(call, permit)
            return answer

        def start_probe(call: Call, permit: Permit) -> asyncio.Task[Answer | Failure]:
            return background.start(settled(ask(with_own_time(call, attempt_timeout), permit)))

        return protected

    return layer


class _Referee:
    """Whose fault a failure is: the mirror's, the key's, or nobody's."""

    def __init__(
        self,
        breakers: Sequence[Breaker],
        failures: KeyFailures,
        latency: Latency,
        emit: Emit,
        mirror: int,
        attempt_timeout: float,
    ) -> None:
        self._breaker = breakers[mirror]
        self._others = [breaker for breaker in breakers if breaker is not self._breaker]
        self._failures = failures
        self._latency = latency
        self._emit = emit
        self._mirror = mirror
        self._attempt_timeout = attempt_timeout
        self._time = asyncio.get_running_loop().time

    def on_success(self, call: Call, permit: Permit) -> None:
        now = self._time()
        self._failures.on_success(call.key, now)
        self._emit_transition(self._breaker.on_success(permit, now), call)

    def on_failure(self, failure: Failure, call: Call, permit: Permit) -> None:
        verdict = failure.policy.breaker
        if verdict == "success":
            self.on_success(call, permit)
        elif verdict == "ignored" or self._had_no_fair_time(failure):
            self._breaker.on_ignored(permit)
        # That of a probe counts in any case, or each call would be the next one.
        elif self._failures.on_failure(call.key, self._time()) or permit.probe:
            state = self._breaker.on_failure(
                permit, self._time(), alternative=self.has_alternative()
            )
            self._emit_transition(state, call)
        else:
            self._breaker.on_ignored(permit)

    def has_alternative(self) -> bool:
        now = self._time()
        return any(other.state(now) == "closed" for other in self._others)

    def refusal(self) -> CircuitOpen:
        return CircuitOpen(
            "it failed too often to be asked again now",
            retry_after=round(self._breaker.retry_after(self._time()), 3),
        )

    def _had_no_fair_time(self, failure: Failure) -> bool:
        """A client in a hurry must not be able to open the breaker for everybody.

        Only a whole attempt, or clearly more time than answers take, says that a mirror is slow.
        """
        if not isinstance(failure, Timeout):
            return False
        whole = _WHOLE * self._attempt_timeout
        return failure.allotted < min(whole, self._latency.unusual or whole)

    def _emit_transition(self, state: State | None, call: Call) -> None:
        if state is not None:
            self._emit(BreakerStateChanged(call.question.upstream, self._mirror, state))
