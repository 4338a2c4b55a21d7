import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.freshness import fresh_for

TTL = 42.0
NOW = "Sun, 22 Nov 2026 13:00:00 GMT"
LATER = "Sun, 22 Nov 2026 13:01:30 GMT"
EARLIER = "Sun, 22 Nov 2026 12:00:00 GMT"


def fresh(**headers: str) -> float:
    return fresh_for({name.replace("_", "-"): value for name, value in headers.items()}, TTL)


def test_our_own_setting_counts_where_the_upstream_says_nothing() -> None:
    assert fresh() == TTL
    assert fresh(age="10", date=NOW) == TTL


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ("public, max-age=60, must-revalidate", 60),
        ("MAX-AGE=60", 60),
        ('max-age="60"', 60),
        ("max-age = 60", 60),
        ("max-age=0", 0),
        ("s-maxage=30, max-age=60", 30),
        ("max-age=60,s-maxage=90", 90),
        ("no-store", 0),
        ("max-age=60, no-store", 0),
        ("No-Cache, max-age=60", 0),
        ('no-cache="set-cookie", max-age=60', 0),
        ("private", TTL),
        ("", TTL),
        ("x-max-age=60", TTL),
    ],
)
def test_cache_control_says_for_how_long(value: str, seconds: float) -> None:
    assert fresh(cache_control=value) == seconds


@pytest.mark.parametrize("value", ["-1", "1.5", "soon", "", "9" * 400, "\u0661"])
def test_an_age_that_cannot_be_read_is_stale(value: str) -> None:
    assert fresh(cache_control=f"max-age={value}") == 0


@pytest.mark.parametrize(("age", "seconds"), [("10", 50), ("60", 0), ("90", 0), ("0", 60)])
def test_time_spent_in_caches_on_the_way_is_gone(age: str, seconds: float) -> None:
    assert fresh(cache_control="max-age=60", age=age) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"expires": LATER, "date": NOW}, 90),
        ({"expires": NOW, "date": NOW}, 0),
        ({"expires": EARLIER, "date": NOW}, 0),
        ({"expires": "0", "date": NOW}, 0),
        ({"expires": "", "date": NOW}, 0),
        ({"expires": "-1"}, 0),
        ({"expires": LATER, "date": "yesterday"}, 0),
        ({"expires": LATER, "date": NOW, "cache_control": "max-age=5"}, 5),
        ({"expires": LATER, "date": NOW, "cache_control": "public"}, 90),
        ({"expires": LATER, "date": NOW, "cache_control": "no-cache"}, 0),
        ({"expires": LATER, "date": NOW, "age": "30"}, 60),
        ({"expires": LATER, "date": NOW, "age": "100"}, 0),
    ],
)
def test_expires_counts_from_the_date_of_the_answer(
    headers: dict[str, str], seconds: float
) -> None:
    assert fresh(**headers) == seconds


words = st.one_of(
    st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")),
    st.from_regex(r"(s-maxage|max-age|no-store|public)=?-?[0-9.]{0,12}, ?max-age=[0-9e+-]{0,5}"),
    st.sampled_from([NOW, LATER, EARLIER, "Sun, 22 Nov 2026 13:01:30 -0000", "1 Jan 0001 00:00"]),
)


@given(st.dictionaries(st.sampled_from(["cache-control", "expires", "date", "age"]), words))
def test_whatever_the_headers_freshness_is_a_number_never_below_zero(
    headers: dict[str, str],
) -> None:
    assert 0 <= fresh_for(headers, TTL) < 1e12
