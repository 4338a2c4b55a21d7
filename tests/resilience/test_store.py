from collections.abc import Sequence
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from app.call import Answer, Key
from app.resilience.store import Store
from tests.fakes import a_cache_policy, a_call, an_answer

KEYS: list[Key] = [("posts", f"/{number}", ()) for number in range(6)]


def size_of(key: Key, answer: Answer) -> int:
    store = Store()
    store.put(key, answer)
    return store.size


@example([("put", KEYS[number], 6000 * (number == 3)) for number in range(4)], 9000)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["get", "put", "put", "put", "delete"]),
            st.sampled_from(KEYS),
            st.sampled_from([0, 1, 2000, 6000]),
        ),
        max_size=40,
    ),
    st.integers(1000, 20_000),
)
def test_store_evicts_the_least_recently_used_answers_and_never_exceeds_its_bytes(
    steps: Sequence[tuple[str, Key, int]], max_bytes: int
) -> None:
    store = Store(max_bytes)
    reference: list[tuple[Key, Answer]] = []  # the most recently used at the end

    def reference_size() -> int:
        return sum(size_of(*entry) for entry in reference)

    for step, key, length in steps:
        stored = next((entry for entry in reference if entry[0] == key), None)
        if stored is not None:
            reference.remove(stored)
        match step:
            case "get":
                assert store.get(key) is (None if stored is None else stored[1])
                if stored is not None:
                    reference.append(stored)
            case "put":
                answer = an_answer(b"x" * length, cache_policy=a_cache_policy(9.0))
                fits = size_of(key, answer) <= max_bytes
                assert store.put(key, answer) is fits
                if fits:
                    reference.append((key, answer))
                while reference_size() > max_bytes:
                    reference.pop(0)
            case _:
                store.delete(key)
        assert (len(store), store.size) == (len(reference), reference_size())
    for key in KEYS:
        assert store.get(key) is dict(reference).get(key)


def test_store_counts_the_bytes_of_data_target_and_headers_and_an_overhead() -> None:
    key, cache_policy = a_call().key, a_cache_policy(9.0)
    least = size_of(key, an_answer(b"", cache_policy=cache_policy))
    assert least >= 1000  # Python's objects around the data
    upstream, target, headers = key
    larger = [
        (key, an_answer(b"x" * 100, cache_policy=cache_policy)),
        ((upstream, target + "x" * 100, headers), an_answer(b"", cache_policy=cache_policy)),
        ((upstream, target, ((b"x" * 50, b"x" * 50),)), an_answer(b"", cache_policy=cache_policy)),
        (
            key,
            an_answer(b"", cache_policy=replace(cache_policy, stored_headers={"x" * 50: "x" * 50})),
        ),
    ]
    assert [size_of(*entry) for entry in larger] == [least + 100] * 4
