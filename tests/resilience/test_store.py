from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.call import Answer, Data, Key
from app.resilience.store import Store
from tests.fakes import a_cache_policy, a_call, an_answer

KEYS: list[Key] = [("posts", f"/{number}", Data, ()) for number in range(6)]


def size_of(key: Key, answer: Answer) -> int:
    store = Store()
    store.put(key, answer)
    return store.size


@example([("put", KEYS[number], 6000 * (number == 3), 0.0) for number in range(4)], 9000)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["get", "put", "put", "put", "delete"]),
            st.sampled_from(KEYS),
            st.sampled_from([0, 1, 2000, 6000]),
            st.sampled_from([0.0, 1.0, 2.0]),
        ),
        max_size=40,
    ),
    st.integers(1000, 20_000),
)
def test_store_evicts_the_least_recently_used_answers_and_never_exceeds_its_bytes(
    steps: Sequence[tuple[str, Key, int, float]], max_bytes: int
) -> None:
    store = Store(max_bytes)
    reference: list[tuple[Key, Answer]] = []  # the most recently used at the end
    deleted: dict[Key, float] = {}

    def reference_size() -> int:
        return sum(size_of(*entry) for entry in reference)

    for step, key, length, requested_at in steps:
        stored = next((entry for entry in reference if entry[0] == key), None)
        newer = stored is not None and stored[1].requested_at > requested_at
        newer = newer or deleted.get(key, 0.0) > requested_at
        if stored is not None and (step == "get" or not newer):
            reference.remove(stored)
        match step:
            case "get":
                assert store.get(key) is (None if stored is None else stored[1])
                if stored is not None:
                    reference.append(stored)
            case "put":
                policy = a_cache_policy(9.0)
                answer = an_answer(b"x" * length, cache_policy=policy, requested_at=requested_at)
                fits = size_of(key, answer) <= max_bytes and not newer
                assert store.put(key, answer) is fits
                if fits:
                    reference.append((key, answer))
                while reference_size() > max_bytes:
                    reference.pop(0)
            case _:
                store.delete(key, requested_at)
                deleted[key] = deleted.get(key, 0.0) if newer else requested_at
        assert (len(store), store.size) == (len(reference), reference_size())
    for key in KEYS:
        assert store.get(key) is dict(reference).get(key)


def test_store_counts_the_bytes_of_data_target_and_headers_and_an_overhead() -> None:
    key, cache_policy = a_call().key, a_cache_policy(9.0)
    least = size_of(key, an_answer(b"", cache_policy=cache_policy))
    assert least >= 1000  # Python's objects around the data
    upstream, target, decode, headers = key
    larger = [
        (key, an_answer(b"x" * 100, cache_policy=cache_policy)),
        (
            (upstream, target + "x" * 100, decode, headers),
            an_answer(b"", cache_policy=cache_policy),
        ),
        (
            (upstream, target, decode, ((b"x" * 50, b"x" * 50),)),
            an_answer(b"", cache_policy=cache_policy),
        ),
        (
            key,
            an_answer(b"", cache_policy=replace(cache_policy, stored_headers={"x" * 50: "x" * 50})),
        ),
    ]
    assert [size_of(*entry) for entry in larger] == [least + 100] * 4


@pytest.mark.parametrize(("requested_at", "replaces"), [(1.0, False), (2.0, True), (3.0, True)])
def test_store_never_replaces_or_deletes_what_was_asked_for_later(
    requested_at: float, replaces: bool
) -> None:
    """A slow answer may come after a newer one."""
    store, policy = Store(), a_cache_policy(9.0)
    newer = an_answer(b"newer", cache_policy=policy, requested_at=2.0)
    older = an_answer(b"older", cache_policy=policy, requested_at=requested_at)
    assert store.put(KEYS[0], newer)
    assert store.put(KEYS[0], older) is replaces
    assert store.get(KEYS[0]) is (older if replaces else newer)
    store = Store()
    store.put(KEYS[0], newer)
    store.delete(KEYS[0], requested_at)
    assert (store.get(KEYS[0]), store.size > 0) == ((None, False) if replaces else (newer, True))


@pytest.mark.parametrize(("requested_at", "stored"), [(1.0, False), (2.0, True), (3.0, True)])
def test_store_does_not_store_what_was_asked_for_before_a_deletion(
    requested_at: float, stored: bool
) -> None:
    store, policy = Store(), a_cache_policy(9.0)
    store.delete(KEYS[0], 2.0)
    store.delete(KEYS[0], 1.0)
    assert store.put(KEYS[1], an_answer(cache_policy=policy, requested_at=0.0))
    answer = an_answer(cache_policy=policy, requested_at=requested_at)
    assert store.put(KEYS[0], answer) is stored
    assert store.get(KEYS[0]) is (answer if stored else None)


def test_store_remembers_a_thousand_deletions_and_forgets_the_oldest() -> None:
    store, (upstream, _, decode, headers) = Store(), KEYS[0]
    keys = [(upstream, f"/posts/{number}", decode, headers) for number in range(2000)]
    store.delete(keys[0], 1.0)
    for key in keys:
        store.delete(key, 2.0)
        store.delete(keys[0], 3.0)
    assert len(store._deleted) == 1024
    older = an_answer(cache_policy=a_cache_policy(9.0), requested_at=1.5)
    assert [store.put(key, older) for key in (keys[0], keys[1], keys[-1])] == [False, True, False]


def test_store_has_an_entry_for_each_decoder_of_the_same_target() -> None:
    store, policy = Store(), a_cache_policy(9.0)
    upstream, target, decode, headers = KEYS[0]

    def other(body: bytes) -> Data:
        raise AssertionError(body)

    one, another = (an_answer(json, cache_policy=policy) for json in (b"one", b"another"))
    store.put((upstream, target, decode, headers), one)
    store.put((upstream, target, other, headers), another)
    assert store.get((upstream, target, decode, headers)) is one
    assert store.get((upstream, target, other, headers)) is another
