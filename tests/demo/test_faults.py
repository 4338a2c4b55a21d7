"""The header `X-Demo-Fault`."""

import pytest

from app.demo.faults import UnknownFault, parse_faults


def test_no_header_is_no_fault() -> None:
    assert parse_faults("") == {}


def test_faults_are_parsed_by_section_whatever_the_spacing() -> None:
    assert parse_faults("posts=slow,  todos = malformed ,") == {
        "posts": "slow",
        "todos": "malformed",
    }


def test_the_last_fault_of_a_section_counts() -> None:
    assert parse_faults("user=failing, user=missing") == {"user": "missing"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("users=slow", "'users' is no section: user, posts, todos"),
        ("posts=broken", "'broken' is no fault: slow, failing, malformed, bad_item, missing"),
        ("posts", "'' is no fault"),
        ("slow", "'slow' is no section"),
    ],
)
def test_an_unknown_fault_lists_the_known_ones(header: str, message: str) -> None:
    with pytest.raises(UnknownFault, match=message):
        parse_faults(header)
