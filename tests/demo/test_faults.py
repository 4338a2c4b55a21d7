import pytest

from app.demo.faults import UnknownFault, parse_faults


def test_no_header_is_no_fault() -> None:
    assert parse_faults("") == {}


def test_faults_are_told_by_section_whatever_the_spacing() -> None:
    assert parse_faults("posts=slow,  todos = malformed ,") == {
        "posts": "slow",
        "todos": "malformed",
    }


def test_the_last_word_on_a_section_counts() -> None:
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
def test_a_typo_is_answered_with_what_there_is(header: str, message: str) -> None:
    with pytest.raises(UnknownFault, match=message):
        parse_faults(header)
