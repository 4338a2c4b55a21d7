"""`cache_policy`, which applies RFC 9111 and RFC 5861; instants are of the event loop's clock."""

import time
from collections.abc import Iterator, Mapping
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import UNCACHEABLE, CachePolicy
from app.settings import UpstreamSettings
from app.upstream.cache_policy import cache_policy, parse_http_date

DATE = "Sun, 22 Nov 2026 13:00:00 GMT"
RESPONSE_TIME = 1795352400.0  # the same instant
LATER = "Sun, 22 Nov 2026 13:01:30 GMT"
EARLIER = "Sun, 22 Nov 2026 12:00:00 GMT"
NOW = 1000.0

TTL = UpstreamSettings(ttl=42)
WINDOWS = UpstreamSettings(ttl=42, stale_while_revalidate=300, stale_if_error=600)
ETAG = {"etag": '"a"'}


def policy_of(
    headers: Mapping[str, str],
    settings: UpstreamSettings = TTL,
    *,
    delay: float = 0.0,
    response_time: float = RESPONSE_TIME,
) -> CachePolicy:
    return cache_policy(
        headers, settings, request_time=response_time - delay, response_time=response_time, now=NOW
    )


def seconds_fresh(headers: Mapping[str, str], settings: UpstreamSettings = TTL) -> float:
    """How long the answer stays fresh; its `ETag` makes it cacheable even if that is not at all."""
    return policy_of({**headers, **ETAG}, settings).fresh_until - NOW


def stale_windows(control: str, settings: UpstreamSettings = WINDOWS) -> tuple[float, float]:
    """Seconds of `stale-while-revalidate` and `stale-if-error` after the end of freshness."""
    policy = policy_of({"cache-control": control, **ETAG}, settings)
    return policy.while_revalidate - policy.fresh_until, policy.if_error - policy.fresh_until


def test_the_ttl_setting_counts_only_without_cache_control_max_age() -> None:
    assert seconds_fresh({}) == 42
    assert seconds_fresh({"age": "10", "date": DATE}) == 42
    assert seconds_fresh({"cache-control": "max-age=7"}) == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ("public, max-age=60, must-revalidate", 60),
        ("MAX-AGE=60", 60),
        ('max-age="60"', 60),
        ("max-age = 60", 60),
        ("max-age=0", 0),
        ("max-age=2147483649", 2**31),
        (f"max-age={'9' * 5000}", 2**31),
        ("max-age=000000000060", 60),
        ("s-maxage=30, max-age=60", 30),
        ("max-age=60,s-maxage=90", 90),
        ("max-age=5, max-age=60", 5),
        ("No-Cache, max-age=60", 0),
        ('no-cache="set-cookie", max-age=60', 0),
        ("must-revalidate", 42),
        ("public", 42),
        ("", 42),
        ("x-max-age=60", 42),
        ('extension="max-age=60"', 42),
    ],
)
def test_cache_control_sets_the_freshness_lifetime(value: str, seconds: float) -> None:
    assert seconds_fresh({"cache-control": value}) == seconds


@pytest.mark.parametrize("value", ["-1", "1.5", "soon", "", "\u0661"])
def test_an_invalid_cache_control_max_age_makes_the_answer_stale(value: str) -> None:
    assert seconds_fresh({"cache-control": f"max-age={value}"}) == 0


@pytest.mark.parametrize(
    "control",
    [
        *("no-store", "max-age=60, No-Store", "no-store, s-maxage=60", "private, max-age=60"),
        *('private="set-cookie", max-age=60', "stale-if-error=60, no-store"),
    ],
)
def test_cache_control_no_store_or_private_makes_an_answer_uncacheable(control: str) -> None:
    """`private` allows only the cache of a single client, and this one is shared."""
    assert policy_of({"cache-control": control, **ETAG}, WINDOWS) is UNCACHEABLE


@pytest.mark.parametrize(
    "control", [None, "no-cache", "max-age=0", "max-age=0, must-revalidate", "s-maxage=0"]
)
def test_an_answer_that_is_stale_at_once_is_uncacheable_without_an_etag(
    control: str | None,
) -> None:
    headers = {} if control is None else {"cache-control": control}
    assert policy_of(headers, UpstreamSettings()) is UNCACHEABLE
    assert policy_of({**headers, **ETAG}, UpstreamSettings()).fresh_until == NOW


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"expires": LATER, "date": DATE}, 90),
        ({"expires": DATE, "date": DATE}, 0),
        ({"expires": EARLIER, "date": DATE}, 0),
        ({"expires": "0", "date": DATE}, 0),
        ({"expires": "", "date": DATE}, 0),
        ({"expires": "-1"}, 0),
        ({"expires": LATER}, 90),
        ({"expires": LATER, "date": "yesterday"}, 90),
        ({"expires": LATER, "date": DATE, "cache-control": "max-age=5"}, 5),
        ({"expires": LATER, "date": DATE, "cache-control": "s-maxage=5"}, 5),
        ({"expires": LATER, "date": DATE, "cache-control": "public"}, 90),
        ({"expires": LATER, "date": DATE, "cache-control": "no-cache"}, 0),
        ({"expires": LATER, "date": DATE, "age": "30"}, 60),
        ({"expires": LATER, "date": DATE, "age": "100"}, 0),
        ({"expires": "Sunday, 22-Nov-26 13:01:30 GMT", "date": DATE}, 90),
    ],
)
def test_expires_counts_from_the_date_header_or_else_from_the_response_time(
    headers: dict[str, str], seconds: float
) -> None:
    assert seconds_fresh(headers) == seconds


def test_expires_minus_date_is_the_freshness_lifetime_even_if_the_clock_is_wrong() -> None:
    hour_ahead = {
        "date": "Sun, 22 Nov 2026 14:00:00 GMT",
        "expires": "Sun, 22 Nov 2026 14:01:30 GMT",
    }
    assert seconds_fresh(hour_ahead) == 90


@pytest.mark.parametrize(
    ("headers", "delay", "age"),
    [
        ({}, 0, 0),
        ({"age": "10"}, 0, 10),
        ({"age": "60"}, 0, 60),
        ({"age": "61"}, 0, 60),
        ({"age": "10, 20"}, 0, 10),
        ({"age": "9" * 11}, 0, 60),
        ({"age": "ten"}, 0, 0),
        ({"age": "-5"}, 0, 0),
        ({}, 2.5, 2.5),
        ({}, -7, 0),
        ({"age": "10"}, -7, 10),
        ({"age": "10"}, 2.5, 12.5),
        ({"date": "Sun, 22 Nov 2026 12:59:40 GMT"}, 0, 20),
        ({"date": "Sun, 22 Nov 2026 12:59:40 GMT", "age": "10"}, 2.5, 20),
        ({"date": "Sun, 22 Nov 2026 12:59:40 GMT", "age": "30"}, 2.5, 32.5),
        ({"date": LATER}, 0, 0),
        ({"date": "yesterday"}, 0, 0),
    ],
)
def test_the_current_age_is_subtracted_from_the_freshness_lifetime(
    headers: dict[str, str], delay: float, age: float
) -> None:
    """The larger of `Age` plus the response delay, and the time since `Date`."""
    policy = policy_of({"cache-control": "max-age=60", **ETAG, **headers}, delay=delay)
    assert policy.fresh_until == NOW + 60 - age


def test_a_date_in_whole_seconds_does_not_age_an_answer_within_that_second() -> None:
    policy = policy_of(
        {"date": DATE, "cache-control": "max-age=60"}, response_time=RESPONSE_TIME + 0.9
    )
    assert policy.fresh_until == NOW + 60


@pytest.mark.parametrize(
    ("vary", "cacheable"),
    [
        *((name, True) for name in ("", "Accept", "accept-encoding, User-Agent", "Authorization")),
        *(
            (name, False)
            for name in ("*", "accept, *", "X-Request-ID", "accept,x-request-timeout-ms")
        ),
        *((name, False) for name in ("traceparent", "Accept , TraceState ")),
    ],
)
def test_vary_on_a_header_that_differs_with_every_request_makes_an_answer_uncacheable(
    vary: str, cacheable: bool
) -> None:
    assert (
        policy_of({"cache-control": "max-age=60", "vary": vary}) is not UNCACHEABLE
    ) is cacheable


@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("max-age=60", (300, 600)),
        ("max-age=0", (300, 600)),
        ("max-age=60, stale-while-revalidate=7", (7, 600)),
        ("max-age=60, stale-if-error=8", (300, 8)),
        ("max-age=60, stale-while-revalidate=7, stale-if-error=8", (7, 8)),
        ("max-age=60, stale-while-revalidate=0, stale-if-error=0", (0, 0)),
        ("max-age=60, Stale-While-Revalidate=7000, stale-if-error=8000", (7000, 8000)),
        ("max-age=60, stale-while-revalidate=long, stale-if-error", (0, 0)),
        ("no-cache, stale-while-revalidate=7, stale-if-error=8", (0, 0)),
        ("max-age=60, must-revalidate, stale-if-error=8", (0, 0)),
        ("max-age=60, stale-while-revalidate=7, proxy-revalidate", (0, 0)),
        ("s-maxage=60", (0, 0)),
        ("s-maxage=60, stale-while-revalidate=7", (7, 0)),
        ("s-maxage=60, stale-if-error=8", (0, 8)),
    ],
)
def test_cache_control_sets_stale_while_revalidate_and_stale_if_error(
    control: str, seconds: tuple[float, float]
) -> None:
    """The upstream's directives override our settings; some directives forbid stale answers."""
    assert stale_windows(control) == seconds


@pytest.mark.parametrize(("age", "seconds"), [("50", 17), ("60", 7), ("63", 4), ("1000", 0)])
def test_stale_while_revalidate_and_stale_if_error_count_from_the_end_of_freshness(
    age: str, seconds: float
) -> None:
    control = "max-age=60, stale-while-revalidate=7, stale-if-error=7"
    policy = policy_of({"cache-control": control, "age": age, **ETAG})
    assert (policy.while_revalidate - NOW, policy.if_error - NOW) == (seconds, seconds)


def test_without_directives_or_settings_no_stale_answer_is_used() -> None:
    assert stale_windows("max-age=60", TTL) == (0, 0)


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', '""', '"!#[]~,;"', f'"{"a" * 250}"'])
def test_a_valid_etag_becomes_if_none_match(tag: str) -> None:
    assert policy_of({"etag": tag}).validators == ((b"If-None-Match", tag.encode()),)


@pytest.mark.parametrize(
    "tag",
    [
        *("a", '"a', 'a"', 'w/"a"', '"a b"', '"a"b"', '"a", "b"', "", "*", '"\u00e5"', '"\x7f"'),
        f'"{"a" * 251}"',
    ],
)
def test_an_invalid_etag_is_not_a_validator(tag: str) -> None:
    assert policy_of({"etag": tag}).validators == ()


@pytest.mark.parametrize(
    ("modified", "usable"), [(EARLIER, True), ("yesterday", False), ("", False), ("0", False)]
)
def test_a_valid_last_modified_becomes_if_modified_since(modified: str, usable: bool) -> None:
    expected = ((b"If-Modified-Since", modified.encode()),) if usable else ()
    assert policy_of({"last-modified": modified}).validators == expected


def test_etag_and_last_modified_are_both_validators() -> None:
    assert policy_of({"etag": '"a"', "last-modified": EARLIER}).validators == (
        (b"If-None-Match", b'"a"'),
        (b"If-Modified-Since", EARLIER.encode()),
    )


def test_stored_headers_are_those_of_the_cache_policy_without_age_and_date() -> None:
    stored = {
        "cache-control": "max-age=60",
        "expires": LATER,
        "etag": '"a"',
        "last-modified": EARLIER,
        "vary": "accept",
    }
    not_stored = {"age": "1", "date": DATE, "retry-after": "7", "content-type": "application/json"}
    policy = policy_of(stored | not_stored)
    assert policy.stored_headers == stored


@pytest.fixture
def in_auckland(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time zone far from GMT."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_auckland")
@pytest.mark.parametrize(
    "text",
    [
        "Sun, 22 Nov 2026 13:00:00 GMT",
        "Sunday, 22-Nov-26 13:00:00 GMT",
        "Sun Nov 22 13:00:00 2026",
    ],
)
def test_every_http_date_format_is_gmt_whatever_the_local_time_zone(text: str) -> None:
    parse_http_date.cache_clear()
    assert parse_http_date(text) == RESPONSE_TIME


values = st.one_of(
    st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")),
    st.from_regex(
        r"(s-maxage|max-age|no-store|public)=?-?[0-9.]{0,12}, ?max-age=[0-9e+-]{0,5}",
        fullmatch=True,
    ),
    st.lists(
        st.sampled_from(
            [
                *("max-age=60", "s-maxage=9", "no-cache", "private", "no-store"),
                *("must-revalidate", "proxy-revalidate"),
                *("stale-while-revalidate=9999999999", "stale-if-error=60"),
            ]
        )
    ).map(", ".join),
    st.sampled_from([DATE, LATER, EARLIER, "Sun, 22 Nov 2026 13:01:30 -0000", "1 Jan 0001 00:00"]),
    st.sampled_from(['"a"', 'W/"b"', "*", "traceparent", "9999999999"]),
)
names = ["cache-control", "expires", "date", "age", "etag", "last-modified", "vary"]
seconds = st.one_of(st.just(0.0), st.floats(0.001, 1e6))
configured = st.builds(
    UpstreamSettings, ttl=seconds, stale_while_revalidate=seconds, stale_if_error=seconds
)


@given(st.dictionaries(st.sampled_from(names), values), configured, st.floats(-10, 100))
def test_the_cache_policy_of_any_headers_is_consistent(
    headers: Mapping[str, str], settings: UpstreamSettings, delay: float
) -> None:
    policy = policy_of(headers, settings, delay=delay)
    if policy is UNCACHEABLE:
        return
    control, vary = (
        {part.strip() for part in headers.get(name, "").split(",")}
        for name in ("cache-control", "vary")
    )
    assert not {"no-store", "private"} & control
    assert not {"*", "traceparent"} & vary
    assert NOW <= policy.fresh_until <= min(policy.while_revalidate, policy.if_error)
    assert all(map(isfinite, (policy.fresh_until, policy.while_revalidate, policy.if_error)))
    useful = max(policy.while_revalidate, policy.if_error) > NOW
    assert useful or policy.validators
    for condition, value in policy.validators:
        assert condition in (b"If-None-Match", b"If-Modified-Since")
        assert value.isascii()
    assert policy.stored_headers.items() <= headers.items()
    assert not {"age", "date"} & policy.stored_headers.keys()
    again = policy_of(policy.stored_headers, settings)
    assert again.fresh_until >= policy.fresh_until
    assert again.validators == policy.validators
