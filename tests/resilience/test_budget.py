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
    spends = (budget.spend() for _ in repeat(None))
    return sum(takewhile(bool, spends))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_budget_starts_with_its_reserve(share: float) -> None:
    assert drained(RetryBudget(share)) == RESERVE


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_no_more_than_the_reserve_can_be_saved_up(share: float) -> None:
    budget = RetryBudget(share)
    for _ in range(1000):
        budget.earn()
    assert drained(budget) == RESERVE


@pytest.mark.parametrize(("share", "calls"), [(0.2, 5), (0.25, 4), (0.5, 2), (1.0, 1)])
def test_so_many_calls_pay_for_one_extra_attempt(share: float, calls: int) -> None:
    budget = RetryBudget(share)
    drained(budget)
    for _ in range(calls - 1):
        budget.earn()
        assert not budget.spend()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_a_share_of_nothing_pays_for_nothing() -> None:
    budget = RetryBudget(0.0)
    drained(budget)
    for _ in range(1000):
        budget.earn()
    assert not budget.spend()


def test_what_is_given_back_can_be_spent_again_but_adds_nothing_to_a_full_reserve() -> None:
    budget = RetryBudget(0.0)
    drained(budget)
    budget.give_back()
    assert drained(budget) == 1
    full = RetryBudget(1.0)
    full.spend()
    full.earn()
    full.give_back()
    assert drained(full) == RESERVE


Steps = st.lists(st.sampled_from(["earn", "spend", "spend", "give_back"]), max_size=300)


@given(Steps, st.integers(0, 64).map(lambda part: Fraction(part, 64)))
def test_the_budget_is_what_a_naive_one_has_left(steps: Sequence[str], share: Fraction) -> None:
    """With shares that are exact in binary, so that nothing depends on rounding."""
    budget, left, spent = RetryBudget(float(share)), Fraction(RESERVE), 0
    for step in steps:
        match step:
            case "earn":
                budget.earn()
                left = min(left + share, Fraction(RESERVE))
            case "spend":
                granted = left >= 1
                assert budget.spend() is granted
                left, spent = left - granted, spent + granted
            case "give_back" if spent:
                budget.give_back()
                left, spent = min(left + 1, Fraction(RESERVE)), spent - 1
        assert budget.left == left


@given(Steps, st.floats(0, 1))
def test_extra_attempts_never_exceed_their_share_of_the_calls_and_the_reserve(
    steps: Sequence[str], share: float
) -> None:
    budget, calls, extra = RetryBudget(share), 0, 0
    for step in steps:
        match step:
            case "earn":
                budget.earn()
                calls += 1
            case "spend":
                extra += budget.spend()
            case "give_back" if extra:
                budget.give_back()
                extra -= 1
        assert extra <= share * calls + RESERVE + 1e-9
        assert 0 <= budget.left <= RESERVE
