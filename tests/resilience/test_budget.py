from collections.abc import Sequence
from fractions import Fraction
from itertools import repeat, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.budget import RetryBudget

RESERVE = 10


def drained(budget: RetryBudget) -> int:
    """How many extra attempts there were until the first refusal."""
    spends = (budget.try_withdraw() for _ in repeat(None))
    return sum(takewhile(bool, spends))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_budget_starts_with_its_reserve(share: float) -> None:
    assert drained(RetryBudget(share)) == RESERVE


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_no_more_than_the_reserve_can_be_saved_up(share: float) -> None:
    budget = RetryBudget(share)
    for _ in range(1000):
        budget.deposit()
    assert drained(budget) == RESERVE


@pytest.mark.parametrize(("share", "calls"), [(0.2, 5), (0.25, 4), (0.5, 2), (1.0, 1)])
def test_so_many_calls_pay_for_one_extra_attempt(share: float, calls: int) -> None:
    budget = RetryBudget(share)
    drained(budget)
    for _ in range(calls - 1):
        budget.deposit()
        assert not budget.try_withdraw()
    budget.deposit()
    assert budget.try_withdraw()
    assert not budget.try_withdraw()


def test_a_share_of_nothing_pays_for_nothing() -> None:
    budget = RetryBudget(0.0)
    drained(budget)
    for _ in range(1000):
        budget.deposit()
    assert not budget.try_withdraw()


def test_what_is_given_back_can_be_spent_again_but_adds_nothing_to_a_full_reserve() -> None:
    budget = RetryBudget(0.0)
    drained(budget)
    budget.refund()
    assert drained(budget) == 1
    full = RetryBudget(1.0)
    full.try_withdraw()
    full.deposit()
    full.refund()
    assert drained(full) == RESERVE


Steps = st.lists(st.sampled_from(["deposit", "withdraw", "withdraw", "refund"]), max_size=300)


@given(Steps, st.integers(0, 64).map(lambda part: Fraction(part, 64)))
def test_the_budget_is_what_a_naive_one_has_left(steps: Sequence[str], share: Fraction) -> None:
    """With shares that are exact in binary, so that nothing depends on rounding."""
    budget, left, spent = RetryBudget(float(share)), Fraction(RESERVE), 0
    for step in steps:
        match step:
            case "deposit":
                budget.deposit()
                left = min(left + share, Fraction(RESERVE))
            case "withdraw":
                granted = left >= 1
                assert budget.try_withdraw() is granted
                left, spent = left - granted, spent + granted
            case "refund" if spent:
                budget.refund()
                left, spent = min(left + 1, Fraction(RESERVE)), spent - 1
        assert budget.balance == left


@given(Steps, st.floats(0, 1))
def test_extra_attempts_never_exceed_their_share_of_the_calls_and_the_reserve(
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
