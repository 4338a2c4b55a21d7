"""The retry budget: what we add to an upstream's load stays a fixed share of it.

When everything fails, retries would multiply the load on an upstream that is down already. So
each call deposits a fraction of an extra attempt, and every retry or hedge withdraws a whole one.
Finagle's `RetryBudget`; gRPC A6, "Throttling Retry Attempts and Hedged RPCs".
"""

_RESERVE = 10.0
"""Extra attempts that are there from the start, and the most that can be saved up: a budget that
starts empty never retries, and one that saves for ever pays for a storm."""
_SPARE = _RESERVE / 2
"""What is beyond this can be spared for a key that fails too often: the rest is for the others."""


class RetryBudget:
    """Extra attempts that one upstream may still get: a `share` of its calls, and a reserve."""

    def __init__(self, share: float) -> None:
        self._share = share
        self.balance = _RESERVE

    def deposit(self) -> None:
        """A call begins."""
        self.balance = min(self.balance + self._share, _RESERVE)

    def try_withdraw(self, *, spare: bool = False) -> bool:
        """Take an extra attempt, if there is one; or one that can be spared."""
        if self.balance < (_SPARE + 1 if spare else 1):
            return False
        self.balance -= 1
        return True

    def refund(self) -> None:
        """What was withdrawn turned out not to be extra."""
        self.balance = min(self.balance + 1, _RESERVE)
