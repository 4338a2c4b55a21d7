from collections.abc import Sequence
from fractions import Fraction
from itertools import repeat, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.budget import RetryBudget

RESERVE = 10


def drain(budget: RetryBudget) -> int:
    """Withdraw until the first refusal; the number of extra attempts that there were."""
    withdrawals = (budget.try_withdraw() for _ in repeat(None))
    return sum(takewhile(bool, withdrawals))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_budget_starts_with_its_reserve(share: float) -> None:
    assert drain(RetryBudget(share)) == RESERVE


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_budget_saves_no_more_than_its_reserve(share: float) -> None:
    budget = RetryBudget(share)
    for _ in range(1000):
        budget.deposit()
    assert drain(budget) == RESERVE


@pytest.mark.parametrize(("share", "calls"), [(0.2, 5), (0.25, 4), (0.5, 2), (1.0, 1)])
def test_budget_pays_for_one_extra_attempt_after_the_deposits_of_so_many_calls(
    share: float, calls: int
) -> None:
    budget = RetryBudget(share)
    drain(budget)
    for _ in range(calls - 1):
        budget.deposit()
        assert not budget.try_withdraw()
    budget.deposit()
    assert budget.try_withdraw()
    assert not budget.try_withdraw()


def test_budget_with_a_share_of_zero_pays_for_nothing_beyond_its_reserve() -> None:
    budget = RetryBudget(0.0)
    drain(budget)
    for _ in range(1000):
        budget.deposit()
    assert not budget.try_withdraw()


def test_budget_pays_what_can_be_spared_down_to_half_of_its_reserve() -> None:
    budget = RetryBudget(0.0)
    assert [budget.try_withdraw(spare=True) for _ in range(7)] == [True] * 5 + [False] * 2
    assert drain(budget) == RESERVE / 2


def test_budget_refund_can_be_withdrawn_again_but_adds_nothing_to_a_full_reserve() -> None:
    budget = RetryBudget(0.0)
    drain(budget)
    budget.refund()
    assert drain(budget) == 1
    full = RetryBudget(1.0)
    full.try_withdraw()
    full.deposit()
    full.refund()
    assert drain(full) == RESERVE


Steps = st.lists(st.sampled_from(["deposit", "withdraw", "withdraw", "refund"]), max_size=300)


@given(Steps, st.integers(0, 64).map(lambda part: Fraction(part, 64)))
def test_budget_balance_is_that_of_a_naive_reference(steps: Sequence[str], share: Fraction) -> None:
    """The shares are exact in binary, so that nothing depends on rounding."""
    budget, balance, withdrawn = RetryBudget(float(share)), Fraction(RESERVE), 0
    for step in steps:
        match step:
            case "deposit":
                budget.deposit()
                balance = min(balance + share, Fraction(RESERVE))
            case "withdraw":
                granted = balance >= 1
                assert budget.try_withdraw() is granted
                balance, withdrawn = balance - granted, withdrawn + granted
            case "refund" if withdrawn:
                budget.refund()
                balance, withdrawn = min(balance + 1, Fraction(RESERVE)), withdrawn - 1
        assert budget.balance == balance


@given(Steps, st.floats(0, 1))
def test_budget_limits_extra_attempts_to_its_share_of_the_calls_and_its_reserve(
    steps: Sequence[str], share: float
) -> None:
    budget, calls, extra = RetryBudget(share), 0, 0
    for step in steps:
        match step:
            case "deposit":
                budget.deposit()
                calls += 1
            case "withdraw":
                extra += budget.try_withdraw()
            case "refund" if extra:
                budget.refund()
                extra -= 1
        assert extra <= share * calls + RESERVE + 1e-9
        assert 0 <= budget.balance <= RESERVE
