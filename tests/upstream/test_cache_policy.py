"""How long an answer may be kept, by RFC 9111 and RFC 5861; instants are of the loop's clock."""

import time
from collections.abc import Iterator, Mapping
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import UNCACHEABLE, CachePolicy
from app.settings import UpstreamSettings
from app.upstream.cache_policy import cache_policy, instant

DATE = "Sun, 22 Nov 2026 13:00:00 GMT"
RESPONSE_TIME = 1795352400.0  # the same instant
LATER = "Sun, 22 Nov 2026 13:01:30 GMT"
EARLIER = "Sun, 22 Nov 2026 12:00:00 GMT"
NOW = 1000.0

TTL = UpstreamSettings(ttl=42)
WINDOWS = UpstreamSettings(ttl=42, stale_while_revalidate=300, stale_if_error=600)
TAG = {"etag": '"a"'}


def kept(
    headers: Mapping[str, str],
    settings: UpstreamSettings = TTL,
    *,
    delay: float = 0.0,
    response_time: float = RESPONSE_TIME,
) -> CachePolicy:
    return cache_policy(
        headers, settings, request_time=response_time - delay, response_time=response_time, now=NOW
    )


def fresh(headers: Mapping[str, str], settings: UpstreamSettings = TTL) -> float:
    """For how many seconds: an entity tag makes even a stale answer worth cache_policy."""
    return kept({**headers, **TAG}, settings).fresh_until - NOW


def windows(control: str, settings: UpstreamSettings = WINDOWS) -> tuple[float, float]:
    """For how many seconds beyond freshness: while revalidating, and if nobody can be asked."""
    found = kept({"cache-control": control, **TAG}, settings)
    return found.while_revalidate - found.fresh_until, found.if_error - found.fresh_until


def test_our_own_setting_counts_where_the_upstream_says_nothing() -> None:
    assert fresh({}) == 42
    assert fresh({"age": "10", "date": DATE}) == 42
    assert fresh({"cache-control": "max-age=7"}) == 7


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
def test_cache_control_says_for_how_long(value: str, seconds: float) -> None:
    assert fresh({"cache-control": value}) == seconds


@pytest.mark.parametrize("value", ["-1", "1.5", "soon", "", "\u0661"])
def test_an_age_limit_that_cannot_be_read_is_stale(value: str) -> None:
    assert fresh({"cache-control": f"max-age={value}"}) == 0


@pytest.mark.parametrize(
    "control",
    [
        *("no-store", "max-age=60, No-Store", "no-store, s-maxage=60", "private, max-age=60"),
        *('private="set-cookie", max-age=60', "stale-if-error=60, no-store"),
    ],
)
def test_what_is_for_this_request_alone_is_not_kept(control: str) -> None:
    """Many clients share this cache, so `private` shuts it out."""
    assert kept({"cache-control": control, **TAG}, WINDOWS) is UNCACHEABLE


@pytest.mark.parametrize(
    "control", [None, "no-cache", "max-age=0", "max-age=0, must-revalidate", "s-maxage=0"]
)
def test_what_is_stale_at_once_and_cannot_be_confirmed_is_not_kept(control: str | None) -> None:
    headers = {} if control is None else {"cache-control": control}
    assert kept(headers, UpstreamSettings()) is UNCACHEABLE
    assert kept({**headers, **TAG}, UpstreamSettings()).fresh_until == NOW


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
def test_expires_counts_from_the_date_of_the_answer_or_else_from_its_coming(
    headers: dict[str, str], seconds: float
) -> None:
    assert fresh(headers) == seconds


def test_expires_of_an_upstream_whose_clock_is_wrong_is_a_span_and_no_instant() -> None:
    hour_ahead = {
        "date": "Sun, 22 Nov 2026 14:00:00 GMT",
        "expires": "Sun, 22 Nov 2026 14:01:30 GMT",
    }
    assert fresh(hour_ahead) == 90


@pytest.mark.parametrize(
    ("headers", "delay", "gone"),
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
def test_what_an_answer_has_lived_through_already_is_gone(
    headers: dict[str, str], delay: float, gone: float
) -> None:
    """The larger of what caches on the way and its date say; and the time it took to come."""
    found = kept({"cache-control": "max-age=60", **TAG, **headers}, delay=delay)
    assert found.fresh_until == NOW + 60 - gone


def test_a_date_of_whole_seconds_does_not_age_an_answer_within_its_second() -> None:
    found = kept({"date": DATE, "cache-control": "max-age=60"}, response_time=RESPONSE_TIME + 0.9)
    assert found.fresh_until == NOW + 60


@pytest.mark.parametrize(
    ("vary", "kept_at_all"),
    [
        *((name, True) for name in ("", "Accept", "accept-encoding, User-Agent", "Authorization")),
        *(
            (name, False)
            for name in ("*", "accept, *", "X-Request-ID", "accept,x-request-timeout-ms")
        ),
        *((name, False) for name in ("traceparent", "Accept , TraceState ")),
    ],
)
def test_what_depends_on_what_differs_with_every_request_is_not_kept(
    vary: str, kept_at_all: bool
) -> None:
    assert (kept({"cache-control": "max-age=60", "vary": vary}) is not UNCACHEABLE) is kept_at_all


@pytest.mark.parametrize(
    ("control", "beyond"),
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
def test_how_stale_an_answer_may_be_used(control: str, beyond: tuple[float, float]) -> None:
    """The upstream's word goes before our setting; some words forbid staleness altogether."""
    assert windows(control) == beyond


@pytest.mark.parametrize(("age", "beyond"), [("50", 17), ("60", 7), ("63", 4), ("1000", 0)])
def test_staleness_counts_from_the_end_of_freshness_whenever_the_answer_comes(
    age: str, beyond: float
) -> None:
    control = "max-age=60, stale-while-revalidate=7, stale-if-error=7"
    found = kept({"cache-control": control, "age": age, **TAG})
    assert (found.while_revalidate - NOW, found.if_error - NOW) == (beyond, beyond)


def test_without_a_word_or_a_setting_nothing_stale_is_used() -> None:
    assert windows("max-age=60", TTL) == (0, 0)


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', '""', '"!#[]~,;"', f'"{"a" * 250}"'])
def test_a_valid_entity_tag_is_asked_with(tag: str) -> None:
    assert kept({"etag": tag}).validators == ((b"If-None-Match", tag.encode()),)


@pytest.mark.parametrize(
    "tag",
    [
        *("a", '"a', 'a"', 'w/"a"', '"a b"', '"a"b"', '"a", "b"', "", "*", '"\u00e5"', '"\x7f"'),
        f'"{"a" * 251}"',
    ],
)
def test_an_invalid_one_is_not(tag: str) -> None:
    assert kept({"etag": tag}).validators == ()


@pytest.mark.parametrize(
    ("modified", "usable"), [(EARLIER, True), ("yesterday", False), ("", False), ("0", False)]
)
def test_a_valid_date_of_change_is_asked_with(modified: str, usable: bool) -> None:
    expected = ((b"If-Modified-Since", modified.encode()),) if usable else ()
    assert kept({"last-modified": modified}).validators == expected


def test_both_validators_are_asked_with() -> None:
    assert kept({"etag": '"a"', "last-modified": EARLIER}).validators == (
        (b"If-None-Match", b'"a"'),
        (b"If-Modified-Since", EARLIER.encode()),
    )


def test_what_was_read_is_kept_but_for_what_belongs_to_one_answer() -> None:
    lasting = {
        "cache-control": "max-age=60",
        "expires": LATER,
        "etag": '"a"',
        "last-modified": EARLIER,
        "vary": "accept",
    }
    passing = {"age": "1", "date": DATE, "retry-after": "7", "content-type": "application/json"}
    found = kept(lasting | passing)
    assert found.stored_headers == lasting


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Far from Greenwich."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "text",
    [
        "Sun, 22 Nov 2026 13:00:00 GMT",
        "Sunday, 22-Nov-26 13:00:00 GMT",
        "Sun Nov 22 13:00:00 2026",
    ],
)
def test_every_form_of_a_date_is_greenwich_time_wherever_we_run(text: str) -> None:
    instant.cache_clear()
    assert instant(text) == RESPONSE_TIME


words = st.one_of(
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


@given(st.dictionaries(st.sampled_from(names), words), configured, st.floats(-10, 100))
def test_whatever_the_headers_what_is_kept_makes_sense(
    headers: Mapping[str, str], settings: UpstreamSettings, delay: float
) -> None:
    found = kept(headers, settings, delay=delay)
    if found is UNCACHEABLE:
        return
    control, vary = (
        {part.strip() for part in headers.get(name, "").split(",")}
        for name in ("cache-control", "vary")
    )
    assert not {"no-store", "private"} & control
    assert not {"*", "traceparent"} & vary
    assert NOW <= found.fresh_until <= min(found.while_revalidate, found.if_error)
    assert all(map(isfinite, (found.fresh_until, found.while_revalidate, found.if_error)))
    useful = max(found.while_revalidate, found.if_error) > NOW
    assert useful or found.validators
    for condition, value in found.validators:
        assert condition in (b"If-None-Match", b"If-Modified-Since")
        assert value.isascii()
    assert found.stored_headers.items() <= headers.items()
    assert not {"age", "date"} & found.stored_headers.keys()
    again = kept(found.stored_headers, settings)
    assert again.fresh_until >= found.fresh_until
    assert again.validators == found.validators
